"""What an administrator does to an instance as a whole: pause, resume, wish another version, delete."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

from statebacked.api.calls import OrgCall, OrgHandler
from statebacked.api.replies import Reply
from statebacked.api.use_cases import Engine
from statebacked.api.wire import DeleteInstance, SetDesiredVersion, SetStatus, parse_body
from statebacked.model.envelopes import Delete, Pause, Resume
from statebacked.model.errors import InvalidParameter
from statebacked.model.ids import VersionId
from statebacked.model.limits import JSON_BODY_BYTES_MAX

_PROOF = "hmacSha256OfMachineInstanceNameWithMachineNameKey"


class LifecycleRoutes:
    """Handlers of PUT …/i/{instance}/status, PUT …/i/{instance}/v and DELETE …/i/{instance}."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def handlers(self) -> Mapping[str, OrgHandler]:
        """By operation."""
        return {
            "setInstanceStatus": self.set_status,
            "setDesiredVersion": self.set_desired_version,
            "deleteInstance": self.delete,
        }

    async def set_status(self, call: OrgCall) -> Reply:
        body = parse_body(await call.body(JSON_BODY_BYTES_MAX), SetStatus)
        await self._engine.control(call.instance(), Pause() if body.status == "paused" else Resume())
        return Reply(204)

    async def set_desired_version(self, call: OrgCall) -> Reply:
        body = parse_body(await call.body(JSON_BODY_BYTES_MAX), SetDesiredVersion)
        await self._engine.wish(call.instance(), VersionId(body.target_machine_version_id))
        return Reply(201)

    async def delete(self, call: OrgCall) -> Reply:
        """The proofs guard against mistakes; they are looked at once the instance is known to be there."""
        body = parse_body(await call.body(JSON_BODY_BYTES_MAX), DeleteInstance)
        key = call.instance()
        await self._engine.admin_read(key)
        if body.danger_data_will_be_deleted_forever is not True:
            name = "dangerDataWillBeDeletedForever"
            raise InvalidParameter(f"{name} must be true", name)
        if body.proof != proof_of(key.machine, key.name):
            raise InvalidParameter(
                f"{_PROOF} must be base64url(HMAC-SHA-256(the machine's name, the instance's name))",
                _PROOF,
            )
        await self._engine.control(key, Delete())
        return Reply(204)


def proof_of(machine: str, name: str) -> str:
    """base64url(HMAC-SHA-256(key = machine name, data = instance name)), without padding."""
    digest = hmac.digest(machine.encode(), name.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
