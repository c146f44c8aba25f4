"""Small values to write and read: commits of made-up instances, rows of a made-up catalogue."""

from dataclasses import replace
from typing import Protocol

from statebacked.model.envelopes import Cause
from statebacked.model.ids import (
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    KeyId,
    MachineName,
    MigrationId,
    OrgId,
    RowKey,
    SendId,
    Seq,
    ServiceId,
    ServiceRun,
    VersionId,
)
from statebacked.model.limits import UPLOAD_EXPIRES_MS
from statebacked.model.machine import Key, Machine, Migration, Org, Upload, Version
from statebacked.model.rows import Birth, Commit, Head, Message, Rejection, StateView, Timer, Transition
from statebacked.model.values import Indexed, Json
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.store import Indexes, InstanceStore


class BothPorts(InstanceStore, Indexes, Catalogue, Protocol):
    """What a store adapter implements."""


ORG = OrgId("org_1")
MACHINE = MachineName("door")
VERSION = VersionId("ver_1")
ONE = InstanceId("ins_1")
TWO = InstanceId("ins_2")
THREE = InstanceId("ins_3")


def key_of(instance: InstanceId, org: OrgId = ORG, machine: MachineName = MACHINE) -> InstanceKey:
    return InstanceKey(org, machine, InstanceName(f"name-of-{instance}"))


def transition(instance: InstanceId, seq: int, actor: bytes | None = None) -> Transition:
    return Transition(
        seq=Seq(seq),
        ts=Instant(1000 + seq),
        at=Instant(2000 + seq),
        event_id=EnvelopeId(f"env-{instance}-{seq}"),
        event=Json(b'{"type":"go","seq":%d}' % seq),
        value=Json(b'"s%d"' % seq),
        source="client",
        actor=None if actor is None else Json(actor),
        version=VERSION,
    )


def head(seq: int, context: bytes | None = None) -> Head:
    view = StateView(
        seq=Seq(seq),
        ts=Instant(1000 + seq),
        value=Json(b'"s%d"' % seq),
        tags=Json(b'["t%d"]' % seq),
        done=seq % 2 == 0,
        public=None,
    )
    return Head(
        view=view,
        snapshot=Json(b'{"snapshot":%d}' % seq),
        context=None if context is None else Json(context),
    )


def birth(
    instance: InstanceId,
    epoch: Epoch,
    *,
    key: InstanceKey | None = None,
    version: VersionId = VERSION,
    context: bytes = b'{"n":0}',
    timers: tuple[Timer, ...] = (),
    messages: tuple[Message, ...] = (),
    services: tuple[ServiceRun, ...] = (),
    indexes: Indexed | None = None,
    consumed: tuple[Cause, ...] = (),
) -> Commit:
    return Commit(
        instance=instance,
        epoch=epoch,
        base=Seq(0),
        consumed=consumed,
        birth=Birth(key=key or key_of(instance), version=version, created_at=Instant(777)),
        head=head(1, context),
        transitions=(transition(instance, 1),),
        services=services,
        timers_set=timers,
        messages=messages,
        indexes=indexes,
    )


def step(
    instance: InstanceId,
    epoch: Epoch,
    base: int,
    *,
    count: int = 1,
    context: bytes | None = None,
    consumed: tuple[Cause, ...] = (),
    timers: tuple[Timer, ...] = (),
    removed: tuple[RowKey, ...] = (),
    messages: tuple[Message, ...] = (),
    services: tuple[ServiceRun, ...] = (),
    indexes: Indexed | None = None,
) -> Commit:
    return Commit(
        instance=instance,
        epoch=epoch,
        base=Seq(base),
        head=head(base + count, context),
        transitions=tuple(transition(instance, seq) for seq in range(base + 1, base + count + 1)),
        services=services,
        consumed=consumed,
        timers_set=timers,
        timers_removed=removed,
        messages=messages,
        indexes=indexes,
    )


