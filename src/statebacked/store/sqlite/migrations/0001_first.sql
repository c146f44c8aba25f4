-- Conventions: instants are milliseconds since the Unix epoch; ids and names are TEXT; JSON is a BLOB of
-- UTF-8 that is stored and returned as it is. Columns that nothing writes yet are room for what is designed.

-- Small named values of the server itself.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- Who may write the instances of each shard. Expiry is null where one process owns all shards.
CREATE TABLE leases (
    shard INTEGER PRIMARY KEY CHECK (shard BETWEEN 0 AND 255),
    owner TEXT,
    address TEXT,
    epoch INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER
);
INSERT INTO leases (shard)
WITH RECURSIVE shards (shard) AS (SELECT 0 UNION ALL SELECT shard + 1 FROM shards WHERE shard < 255)
SELECT shard FROM shards;

-- The catalogue ------------------------------------------------------------------------------------

CREATE TABLE orgs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    allow_anonymous INTEGER NOT NULL,
    auth_revision INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE memberships (
    user TEXT NOT NULL REFERENCES users (id),
    org TEXT NOT NULL REFERENCES orgs (id),
    role TEXT NOT NULL CHECK (role IN ('admin', 'write', 'read')),
    PRIMARY KEY (user, org)
) WITHOUT ROWID;
CREATE INDEX memberships_by_org ON memberships (org);

CREATE TABLE sessions (
    token_sha256 BLOB PRIMARY KEY,
    user TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user);

-- scopes: a JSON array of strings. sealed_secret: encrypted under the master key.
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    org TEXT NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    scopes BLOB NOT NULL,
    sealed_secret BLOB NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX keys_by_org ON keys (org, id);

-- indexes: a JSON array of index names.
CREATE TABLE machines (
    org TEXT NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    indexes BLOB NOT NULL,
    current_version TEXT,
    PRIMARY KEY (org, name)
) WITHOUT ROWID;

-- The order of rows is the order of creation. index_selectors: a JSON array of [index, path].
-- xstate: the exact library version, or inlined-4 / inlined-5.
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

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    gzip INTEGER NOT NULL,
    xstate_hint TEXT,
    state TEXT NOT NULL CHECK (state IN ('pending', 'finalized')),
    FOREIGN KEY (org, machine) REFERENCES machines (org, name)
) WITHOUT ROWID;
CREATE INDEX uploads_pending ON uploads (org, expires_at) WHERE state = 'pending';

-- Code, unzipped, of uploads and of versions: apart, because it is large and seldom read.
CREATE TABLE bundles (
    row INTEGER PRIMARY KEY,
    version TEXT NOT NULL UNIQUE,
    code BLOB NOT NULL
);

-- Instances ----------------------------------------------------------------------------------------

-- One life of a name, with its newest durable state. seq is the guard of every write; epoch the last
-- writer's. services: a JSON array of [service id, seq that started it]. What changes seldom comes first.
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

-- The history: an append-only log. actor is the authContext of who caused it. snapshot is room for the
-- state after this transition.
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

-- Durable delays. set_order rises with every timer that is set. fire_at is due, or later after a refused
-- delivery. A row with dead_at is a dead letter.
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
);
CREATE UNIQUE INDEX timers_by_key ON timers (instance, key);
CREATE INDEX timers_due ON timers (fire_at) WHERE dead_at IS NULL;
CREATE INDEX timers_dead ON timers (dead_at) WHERE dead_at IS NOT NULL;

-- Undelivered messages, in the order of sending. instance is the sender, within which key is unique. The
-- recipient is the sender itself (kind self), else an instance of the same org by its address. pair_order
-- rises within one sender and recipient. service and run name the link that a child's message answers.
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
);
CREATE UNIQUE INDEX messages_by_key ON messages (instance, key);
CREATE INDEX messages_by_pair ON messages (instance, to_machine, to_name, pair_order);
CREATE INDEX messages_dead ON messages (dead_at) WHERE dead_at IS NOT NULL;

-- Persistent children: which run of which service of a parent stands for which child instance.
CREATE TABLE links (
    parent TEXT NOT NULL,
    service TEXT NOT NULL,
    run INTEGER NOT NULL,
    child TEXT NOT NULL,
    PRIMARY KEY (parent, service, run)
) WITHOUT ROWID;
CREATE INDEX links_by_child ON links (child);

-- One row for each value that an index holds for an instance.
CREATE TABLE index_rows (
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    index_name TEXT NOT NULL,
    value TEXT NOT NULL,
    instance TEXT NOT NULL,
    PRIMARY KEY (org, machine, index_name, value, instance)
) WITHOUT ROWID;
CREATE INDEX index_rows_by_instance ON index_rows (instance, index_name);

-- Answers kept for repeated requests. scope is the hash of method, path and principal; answer is null when
-- it was too large to keep.
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
