-- Every statement that the SQLite store runs, each under its name. Statements are numbered by place: `?`.

-- The hot path: commits ----------------------------------------------------------------------------

-- name: lease_epoch
-- acquire writes all shards at once, so that one row tells the epoch of all.
SELECT epoch FROM leases WHERE shard = 0;

-- name: update_head
-- The plain case, and the guard of every write of an instance that exists: no row, no right to write.
UPDATE instances
SET seq = ?, ts = ?, done = ?, epoch = ?, services = ?, value = ?, tags = ?, snapshot = ?, context = ?
WHERE id = ? AND seq = ?;

-- name: update_head_keeping_context
UPDATE instances
SET seq = ?, ts = ?, done = ?, epoch = ?, services = ?, value = ?, tags = ?, snapshot = ?
WHERE id = ? AND seq = ?;

-- name: update_services
-- A commit without a head: the guard, and all that it changes of the instance's row.
UPDATE instances SET epoch = ?, services = ? WHERE id = ? AND seq = ?;

-- name: put_large_context
-- One that is too long for the instance's own row, where an empty one stands for it.
INSERT INTO large_contexts (instance, context) VALUES (?, ?)
ON CONFLICT (instance) DO UPDATE SET context = excluded.context;

-- name: insert_instance
-- The guard of a birth: no row when the name or the id exists.
INSERT INTO instances (
    seq, ts, done, epoch, services, value, tags, snapshot, context, id, org, machine, name, version, created_at
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: is_name_taken
SELECT 1 FROM instances WHERE org = ? AND machine = ? AND name = ?;

-- name: is_at_seq
SELECT 1 FROM instances WHERE id = ? AND seq = ?;

-- name: insert_transition
INSERT INTO transitions (instance, seq, ts, at, event_id, event, value, source, actor, version)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: is_timer_live
SELECT 1 FROM timers WHERE instance = ? AND key = ? AND dead_at IS NULL;

-- name: is_message_live
SELECT 1 FROM messages WHERE instance = ? AND key = ? AND dead_at IS NULL;

-- name: delete_timer
DELETE FROM timers WHERE instance = ? AND key = ?;

-- name: delete_message
DELETE FROM messages WHERE instance = ? AND key = ?;

-- name: insert_timer
INSERT INTO timers (instance, key, send_id, due, fire_at, event, to_kind, to_machine, to_name)
VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8);

-- name: insert_message
-- A message to the sender itself; its pair is the sender alone.
INSERT INTO messages (instance, key, kind, event, pair_order)
VALUES (?1, ?2, 'self', ?3, (
    SELECT coalesce(max(pair_order), 0) + 1
    FROM messages
    WHERE instance = ?1 AND to_machine IS NULL AND to_name IS NULL
));

-- name: post_message
-- A message to another instance, or about a child: that one goes to its owner. No row when the owner is gone.
INSERT INTO messages (
    instance, key, kind, to_machine, to_name, service, run, event, version, depth,
    org, from_machine, from_name, pair_order
)
SELECT
    ?1, ?2, ?3, coalesce(?4, i.machine), coalesce(?5, i.name), ?6, ?7, ?8, ?9, ?10,
    i.org, i.machine, i.name, (
        SELECT coalesce(max(pair_order), 0) + 1
        FROM messages
        WHERE instance = ?1 AND to_machine = coalesce(?4, i.machine) AND to_name = coalesce(?5, i.name)
    )
FROM instances AS i
WHERE i.id = ?1;

-- name: insert_link
INSERT INTO links (parent, service, run, child_machine, child_name) VALUES (?, ?, ?, ?, ?);

-- name: delete_link
DELETE FROM links WHERE parent = ? AND service = ? AND run = ?;

-- name: put_parent
INSERT INTO parents (instance, parent, machine, name, service, run, depth) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (instance) DO UPDATE SET service = excluded.service, run = excluded.run, depth = excluded.depth;

-- name: set_status
UPDATE instances SET status = ? WHERE id = ?;

-- name: set_version
UPDATE instances SET version = ? WHERE id = ?;

-- name: put_wish
INSERT INTO wishes (instance, version) VALUES (?, ?)
ON CONFLICT (instance) DO UPDATE SET version = excluded.version;

