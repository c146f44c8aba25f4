"""What every store promises: the laws of ports.Catalogue. test_conformance.py runs them on each adapter."""

import asyncio
from dataclasses import replace

import pytest

from statebacked.model.ids import Instant, KeyId, MachineName, MigrationId, OrgId, UserId, VersionId
from statebacked.model.limits import UPLOAD_SWEPT_MS, UPLOADS_PENDING_MAX
from statebacked.model.machine import Session
from statebacked.ports.store import StoreFailed
from tests.store.builders import (
    MACHINE,
    ONE,
    ORG,
    BothPorts,
    birth,
    key,
    machine,
    migration,
    migration_upload,
    org,
    upload,
    version,
)

ANN, BOB = UserId("usr_ann"), UserId("usr_bob")
NOW = Instant(1_000_000)


async def with_machine(store: BothPorts, name: str = MACHINE) -> None:
    if await store.find_org(ORG) is None:
        await store.create_org(org(), ANN)
    assert await store.create_machine(machine(name))


async def with_version(store: BothPorts, id: str, *, make_current: bool = False, name: str = MACHINE) -> None:
    assert await store.add_upload(upload(id, name), NOW)
    assert await store.finalize(version(id, name), b"code of " + id.encode(), make_current=make_current)


class OrgLaws:
    """Orgs, memberships, sessions, keys."""

    async def test_a_created_org_is_found_with_its_admin(self, store: BothPorts) -> None:
        await store.create_org(org(), ANN)
        assert await store.find_org(ORG) == org()
        (membership,) = await store.list_memberships(ANN)
        assert (membership.org, membership.user, membership.role) == (org(), ANN, "admin")
        assert await store.find_org(OrgId("org_9")) is None
        assert await store.list_memberships(BOB) == []

    async def test_memberships_are_the_oldest_org_first(self, store: BothPorts) -> None:
        for id, created_at in (("org_c", 20), ("org_b", 30), ("org_a", 10), ("org_d", 10)):
            await store.create_org(org(id, created_at), ANN)
        await store.create_org(org("org_x", 1), BOB)
        found = [membership.org.id for membership in await store.list_memberships(ANN)]
        assert found == ["org_a", "org_d", "org_c", "org_b"]

    async def test_an_org_is_created_once(self, store: BothPorts) -> None:
        await store.create_org(org(), ANN)
        with pytest.raises(StoreFailed):
            await store.create_org(org(), BOB)
        assert await store.list_memberships(BOB) == []

    @pytest.mark.parametrize("expires_at", [None, Instant(9)])
    async def test_a_session_is_found_by_its_hash(self, store: BothPorts, expires_at: Instant | None) -> None:
        session = Session(token_sha256=b"\x00" * 32, user=ANN, created_at=Instant(5), expires_at=expires_at)
        await store.add_session(session)
        assert await store.find_session(session.token_sha256) == session
        assert await store.find_session(b"\x01" * 32) is None

    async def test_a_change_of_keys_raises_the_auth_revision(self, store: BothPorts) -> None:
        await store.create_org(org(), ANN)
        await store.create_org(org("org_2"), ANN)
        revisions = []
        for change in (
            store.add_key(key("sbk_1")),
            store.add_key(key("sbk_2")),
            store.delete_key(ORG, KeyId("sbk_1")),
        ):
            await change
            found = await store.find_org(ORG)
            assert found is not None
            revisions.append(found.auth_revision)
        assert revisions == [2, 3, 4]
        assert await store.find_org(OrgId("org_2")) == org("org_2")

    async def test_keys_are_found_listed_and_deleted_in_their_org(self, store: BothPorts) -> None:
        await store.create_org(org(), ANN)
        await store.create_org(org("org_2"), ANN)
        for id in ("sbk_b", "sbk_a", "sbk_c"):
            await store.add_key(key(id))
        await store.add_key(key("sbk_0", "org_2"))
        assert await store.find_key(KeyId("sbk_a")) == key("sbk_a")
        assert await store.list_keys(ORG, after="", limit=2) == [key("sbk_a"), key("sbk_b")]
        assert await store.list_keys(ORG, after="sbk_b", limit=2) == [key("sbk_c")]
        assert await store.delete_key(OrgId("org_2"), KeyId("sbk_a")) is False
        assert await store.delete_key(ORG, KeyId("sbk_a")) is True
        assert await store.delete_key(ORG, KeyId("sbk_a")) is False
        assert await store.find_key(KeyId("sbk_a")) is None
        found = await store.find_org(OrgId("org_2"))
        assert found is not None
        assert found.auth_revision == 2  # one for its own key, none for the refused deletion

    async def test_a_key_of_no_org_is_refused(self, store: BothPorts) -> None:
        with pytest.raises(StoreFailed):
            await store.add_key(key("sbk_1", "org_none"))
        assert await store.find_key(KeyId("sbk_1")) is None

    async def test_small_values_of_the_server_are_kept_and_replaced(self, store: BothPorts) -> None:
        assert await store.get_meta("fingerprint") is None
        await store.put_meta("fingerprint", b"\x00\xff")
        await store.put_meta("other", b"")
        await store.put_meta("fingerprint", b"new")
        assert (await store.get_meta("fingerprint"), await store.get_meta("other")) == (b"new", b"")


