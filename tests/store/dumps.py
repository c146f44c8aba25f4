"""Everything a store holds, as plain rows in a fixed order, so that two stores can be compared."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec

from statebacked.store.memory import MemoryStore
from statebacked.store.memory_instances import MemoryInstances
from statebacked.store.memory_letters import dead_letters
from statebacked.store.memory_rows import MessageRow, TimerRow

Dump = dict[str, list[tuple[object, ...]]]

# Each query names the columns of its table in the order of the tuples below.
_QUERIES = {
    "leases": "SELECT DISTINCT epoch FROM leases",
    "instances": "SELECT id, org, machine, name, version, status, created_at, epoch, seq, ts, done, "
    "services, value, tags, snapshot, context FROM instances ORDER BY id",
    "transitions": "SELECT instance, seq, ts, at, event_id, event, value, source, actor, version "
    "FROM transitions ORDER BY instance, seq",
    "timers": "SELECT instance, key, send_id, due, event, fire_at, attempts, dead_at, reason, is_truncated "
    "FROM timers ORDER BY set_order",
    "messages": "SELECT instance, key, event, fire_at, attempts, dead_at, reason, is_truncated "
    "FROM messages ORDER BY row",
    "dead_letter_totals": "SELECT org, letters, bytes, heads FROM dead_letter_totals "
    "WHERE letters + heads > 0 ORDER BY org",
    "index_rows": "SELECT org, machine, index_name, value, name, instance FROM index_rows "
    "ORDER BY org, machine, index_name, value, name",
    "orgs": "SELECT id, name, created_at, allow_anonymous, auth_revision FROM orgs ORDER BY id",
    "memberships": "SELECT user, org, role FROM memberships ORDER BY user, org",
    "sessions": "SELECT token_sha256, user, created_at, expires_at FROM sessions ORDER BY token_sha256",
    "keys": "SELECT id, org, name, scopes, sealed_secret, created_at FROM keys ORDER BY id",
    "machines": "SELECT org, name, created_at, indexes, current_version FROM machines ORDER BY org, name",
    "versions": "SELECT id, org, machine, created_at, client_info, index_selectors, xstate, bundle_sha256 "
    "FROM versions ORDER BY row",
    "uploads": "SELECT id, org, machine, expires_at, gzip, xstate_hint, state, from_version, to_version "
    "FROM uploads ORDER BY id",
    "migrations": "SELECT id, org, machine, from_version, to_version, created_at, xstate, bundle_sha256 "
    "FROM migrations ORDER BY row",
    "bundles": "SELECT version, code FROM bundles ORDER BY version",
    "meta": "SELECT name, value FROM meta ORDER BY name",
}


def dump_sqlite(file: Path) -> Dump:
    connection = sqlite3.connect(file)
    try:
        return {table: list(connection.execute(query)) for table, query in _QUERIES.items()}
    finally:
        connection.close()


def dump_memory(store: MemoryStore) -> Dump:
    return {"leases": [(store.instances.epoch,)], **_instances(store.instances), **_catalogue(store)}


def _instances(store: MemoryInstances) -> Dump:
    rows = [row for _, row in sorted(store.instances.items())]
    return {
        "instances": [
            (
                row.id,
                *row.key,
                row.version,
                row.status,
                row.created_at,
                row.epoch,
                row.head.view.seq,
                row.head.view.ts,
                int(row.head.view.done),
                msgspec.json.encode(row.services),
                row.head.view.value,
                row.head.view.tags,
                row.head.snapshot,
                row.context,
            )
            for row in rows
        ],
        "transitions": [(row.id, *msgspec.structs.astuple(one)) for row in rows for one in row.transitions],
        "timers": [
            (
                row.instance,
                row.timer.key,
                row.timer.send_id,
                row.timer.due,
                row.head or row.timer.event,
                *_delivery(row),
            )
            for row in store.timers.values()
        ],
        "messages": [
            (row.instance, row.message.key, row.head or row.message.event, *_delivery(row))
            for row in store.messages.values()
        ],
        "dead_letter_totals": _letter_totals(store),
        "index_rows": sorted(
            (key.org, key.machine, index, value, key.name, instance)
            for instance, (key, pairs) in store.indexes.rows.items()
            for index, value in pairs
        ),
    }


def _delivery(row: TimerRow | MessageRow) -> tuple[object, ...]:
    return row.fire_at, row.attempts, row.dead_at, row.reason, int(row.head is not None)


def _letter_totals(store: MemoryInstances) -> list[tuple[object, ...]]:
    totals: dict[str, list[int]] = {}
    for letter in dead_letters(store):
        whole = int(not letter.is_truncated)
        added = (whole, whole * len(letter.event), 1 - whole)
        totals[letter.sender.org] = [
            a + b for a, b in zip(totals.get(letter.sender.org, [0, 0, 0]), added, strict=True)
        ]
    return [(org, *counts) for org, counts in sorted(totals.items())]


def _catalogue(store: MemoryStore) -> Dump:
    encode = msgspec.json.encode
    pending = [(one.id, one.bundle) for one in store.uploads.values() if one.bundle is not None]
    dump: dict[str, Iterable[tuple[object, ...]]] = {
        "orgs": sorted(
            (one.id, one.name, one.created_at, one.allow_anonymous, one.auth_revision)
            for one in store.orgs.values()
        ),
        "memberships": sorted((*key, role) for key, role in store.memberships.items()),
        "sessions": [
            (key, one.user, one.created_at, one.expires_at) for key, one in sorted(store.sessions.items())
        ],
        "keys": sorted(
            (one.id, one.org, one.name, encode(one.scopes), one.sealed_secret, one.created_at)
            for one in store.keys.values()
        ),
        "machines": [
            (*key, row.machine.created_at, encode(row.machine.indexes), row.current)
            for key, row in sorted(store.machines.items())
        ],
        "versions": [
            (
                one.id,
                one.org,
                one.machine,
                one.created_at,
                one.client_info,
                encode(one.index_selectors),
                one.xstate,
                one.bundle_sha256,
            )
            for one in store.versions.values()
        ],
        "uploads": [
            (
                one.id,
                one.org,
                one.machine,
                one.expires_at,
                one.gzip,
                one.xstate_hint,
                one.state,
                *(one.migrates or (None, None)),
            )
            for _, one in sorted(store.uploads.items())
        ],
        "migrations": [
            (
                one.id,
                one.org,
                one.machine,
                one.from_version,
                one.to_version,
                one.created_at,
                one.xstate,
                one.bundle_sha256,
            )
            for one in store.migrations.values()
        ],
        "bundles": sorted([*pending, *store.bundles.items()]),
        "meta": sorted(store.meta.items()),
    }
    return {table: list(rows) for table, rows in dump.items()}