-- name: delete_wish
DELETE FROM wishes WHERE instance = ?;

-- name: insert_answer
INSERT INTO idempotency (org, scope, key, instance, event_id, body_sha256, created_at)
SELECT i.org, ?2, ?3, ?1, ?4, ?5, ?6 FROM instances AS i WHERE i.id = ?1
ON CONFLICT DO NOTHING;

-- name: dig_grave
INSERT INTO graves (org, machine, name, ts) SELECT org, machine, name, ts FROM instances WHERE id = ?
ON CONFLICT (org, machine, name) DO UPDATE SET ts = excluded.ts;

-- name: delete_messages_to
-- What was sent to the instance, by others or by itself; what it has sent to others stays.
DELETE FROM messages
WHERE (instance = ?1 AND to_machine IS NULL)
    OR (org, to_machine, to_name) = (SELECT org, machine, name FROM instances WHERE id = ?1);

-- name: delete_timers_of
DELETE FROM timers WHERE instance = ?;

-- name: delete_transitions_of
DELETE FROM transitions WHERE instance = ?;

-- name: delete_links_of
DELETE FROM links WHERE parent = ?;

-- name: delete_parent_of
DELETE FROM parents WHERE instance = ?;

-- name: delete_answers_of
DELETE FROM idempotency WHERE instance = ?;

-- name: delete_index_rows_of
DELETE FROM index_rows WHERE instance = ?;

-- name: delete_large_context
DELETE FROM large_contexts WHERE instance = ?;

-- name: delete_instance
DELETE FROM instances WHERE id = ?;

-- name: does_exist
SELECT 1 FROM instances WHERE id = ?;

-- name: retry_timer
UPDATE timers SET attempts = ?, fire_at = ?, reason = ? WHERE instance = ? AND key = ?;

-- name: retry_message
UPDATE messages SET attempts = ?, fire_at = ?, reason = ? WHERE instance = ? AND key = ?;

-- name: bury_timer
UPDATE timers SET attempts = ?, dead_at = ?, reason = ? WHERE instance = ? AND key = ?;

-- name: bury_message
UPDATE messages SET attempts = ?, dead_at = ?, reason = ? WHERE instance = ? AND key = ?;

-- name: bury_head_of_timer
UPDATE timers SET event = ?, is_truncated = 1, attempts = ?, dead_at = ?, reason = ? WHERE instance = ? AND key = ?;

-- name: bury_head_of_message
UPDATE messages SET event = ?, is_truncated = 1, attempts = ?, dead_at = ?, reason = ?
WHERE instance = ? AND key = ?;

-- name: timer_to_bury
-- Its kind and length, and what its org has already.
SELECT 'timer', length(t.event), coalesce(d.letters, 0), coalesce(d.bytes, 0), coalesce(d.heads, 0)
FROM timers AS t
LEFT JOIN instances AS i ON i.id = t.instance
LEFT JOIN dead_letter_totals AS d ON d.org = i.org
WHERE t.instance = ? AND t.key = ?;

-- name: message_to_bury
SELECT m.kind, length(m.event), coalesce(d.letters, 0), coalesce(d.bytes, 0), coalesce(d.heads, 0)
FROM messages AS m
LEFT JOIN instances AS i ON i.id = m.instance
LEFT JOIN dead_letter_totals AS d ON d.org = coalesce(m.org, i.org)
WHERE m.instance = ? AND m.key = ?;

-- name: timer_event
SELECT event FROM timers WHERE instance = ? AND key = ?;

-- name: message_event
SELECT event FROM messages WHERE instance = ? AND key = ?;

-- name: index_rows_of
SELECT index_name, value FROM index_rows WHERE instance = ?;

-- name: delete_index_row
DELETE FROM index_rows WHERE instance = ? AND index_name = ? AND value = ?;

-- name: insert_index_row
INSERT INTO index_rows (org, machine, index_name, value, name, instance)
SELECT org, machine, ?, ?, name, id FROM instances WHERE id = ?;

-- Leases -------------------------------------------------------------------------------------------

-- name: acquire_leases
UPDATE leases SET owner = ?, epoch = (SELECT max(epoch) + 1 FROM leases);

-- name: rewrite_lease
-- Changes nothing, and is written all the same: whether anything can be.
UPDATE leases SET owner = owner WHERE shard = 0;