class MachineLaws:
    """Machines, versions, uploads, bundles."""

    async def test_a_machine_name_is_taken_once_in_an_org(self, store: BothPorts) -> None:
        await with_machine(store)
        await store.create_org(org("org_2"), ANN)
        other = replace(machine(), created_at=Instant(1), indexes=())
        assert await store.create_machine(other) is False
        assert await store.create_machine(machine(org="org_2")) is True
        assert await store.find_machine(ORG, MACHINE) == machine()
        assert await store.find_machine(ORG, MachineName("nothing")) is None

    async def test_machines_are_listed_by_name_with_their_current_version(self, store: BothPorts) -> None:
        for name in ("b", "C", "a"):
            await with_machine(store, name)
        await with_version(store, "ver_1", make_current=True, name="a")
        whole = await store.list_machines(ORG, after="", limit=10)
        assert [one.name for one in whole] == ["C", "a", "b"]
        assert [one.current for one in whole] == [None, version("ver_1", "a"), None]
        assert await store.list_machines(ORG, after="C", limit=1) == whole[1:2]
        assert await store.list_machines(OrgId("org_9"), after="", limit=10) == []

    async def test_an_upload_takes_its_last_bundle_until_it_is_finalized(self, store: BothPorts) -> None:
        await with_machine(store)
        id = VersionId("ver_1")
        assert await store.put_bundle(id, b"too early") is False
        assert await store.add_upload(upload(id), NOW) is True
        assert await store.find_upload(id) == upload(id)
        assert await store.put_bundle(id, b"first") is True
        assert await store.put_bundle(id, b"second") is True
        assert await store.find_upload(id) == replace(upload(id), bundle=b"second")
        with pytest.raises(KeyError):
            await store.load_bundle(id)
        assert await store.find_version(ORG, MACHINE, id) is None

        assert await store.finalize(version(id), b"validated", make_current=False) is True
        assert await store.put_bundle(id, b"too late") is False
        assert await store.load_bundle(id) == b"validated"
        assert await store.find_upload(id) == replace(upload(id), state="finalized")

    async def test_an_upload_is_finalized_once(self, store: BothPorts) -> None:
        await with_machine(store)
        assert await store.add_upload(upload("ver_1"), NOW)
        answers = await asyncio.gather(
            *(store.finalize(version("ver_1"), code, make_current=False) for code in (b"a", b"b"))
        )
        assert answers == [True, False]
        assert await store.load_bundle(VersionId("ver_1")) == b"a"
        assert len(await store.list_versions(ORG, MACHINE, after="", limit=10)) == 1

    async def test_only_the_machine_that_reserved_an_upload_finalizes_it(self, store: BothPorts) -> None:
        await with_machine(store)
        await with_machine(store, "gate")
        assert await store.add_upload(upload("ver_1"), NOW)
        assert await store.finalize(version("ver_1", "gate"), b"x", make_current=True) is False
        assert await store.finalize(version("ver_9"), b"x", make_current=True) is False
        found = await store.find_machine(ORG, MachineName("gate"))
        assert found is not None
        assert found.current is None

    async def test_a_version_is_current_only_when_asked_for(self, store: BothPorts) -> None:
        await with_machine(store)
        currents = []
        for id, make_current in (("ver_1", False), ("ver_2", True), ("ver_3", False)):
            await with_version(store, id, make_current=make_current)
            found = await store.find_machine(ORG, MACHINE)
            assert found is not None
            currents.append(found.current)
        assert currents == [None, version("ver_2"), version("ver_2")]

    async def test_versions_are_found_in_their_machine_and_listed_in_order_of_creation(
        self, store: BothPorts
    ) -> None:
        await with_machine(store)
        await with_machine(store, "gate")
        for id in ("ver_c", "ver_a", "ver_b"):
            await with_version(store, id)
            await with_version(store, f"{id}_gate", name="gate")
        whole = await store.list_versions(ORG, MACHINE, after="", limit=10)
        assert whole == [version("ver_c"), version("ver_a"), version("ver_b")]
        assert await store.list_versions(ORG, MACHINE, after="ver_c", limit=1) == whole[1:2]
        assert await store.list_versions(ORG, MACHINE, after="ver_b", limit=1) == []
        assert await store.list_versions(ORG, MACHINE, after="ver_none", limit=9) == []
        assert await store.find_version(ORG, MACHINE, VersionId("ver_a")) == version("ver_a")
        assert await store.find_version(ORG, MachineName("gate"), VersionId("ver_a")) is None
        assert await store.find_version(OrgId("org_2"), MACHINE, VersionId("ver_a")) is None

    async def test_a_listed_instance_tells_about_its_version(self, store: BothPorts) -> None:
        await with_machine(store)
        await with_version(store, "ver_1")
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, version=VersionId("ver_1")))
        (summary,) = await store.list_instances(ORG, MACHINE, after="", limit=10)
        assert (summary.client_info, summary.version_created_at) == ("client of ver_1", 400)

    async def test_an_org_has_a_bounded_number_of_pending_uploads(self, store: BothPorts) -> None:
        await with_machine(store)
        await store.create_org(org("org_2"), ANN)
        await store.create_machine(machine(org="org_2"))
        for number in range(UPLOADS_PENDING_MAX):
            assert await store.add_upload(upload(f"ver_{number:02}"), NOW) is True
        assert await store.add_upload(upload("ver_more"), NOW) is False
        assert await store.find_upload(VersionId("ver_more")) is None
        assert await store.add_upload(upload("ver_other", org="org_2"), NOW) is True
        assert await store.finalize(version("ver_00"), b"x", make_current=False)
        assert await store.add_upload(upload("ver_more"), NOW) is True

    async def test_a_dropped_upload_is_forgotten_and_makes_room(self, store: BothPorts) -> None:
        await with_machine(store)
        for number in range(UPLOADS_PENDING_MAX):
            assert await store.add_upload(upload(f"ver_{number:02}"), NOW)
        assert await store.put_bundle(VersionId("ver_00"), b"refused")
        await store.drop_upload(VersionId("ver_00"))
        assert await store.find_upload(VersionId("ver_00")) is None
        assert await store.put_bundle(VersionId("ver_00"), b"again") is False
        assert await store.finalize(version("ver_00"), b"x", make_current=False) is False
        assert await store.add_upload(upload("ver_more"), NOW) is True

    async def test_a_finalized_upload_cannot_be_dropped(self, store: BothPorts) -> None:
        await with_machine(store)
        await with_version(store, "ver_done")
        await store.drop_upload(VersionId("ver_done"))
        assert await store.find_upload(VersionId("ver_done")) is not None
        assert await store.load_bundle(VersionId("ver_done")) == b"code of ver_done"

    async def test_pending_uploads_are_swept_after_an_hour(self, store: BothPorts) -> None:
        await with_machine(store)
        await with_version(store, "ver_done")
        assert await store.add_upload(upload("ver_old"), NOW)
        assert await store.put_bundle(VersionId("ver_old"), b"old")
        assert await store.add_upload(upload("ver_young", created_at=NOW + 1), NOW)
        an_hour_later = Instant(NOW + UPLOAD_SWEPT_MS)
        assert await store.add_upload(upload("ver_2", created_at=an_hour_later), an_hour_later)
        assert await store.find_upload(VersionId("ver_old")) is not None
        assert await store.add_upload(upload("ver_3"), Instant(an_hour_later + 1))
        assert await store.find_upload(VersionId("ver_old")) is None
        assert await store.put_bundle(VersionId("ver_old"), b"again") is False
        assert await store.find_upload(VersionId("ver_young")) is not None
        assert await store.find_upload(VersionId("ver_done")) is not None
        assert await store.load_bundle(VersionId("ver_done")) == b"code of ver_done"