def consume(
    instance: InstanceId,
    epoch: Epoch,
    base: int,
    *consumed: Cause,
    services: tuple[ServiceRun, ...] = (),
    rejected: Rejection | None = None,
) -> Commit:
    """A commit that changes no state."""
    return Commit(
        instance=instance,
        epoch=epoch,
        base=Seq(base),
        services=services,
        consumed=consumed,
        rejected=rejected,
    )


def rejection(cause: Cause, *, attempts: int = 1, retry_at: int | None = None) -> Rejection:
    return Rejection(
        cause=cause,
        attempts=attempts,
        retry_at=None if retry_at is None else Instant(retry_at),
        reason="machine-error: no",
        at=Instant(4000),
    )


def timer(key: str, due: int = 5000, send_id: str = "later") -> Timer:
    return Timer(
        key=RowKey(key),
        send_id=SendId(send_id),
        due=Instant(due),
        event=Json(b'{"type":"%s"}' % key.encode()),
    )


def message(key: str) -> Message:
    return Message(key=RowKey(key), event=Json(b'{"type":"%s"}' % key.encode()))


def of_timer(key: str) -> Cause:
    return Cause("timer", RowKey(key))


def of_message(key: str) -> Cause:
    return Cause("message", RowKey(key))


def run(service: str, seq: int) -> ServiceRun:
    return ServiceRun(ServiceId(service), Seq(seq))


# --- the catalogue -------------------------------------------------------------------------------


def org(id: str = ORG, created_at: int = 100) -> Org:
    return Org(
        id=OrgId(id),
        name=f"name of {id}",
        created_at=Instant(created_at),
        allow_anonymous=True,
        auth_revision=1,
    )


def key(id: str, org: str = ORG) -> Key:
    return Key(
        id=KeyId(id),
        org=OrgId(org),
        name=f"name of {id}",
        scopes=("events.write", "state.read"),
        sealed_secret=b"\x00\xffsealed",
        created_at=Instant(200),
    )


def machine(name: str = MACHINE, org: str = ORG) -> Machine:
    return Machine(
        org=OrgId(org),
        name=MachineName(name),
        created_at=Instant(300),
        indexes=("by-owner", "by-city"),
        current=None,
    )


def version(id: str, machine: str = MACHINE, org: str = ORG) -> Version:
    return Version(
        id=VersionId(id),
        org=OrgId(org),
        machine=MachineName(machine),
        created_at=Instant(400),
        client_info=f"client of {id}",
        index_selectors=(("by-owner", "$.owner"),),
        xstate="5.33.3",
        bundle_sha256=b"\x01" * 32,
    )


def migration(id: str, path: str = "ver_1>ver_2", machine: str = MACHINE, org: str = ORG) -> Migration:
    """`path` names the two versions."""
    from_version, to_version = path.split(">")
    return Migration(
        id=MigrationId(id),
        org=OrgId(org),
        machine=MachineName(machine),
        from_version=VersionId(from_version),
        to_version=VersionId(to_version),
        created_at=Instant(500),
        xstate="5.33.3",
        bundle_sha256=b"\x02" * 32,
    )


def migration_upload(id: str, path: str = "ver_1>ver_2", machine: str = MACHINE, org: str = ORG) -> Upload:
    from_version, to_version = path.split(">")
    return replace(
        upload(id, machine, org),
        id=MigrationId(id),
        xstate_hint=None,
        migrates=(VersionId(from_version), VersionId(to_version)),
    )


def upload(id: str, machine: str = MACHINE, org: str = ORG, created_at: int = 1_000_000) -> Upload:
    return Upload(
        id=VersionId(id),
        org=OrgId(org),
        machine=MachineName(machine),
        expires_at=Instant(created_at + UPLOAD_EXPIRES_MS),
        gzip=True,
        xstate_hint="5.33.3",
        bundle=None,
        state="pending",
    )
