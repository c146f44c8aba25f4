-- Every statement on the log file, each under its name.

-- name: insert_entry
INSERT INTO entries (at, org, machine, instance, version, output, text) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: add_volume
INSERT INTO volumes (day, org, bytes) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;

-- name: edge_of_org
-- Where to stop looking: the first row beyond the share of one read.
SELECT at FROM entries
WHERE org = ?1 AND at >= ?2 AND (at > ?2 OR id > ?3) AND at <= ?4
ORDER BY at, id LIMIT 1 OFFSET ?5;

-- name: edge_of_instance
SELECT at FROM entries
WHERE org = ?1 AND machine = ?6 AND instance = ?7 AND at >= ?2 AND (at > ?2 OR id > ?3) AND at <= ?4
ORDER BY at, id LIMIT 1 OFFSET ?5;

-- name: entries_of_org
SELECT at, id, org, machine, instance, version, output, text FROM entries
WHERE org = ?1 AND at >= ?2 AND (at > ?2 OR id > ?3) AND at <= ?4
    AND (?6 IS NULL OR machine = ?6) AND (?7 IS NULL OR instance = ?7) AND (?8 IS NULL OR version = ?8)
ORDER BY at, id LIMIT ?5;

-- name: entries_of_instance
SELECT at, id, org, machine, instance, version, output, text FROM entries
WHERE org = ?1 AND machine = ?6 AND instance = ?7 AND at >= ?2 AND (at > ?2 OR id > ?3) AND at <= ?4
    AND (?8 IS NULL OR version = ?8)
ORDER BY at, id LIMIT ?5;

-- name: newest_entry
SELECT at FROM entries ORDER BY id DESC LIMIT 1;

-- name: volumes_of_day
SELECT org, bytes FROM volumes WHERE day = ?;

-- name: erase_instance
DELETE FROM entries WHERE id IN (
    SELECT id FROM entries WHERE org = ? AND machine = ? AND instance = ? AND at <= ? ORDER BY at LIMIT ?
);

-- name: prune_old
-- Ids and times rise together: the first ids are the oldest.
DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?2) AND at < ?1;

-- name: prune_oldest
DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?);

-- name: prune_volumes
DELETE FROM volumes WHERE day < ?;
