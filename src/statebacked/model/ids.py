"""Identifiers: what each one names, its grammar, and the functions that parse the ones users choose."""

import re
from typing import Final, NamedTuple, NewType

from statebacked.model.errors import InvalidName
from statebacked.model.limits import NAME_CHARACTERS_MAX

OrgId = NewType("OrgId", str)  # org_<22 base64url characters>
UserId = NewType("UserId", str)  # usr_…
KeyId = NewType("KeyId", str)  # sbk_…
VersionId = NewType("VersionId", str)  # ver_…
MigrationId = NewType("MigrationId", str)  # mig_…
CodeId = VersionId | MigrationId
MachineName = NewType("MachineName", str)
InstanceName = NewType("InstanceName", str)
InstanceId = NewType("InstanceId", str)  # one life of an instance name: ins_…
EnvelopeId = NewType("EnvelopeId", str)
ServiceId = NewType("ServiceId", str)  # xstate's id of an invoked or spawned child; ids repeat, runs do not
SendId = NewType("SendId", str)  # the machine's own name of a delayed send; names repeat, keys do not
RowKey = NewType("RowKey", str)  # names a timer or message row within its instance: "<seq>.<n>"
Seq = NewType("Seq", int)  # position of a transition in one instance's history, from 1
Epoch = NewType("Epoch", int)  # fencing number of the lease under which an owner writes
ActivationNumber = NewType("ActivationNumber", int)  # issued at each load by a process, never reused in it
Instant = NewType("Instant", int)  # wall clock, milliseconds since the Unix epoch
Monotonic = NewType("Monotonic", int)  # monotonic clock, milliseconds since an arbitrary start

NEVER: Final = Instant(0)  # before every instant that anything happens at


class InstanceKey(NamedTuple):
    """The public address of an instance. Names are unique within their machine and org."""

    org: OrgId
    machine: MachineName
    name: InstanceName


class ServiceRun(NamedTuple):
    """One run of an ephemeral service: its xstate id and the seq of the transition that started it."""

    id: ServiceId
    seq: Seq


_MACHINE_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{NAME_CHARACTERS_MAX}}}")
_INSTANCE_NAME = re.compile(rf"[A-Za-z0-9_.|@:+~-]{{1,{NAME_CHARACTERS_MAX}}}")
_VERSION_ID = re.compile(r"ver_[A-Za-z0-9_-]{22}")


def parse_machine_name(text: str) -> MachineName:
    """The name of a machine. Raises InvalidName."""
    return MachineName(_parse_name(text, "a machine name"))


def parse_index_name(text: str) -> str:
    """The name of an index, formed as a machine's. Raises InvalidName."""
    return _parse_name(text, "an index name")


def _parse_name(text: str, what: str) -> str:
    if not _MACHINE_NAME.fullmatch(text):
        raise InvalidName(f"{what} is 1 to {NAME_CHARACTERS_MAX} characters of A-Z, a-z, 0-9, '_' and '-'")
    return text


def parse_instance_name(text: str) -> InstanceName:
    """An instance name, already percent-decoded once. Raises InvalidName."""
    if not _INSTANCE_NAME.fullmatch(text) or text in {".", ".."}:
        message = f"an instance name is 1 to {NAME_CHARACTERS_MAX} characters of A-Z, a-z, 0-9 and _-.|@:+~"
        raise InvalidName(message)
    return InstanceName(text)


def parse_version_id(text: str) -> VersionId:
    """The id of a machine version. Raises InvalidName."""
    if not _VERSION_ID.fullmatch(text):
        raise InvalidName("a version id is ver_ and 22 characters of A-Z, a-z, 0-9, '_' and '-'")
    return VersionId(text)