class MigrationLaws:
    """Migrations: uploaded as versions are, listed in order, their code kept beside that of versions."""

    async def test_a_migration_is_uploaded_and_finalized_once(self, store: BothPorts) -> None:
        await with_machine(store)
        reserved, made = migration_upload("mig_1"), migration("mig_1")
        assert await store.add_upload(reserved, NOW) is True
        assert await store.find_upload(made.id) == reserved
        assert await store.put_bundle(made.id, b"upgrade") is True
        assert await store.find_upload(made.id) == replace(reserved, bundle=b"upgrade")
        with pytest.raises(KeyError):
            await store.load_bundle(made.id)
        answers = await asyncio.gather(*(store.finalize_migration(made, code) for code in (b"a", b"b")))
        assert answers == [True, False]
        assert await store.load_bundle(made.id) == b"a"
        assert await store.find_upload(made.id) == replace(reserved, state="finalized")
        assert await store.put_bundle(made.id, b"too late") is False
        await store.drop_upload(made.id)
        assert await store.list_migrations(ORG, MACHINE) == [made]

    async def test_an_upload_becomes_only_what_it_was_reserved_for(self, store: BothPorts) -> None:
        await with_machine(store)
        await with_machine(store, "gate")
        assert await store.add_upload(migration_upload("mig_1"), NOW)
        assert await store.add_upload(upload("ver_1"), NOW)
        for other in (
            migration("mig_1", "ver_2>ver_1"),
            migration("mig_1", machine="gate"),
            migration("mig_1", org="org_2"),
            migration("mig_2"),
            migration("ver_1"),
        ):
            assert await store.finalize_migration(other, b"x") is False
        assert await store.finalize(version("mig_1"), b"x", make_current=True) is False
        assert await store.list_migrations(ORG, MACHINE) == []
        assert await store.list_versions(ORG, MACHINE, after="", limit=10) == []

    async def test_migrations_are_listed_in_order_of_creation(self, store: BothPorts) -> None:
        await with_machine(store)
        await with_machine(store, "gate")
        for id, machine_name in (("mig_b", MACHINE), ("mig_c", "gate"), ("mig_a", MACHINE)):
            assert await store.add_upload(migration_upload(id, machine=machine_name), NOW)
            assert await store.finalize_migration(migration(id, machine=machine_name), b"x")
        found = await store.list_migrations(ORG, MACHINE)
        assert [one.id for one in found] == ["mig_b", "mig_a"]
        assert await store.list_migrations(OrgId("org_9"), MACHINE) == []

    async def test_pending_migrations_count_among_the_uploads_of_an_org(self, store: BothPorts) -> None:
        await with_machine(store)
        for number in range(UPLOADS_PENDING_MAX):
            assert await store.add_upload(migration_upload(f"mig_{number:02}"), NOW) is True
        assert await store.add_upload(upload("ver_more"), NOW) is False
        await store.drop_upload(MigrationId("mig_00"))
        assert await store.add_upload(upload("ver_more"), NOW) is True
