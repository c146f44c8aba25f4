CREATE TABLE bundles (
    row INTEGER PRIMARY KEY,
    version TEXT NOT NULL UNIQUE,
    code BLOB NOT NULL
);
CREATE TABLE dead_letter_totals (
    org TEXT PRIMARY KEY,
    letters INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    heads INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE graves (
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    name TEXT NOT NULL,
    ts INTEGER NOT NULL,
    PRIMARY KEY (org, machine, name)
) WITHOUT ROWID;
CREATE TABLE idempotency (
    org TEXT NOT NULL,
    scope BLOB NOT NULL,
    key TEXT NOT NULL,
    instance TEXT NOT NULL,
    event_id TEXT NOT NULL,
    body_sha256 BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    status INTEGER,
    answer BLOB,
    PRIMARY KEY (org, scope, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (created_at);
CREATE INDEX idempotency_by_instance ON idempotency (instance);
CREATE TABLE index_rows (
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    index_name TEXT NOT NULL,
    value TEXT NOT NULL,
    name TEXT NOT NULL,
    instance TEXT NOT NULL,
    PRIMARY KEY (org, machine, index_name, value, name)
) WITHOUT ROWID;
CREATE INDEX index_rows_by_instance ON index_rows (instance, index_name, value);
CREATE TABLE instances (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'paused')),
    created_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    done INTEGER NOT NULL,
    services BLOB NOT NULL,
    value BLOB NOT NULL,
    tags BLOB NOT NULL,
    snapshot BLOB NOT NULL,
    context BLOB NOT NULL,
    UNIQUE (org, machine, name)
);
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    org TEXT NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    scopes BLOB NOT NULL,
    sealed_secret BLOB NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX keys_by_org ON keys (org, id);
CREATE TABLE large_contexts (
    instance TEXT PRIMARY KEY,
    context BLOB NOT NULL
);
CREATE TABLE leases (
    shard INTEGER PRIMARY KEY CHECK (shard BETWEEN 0 AND 255),
    owner TEXT,
    address TEXT,
    epoch INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER
);
CREATE TABLE links (
    parent TEXT NOT NULL,
    service TEXT NOT NULL,
    run INTEGER NOT NULL,
    child_machine TEXT NOT NULL,
    child_name TEXT NOT NULL,
    PRIMARY KEY (parent, service, run)
) WITHOUT ROWID;
CREATE TABLE log_erasures (
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    name TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (org, machine, name, at)
) WITHOUT ROWID;
CREATE TABLE machines (
    org TEXT NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    indexes BLOB NOT NULL,
    current_version TEXT,
    PRIMARY KEY (org, name)
) WITHOUT ROWID;
CREATE TABLE memberships (
    user TEXT NOT NULL REFERENCES users (id),
    org TEXT NOT NULL REFERENCES orgs (id),
    role TEXT NOT NULL CHECK (role IN ('admin', 'write', 'read')),
    PRIMARY KEY (user, org)
) WITHOUT ROWID;
CREATE INDEX memberships_by_org ON memberships (org);
CREATE TRIGGER dead_message_removed AFTER DELETE ON messages
WHEN old.dead_at IS NOT NULL
BEGIN
    UPDATE dead_letter_totals SET
        letters = letters - (1 - old.is_truncated),
        bytes = bytes - (1 - old.is_truncated) * length(old.event),
        heads = heads - old.is_truncated
    WHERE org = coalesce(old.org, (SELECT i.org FROM instances AS i WHERE i.id = old.instance));
END;
CREATE TRIGGER message_buried AFTER UPDATE OF dead_at ON messages
WHEN old.dead_at IS NULL AND new.dead_at IS NOT NULL
BEGIN
    INSERT INTO dead_letter_totals (org, letters, bytes, heads)
    SELECT org, 1 - new.is_truncated, (1 - new.is_truncated) * length(new.event), new.is_truncated
    FROM (SELECT coalesce(new.org, (SELECT i.org FROM instances AS i WHERE i.id = new.instance)) AS org)
    WHERE org IS NOT NULL
    ON CONFLICT (org) DO UPDATE SET
        letters = letters + excluded.letters, bytes = bytes + excluded.bytes, heads = heads + excluded.heads;
END;
CREATE TRIGGER message_redriven AFTER UPDATE OF dead_at ON messages
WHEN old.dead_at IS NOT NULL AND new.dead_at IS NULL
BEGIN
    UPDATE dead_letter_totals SET
        letters = letters - (1 - old.is_truncated),
        bytes = bytes - (1 - old.is_truncated) * length(old.event),
        heads = heads - old.is_truncated
    WHERE org = coalesce(old.org, (SELECT i.org FROM instances AS i WHERE i.id = old.instance));
END;
CREATE TABLE messages (
    row INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    to_machine TEXT,
    to_name TEXT,
    pair_order INTEGER NOT NULL,
    service TEXT,
    run INTEGER,
    event BLOB NOT NULL,
    fire_at INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    dead_at INTEGER,
    reason TEXT
, org TEXT, from_machine TEXT, from_name TEXT, version TEXT, depth INTEGER NOT NULL DEFAULT 0, is_truncated INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX messages_by_key ON messages (instance, key);
CREATE INDEX messages_by_pair ON messages (instance, to_machine, to_name, pair_order);
CREATE INDEX messages_dead ON messages (dead_at) WHERE dead_at IS NOT NULL;
CREATE INDEX messages_out ON messages (row) WHERE kind <> 'self' AND dead_at IS NULL;
CREATE INDEX messages_to ON messages (org, to_machine, to_name);
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE migrations (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    from_version TEXT NOT NULL,
    to_version TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    xstate TEXT NOT NULL,
    bundle_sha256 BLOB NOT NULL,
    FOREIGN KEY (org, machine) REFERENCES machines (org, name)
);
CREATE INDEX migrations_by_machine ON migrations (org, machine, row);
CREATE TABLE orgs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    allow_anonymous INTEGER NOT NULL,
    auth_revision INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE parents (
    instance TEXT PRIMARY KEY,
    parent TEXT NOT NULL,
    machine TEXT NOT NULL,
    name TEXT NOT NULL,
    service TEXT NOT NULL,
    run INTEGER NOT NULL,
    depth INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX parents_by_parent ON parents (parent);
CREATE TABLE schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL);
CREATE TABLE sessions (
    token_sha256 BLOB PRIMARY KEY,
    user TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user);
CREATE TRIGGER dead_timer_removed AFTER DELETE ON timers
WHEN old.dead_at IS NOT NULL
BEGIN
    UPDATE dead_letter_totals SET
        letters = letters - (1 - old.is_truncated),
        bytes = bytes - (1 - old.is_truncated) * length(old.event),
        heads = heads - old.is_truncated
    WHERE org = (SELECT i.org FROM instances AS i WHERE i.id = old.instance);
END;
CREATE TRIGGER timer_buried AFTER UPDATE OF dead_at ON timers
WHEN old.dead_at IS NULL AND new.dead_at IS NOT NULL
BEGIN
    INSERT INTO dead_letter_totals (org, letters, bytes, heads)
    SELECT org, 1 - new.is_truncated, (1 - new.is_truncated) * length(new.event), new.is_truncated
    FROM instances
    WHERE id = new.instance
    ON CONFLICT (org) DO UPDATE SET
        letters = letters + excluded.letters, bytes = bytes + excluded.bytes, heads = heads + excluded.heads;
END;
CREATE TRIGGER timer_redriven AFTER UPDATE OF dead_at ON timers
WHEN old.dead_at IS NOT NULL AND new.dead_at IS NULL
BEGIN
    UPDATE dead_letter_totals SET
        letters = letters - (1 - old.is_truncated),
        bytes = bytes - (1 - old.is_truncated) * length(old.event),
        heads = heads - old.is_truncated
    WHERE org = (SELECT i.org FROM instances AS i WHERE i.id = old.instance);
END;
CREATE TABLE timers (
    set_order INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    key TEXT NOT NULL,
    send_id TEXT NOT NULL,
    due INTEGER NOT NULL,
    fire_at INTEGER NOT NULL,
    event BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    dead_at INTEGER,
    reason TEXT
, to_kind TEXT, to_machine TEXT, to_name TEXT, is_truncated INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX timers_by_key ON timers (instance, key);
CREATE INDEX timers_dead ON timers (dead_at) WHERE dead_at IS NOT NULL;
CREATE INDEX timers_due ON timers (fire_at) WHERE dead_at IS NULL;
CREATE TABLE transitions (
    row INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    seq INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    at INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    event BLOB NOT NULL,
    value BLOB NOT NULL,
    source TEXT NOT NULL,
    actor BLOB,
    version TEXT NOT NULL,
    snapshot BLOB
);
CREATE UNIQUE INDEX transitions_by_seq ON transitions (instance, seq);
CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    gzip INTEGER NOT NULL,
    xstate_hint TEXT,
    state TEXT NOT NULL CHECK (state IN ('pending', 'finalized')), from_version TEXT, to_version TEXT,
    FOREIGN KEY (org, machine) REFERENCES machines (org, name)
) WITHOUT ROWID;
CREATE INDEX uploads_pending ON uploads (org, expires_at) WHERE state = 'pending';
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE versions (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    client_info TEXT,
    index_selectors BLOB NOT NULL,
    xstate TEXT NOT NULL,
    bundle_sha256 BLOB NOT NULL,
    FOREIGN KEY (org, machine) REFERENCES machines (org, name)
);
CREATE INDEX versions_by_machine ON versions (org, machine, row);
CREATE TABLE wishes (
    instance TEXT PRIMARY KEY,
    version TEXT NOT NULL
) WITHOUT ROWID;