-- Reading instances --------------------------------------------------------------------------------

-- name: load_instance
SELECT id, version, status, created_at, seq, ts, value, tags, done, services, snapshot,
    coalesce(nullif(context, x''), (SELECT l.context FROM large_contexts AS l WHERE l.instance = id))
FROM instances
WHERE org = ? AND machine = ? AND name = ?;

-- name: load_links
SELECT service, run, child_machine, child_name FROM links WHERE parent = ? ORDER BY run, service;

-- name: load_parent
SELECT parent, machine, name, service, run, depth FROM parents WHERE instance = ?;

-- name: load_wish
SELECT version FROM wishes WHERE instance = ?;

-- name: count_undelivered
SELECT count(*) FROM messages WHERE instance = ? AND kind NOT IN ('self', 'failed') AND dead_at IS NULL;

-- name: load_rows
-- Timers in the order of setting (due is set), then messages in the order of sending (due is null).
SELECT key, send_id, due, NULL AS event, 0 AS kind, set_order AS place
FROM timers
WHERE instance = ?1 AND dead_at IS NULL
UNION ALL
SELECT key, NULL, NULL, event, 1, row
FROM messages
WHERE instance = ?1 AND kind = 'self' AND dead_at IS NULL
ORDER BY kind, place;

-- name: find_transition
-- Newest first: who asks looks for an event of the last minutes.
SELECT seq FROM transitions WHERE instance = ? AND event_id = ? ORDER BY seq DESC LIMIT 1;

-- name: due_timers
-- The JSON arrays are orgs and instances to leave out.
SELECT t.instance, i.org, i.machine, i.name, t.key, t.send_id, t.due, t.event, t.fire_at, t.attempts,
    t.set_order, t.to_kind, t.to_machine, t.to_name
FROM timers AS t
JOIN instances AS i ON i.id = t.instance
WHERE t.dead_at IS NULL AND t.fire_at <= ?1 AND (t.fire_at, t.set_order) > (?2, ?3)
    AND t.instance NOT IN (SELECT value FROM json_each(?5))
    AND i.status = 'running' AND i.org NOT IN (SELECT value FROM json_each(?4))
ORDER BY t.fire_at, t.set_order
LIMIT ?6;

-- name: next_timers
SELECT t.instance, i.org, i.machine, i.name, t.key, t.send_id, t.due, t.event, t.fire_at, t.attempts,
    t.set_order, t.to_kind, t.to_machine, t.to_name
FROM timers AS t
JOIN instances AS i ON i.id = t.instance
WHERE t.instance = ?1 AND t.dead_at IS NULL AND t.fire_at <= ?2 AND (t.fire_at, t.set_order) > (?3, ?4)
    AND i.status = 'running'
ORDER BY t.fire_at, t.set_order
LIMIT ?5;

-- name: undelivered
SELECT i.org, i.machine, i.name
FROM messages AS m
JOIN instances AS i ON i.id = m.instance
WHERE m.dead_at IS NULL AND m.kind = 'self' AND i.status = 'running'
GROUP BY m.instance
ORDER BY min(m.row)
LIMIT ?;

-- name: due_messages
-- The first living message of every pair.
SELECT m.row, m.instance, m.org, m.from_machine, m.from_name, m.key, m.kind, m.to_machine, m.to_name,
    m.service, m.run, m.event, m.version, m.depth, m.fire_at, m.attempts
FROM messages AS m
LEFT JOIN instances AS i
    ON i.org = m.org AND i.machine = m.to_machine AND i.name = m.to_name
WHERE m.kind <> 'self' AND m.dead_at IS NULL AND m.row > ?2 AND m.fire_at <= ?1
    AND coalesce(i.status, 'running') = 'running'
    AND NOT EXISTS (
        SELECT 1
        FROM messages AS e
        WHERE e.instance = m.instance AND e.to_machine = m.to_machine AND e.to_name = m.to_name
            AND e.pair_order < m.pair_order AND e.kind <> 'self' AND e.dead_at IS NULL
    )
ORDER BY m.row
LIMIT ?3;

-- name: next_messages
SELECT m.row, m.instance, m.org, m.from_machine, m.from_name, m.key, m.kind, m.to_machine, m.to_name,
    m.service, m.run, m.event, m.version, m.depth, m.fire_at, m.attempts
FROM messages AS m
WHERE m.instance = ?1 AND m.to_machine = ?2 AND m.to_name = ?3 AND m.kind <> 'self' AND m.dead_at IS NULL
ORDER BY m.pair_order
LIMIT ?4;

-- name: last_ts
SELECT ts FROM graves WHERE org = ? AND machine = ? AND name = ?;

-- Dead letters and answers ---------------------------------------------------------------------------

-- name: dead_messages
SELECT row, instance, org, from_machine, from_name, key, kind, to_machine, to_name, event, fire_at,
    attempts, reason, dead_at, is_truncated
FROM (
    SELECT m.row, m.instance, coalesce(m.org, i.org) AS org, coalesce(m.from_machine, i.machine) AS from_machine,
        coalesce(m.from_name, i.name) AS from_name, m.key, m.kind, m.to_machine, m.to_name, m.event,
        m.fire_at, m.attempts, m.reason, m.dead_at, m.is_truncated
    FROM messages AS m
    LEFT JOIN instances AS i ON i.id = m.instance
    WHERE m.dead_at IS NOT NULL
)
WHERE org = ?1 AND (?2 IS NULL OR from_machine = ?2) AND (?3 IS NULL OR from_name = ?3) AND row > ?4
ORDER BY row
LIMIT ?5;

-- name: dead_timers
SELECT t.set_order, t.instance, i.org, i.machine, i.name, t.key, t.send_id, t.to_kind, t.to_machine, t.to_name,
    t.event, t.due, t.attempts, t.reason, t.dead_at, t.is_truncated
FROM timers AS t
JOIN instances AS i ON i.id = t.instance
WHERE t.dead_at IS NOT NULL AND i.org = ?1 AND (?2 IS NULL OR i.machine = ?2) AND (?3 IS NULL OR i.name = ?3)
    AND t.set_order > ?4
ORDER BY t.set_order
LIMIT ?5;

-- name: redrive_message
-- As if it were sent now, behind what waits.
UPDATE messages SET attempts = 0, fire_at = ?2, dead_at = NULL, reason = NULL,
    row = (SELECT max(row) + 1 FROM messages),
    pair_order = (
        SELECT max(pair_order) + 1
        FROM messages AS e
        WHERE e.instance = messages.instance
            AND e.to_machine IS messages.to_machine AND e.to_name IS messages.to_name
    )
WHERE row = ?1 AND dead_at IS NOT NULL AND NOT is_truncated;

-- name: redrive_timer
-- As if it were set now: an activation that has it loaded has it last.
UPDATE timers SET attempts = 0, fire_at = ?2, dead_at = NULL, reason = NULL,
    set_order = (SELECT max(set_order) + 1 FROM timers)
WHERE set_order = ?1 AND dead_at IS NOT NULL AND NOT is_truncated;

-- name: discard_message
DELETE FROM messages WHERE row = ? AND dead_at IS NOT NULL;

-- name: discard_timer
DELETE FROM timers WHERE set_order = ? AND dead_at IS NOT NULL;

-- name: sweep_messages
DELETE FROM messages WHERE dead_at < ?;

-- name: sweep_timers
DELETE FROM timers WHERE dead_at < ?;

-- name: find_answer
SELECT instance, event_id, body_sha256, created_at, status, answer
FROM idempotency
WHERE org = ? AND scope = ? AND key = ?;

-- name: keep_answer
UPDATE idempotency SET status = ?, answer = ? WHERE org = ? AND scope = ? AND key = ?;

-- name: sweep_answers
DELETE FROM idempotency WHERE created_at < ?;

-- name: list_instances
SELECT i.name, i.created_at, i.status, i.version, v.client_info, coalesce(v.created_at, i.created_at)
FROM instances AS i
LEFT JOIN versions AS v ON v.id = i.version
WHERE i.org = ? AND i.machine = ? AND i.name > ?
ORDER BY i.name
LIMIT ?;

-- name: list_transitions
SELECT t.seq, t.ts, t.at, t.event_id, t.event, t.value, t.source, t.actor, t.version
FROM transitions AS t
JOIN instances AS i ON i.id = t.instance
WHERE i.org = ? AND i.machine = ? AND i.name = ? AND t.seq > ?
ORDER BY t.seq
LIMIT ?;

-- Indexes: the rows between two places, in the order of (value, name) -----------------------------------

-- name: find_indexed_asc
SELECT value, name
FROM index_rows
WHERE org = ? AND machine = ? AND index_name = ? AND (value, name) > (?, ?) AND (value, name) < (?, ?)
ORDER BY value, name
LIMIT ?;

-- name: find_indexed_desc
SELECT value, name
FROM index_rows
WHERE org = ? AND machine = ? AND index_name = ? AND (value, name) > (?, ?) AND (value, name) < (?, ?)
ORDER BY value DESC, name DESC
LIMIT ?;

-- name: find_indexed_states_asc
SELECT r.value, r.name, i.version, i.seq, i.snapshot,
    coalesce(nullif(i.context, x''), (SELECT l.context FROM large_contexts AS l WHERE l.instance = i.id))
FROM index_rows AS r
JOIN instances AS i ON i.id = r.instance
WHERE r.org = ? AND r.machine = ? AND r.index_name = ? AND (r.value, r.name) > (?, ?) AND (r.value, r.name) < (?, ?)
ORDER BY r.value, r.name
LIMIT ?;

-- name: find_indexed_states_desc
SELECT r.value, r.name, i.version, i.seq, i.snapshot,
    coalesce(nullif(i.context, x''), (SELECT l.context FROM large_contexts AS l WHERE l.instance = i.id))
FROM index_rows AS r
JOIN instances AS i ON i.id = r.instance
WHERE r.org = ? AND r.machine = ? AND r.index_name = ? AND (r.value, r.name) > (?, ?) AND (r.value, r.name) < (?, ?)
ORDER BY r.value DESC, r.name DESC
LIMIT ?;

-- The catalogue: orgs, users, sessions, keys ----------------------------------------------------------

-- name: insert_org
INSERT INTO orgs (id, name, created_at, allow_anonymous, auth_revision) VALUES (?, ?, ?, ?, ?);

-- name: insert_user
INSERT INTO users (id, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: insert_membership
INSERT INTO memberships (user, org, role) VALUES (?, ?, ?);

-- name: find_org
SELECT id, name, created_at, allow_anonymous, auth_revision FROM orgs WHERE id = ?;

-- name: list_memberships
SELECT o.id, o.name, o.created_at, o.allow_anonymous, o.auth_revision, m.role
FROM memberships AS m
JOIN orgs AS o ON o.id = m.org
WHERE m.user = ?
ORDER BY o.created_at, o.id;

-- name: raise_auth_revision
UPDATE orgs SET auth_revision = auth_revision + 1 WHERE id = ?;

-- name: insert_session
INSERT INTO sessions (token_sha256, user, created_at, expires_at) VALUES (?, ?, ?, ?);

-- name: find_session
SELECT token_sha256, user, created_at, expires_at FROM sessions WHERE token_sha256 = ?;

-- name: insert_key
INSERT INTO keys (id, org, name, scopes, sealed_secret, created_at) VALUES (?, ?, ?, ?, ?, ?);

-- name: find_key
SELECT id, org, name, scopes, sealed_secret, created_at FROM keys WHERE id = ?;

-- name: list_keys
SELECT id, org, name, scopes, sealed_secret, created_at FROM keys WHERE org = ? AND id > ? ORDER BY id LIMIT ?;

-- name: delete_key
DELETE FROM keys WHERE org = ? AND id = ?;

-- The catalogue: machines, versions, uploads -------------------------------------------------------------

-- name: insert_machine
INSERT INTO machines (org, name, created_at, indexes, current_version) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: find_machine
SELECT m.org, m.name, m.created_at, m.indexes,
    v.id, v.org, v.machine, v.created_at, v.client_info, v.index_selectors, v.xstate, v.bundle_sha256
FROM machines AS m
LEFT JOIN versions AS v ON v.id = m.current_version
WHERE m.org = ? AND m.name = ?;

-- name: list_machines
SELECT m.org, m.name, m.created_at, m.indexes,
    v.id, v.org, v.machine, v.created_at, v.client_info, v.index_selectors, v.xstate, v.bundle_sha256
FROM machines AS m
LEFT JOIN versions AS v ON v.id = m.current_version
WHERE m.org = ? AND m.name > ?
ORDER BY m.name
LIMIT ?;

-- name: sweep_bundles
-- The bundles of the uploads that sweep_uploads is about to remove.
DELETE FROM bundles
WHERE version IN (SELECT id FROM uploads WHERE state = 'pending' AND expires_at < ?);

-- name: sweep_uploads
DELETE FROM uploads WHERE state = 'pending' AND expires_at < ?;

-- name: insert_upload
-- The guard of a new upload: no row when the org has its fill of pending ones (the last parameter).
INSERT INTO uploads (id, org, machine, expires_at, gzip, xstate_hint, state, from_version, to_version)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
WHERE (SELECT count(*) FROM uploads WHERE org = ?2 AND state = 'pending') < ?10;

-- name: find_upload
-- The code of a finalized upload belongs to the version or migration.
SELECT u.id, u.org, u.machine, u.expires_at, u.gzip, u.xstate_hint, b.code, u.state, u.from_version, u.to_version
FROM uploads AS u
LEFT JOIN bundles AS b ON b.version = u.id AND u.state = 'pending'
WHERE u.id = ?;

-- name: put_pending_bundle
INSERT INTO bundles (version, code)
SELECT id, ?2 FROM uploads WHERE id = ?1 AND state = 'pending'
ON CONFLICT (version) DO UPDATE SET code = excluded.code;

-- name: drop_pending_bundle
DELETE FROM bundles WHERE version IN (SELECT id FROM uploads WHERE id = ? AND state = 'pending');

-- name: drop_pending_upload
DELETE FROM uploads WHERE id = ? AND state = 'pending';

-- name: finalize_upload
-- The guard of finalize: no row when it is not pending (any more), or another thing.
UPDATE uploads SET state = 'finalized'
WHERE id = ? AND org = ? AND machine = ? AND from_version IS ? AND to_version IS ? AND state = 'pending';

-- name: put_bundle
INSERT INTO bundles (version, code) VALUES (?, ?)
ON CONFLICT (version) DO UPDATE SET code = excluded.code;

-- name: insert_version
INSERT INTO versions (id, org, machine, created_at, client_info, index_selectors, xstate, bundle_sha256)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: set_current_version
UPDATE machines SET current_version = ? WHERE org = ? AND name = ?;

-- name: find_version
SELECT id, org, machine, created_at, client_info, index_selectors, xstate, bundle_sha256
FROM versions
WHERE org = ? AND machine = ? AND id = ?;

-- name: list_versions
-- From the start when the last id seen is ''; nothing after an id that does not exist.
SELECT id, org, machine, created_at, client_info, index_selectors, xstate, bundle_sha256
FROM versions
WHERE org = ?1 AND machine = ?2
    AND row > CASE ?3 WHEN '' THEN 0 ELSE (SELECT row FROM versions WHERE id = ?3) END
ORDER BY row
LIMIT ?4;

-- name: insert_migration
INSERT INTO migrations (id, org, machine, from_version, to_version, created_at, xstate, bundle_sha256)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: list_migrations
SELECT id, org, machine, from_version, to_version, created_at, xstate, bundle_sha256
FROM migrations
WHERE org = ? AND machine = ?
ORDER BY row;

-- name: load_bundle
-- bundles also holds the code of uploads that are not finalized.
SELECT code
FROM bundles
WHERE version = ?1 AND (
    EXISTS (SELECT 1 FROM versions WHERE id = ?1) OR EXISTS (SELECT 1 FROM migrations WHERE id = ?1)
);

-- The server itself ----------------------------------------------------------------------------------

-- name: get_meta
SELECT value FROM meta WHERE name = ?;

-- name: put_meta
INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- Logs ---------------------------------------------------------------------------------------------

-- name: record_log_erasure
-- Two lives of a name may end in one millisecond.
INSERT INTO log_erasures (org, machine, name, at)
SELECT org, machine, name, max(ts, ?2) FROM instances WHERE id = ?1
ON CONFLICT DO NOTHING;

-- name: list_log_erasures
SELECT org, machine, name, at FROM log_erasures LIMIT ?;

-- name: delete_log_erasure
DELETE FROM log_erasures WHERE org = ? AND machine = ? AND name = ? AND at = ?;
