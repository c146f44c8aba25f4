-- Persistent children, messages between instances, wishes. What few instances have stands in tables of its
-- own, so that the row that every event rewrites stays as it is.

-- Who spawned an instance. depth: 1 for a child of an instance that a client made.
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

-- Which run of which service of a parent stands for which child, by the child's address.
DROP TABLE links;
CREATE TABLE links (
    parent TEXT NOT NULL,
    service TEXT NOT NULL,
    run INTEGER NOT NULL,
    child_machine TEXT NOT NULL,
    child_name TEXT NOT NULL,
    PRIMARY KEY (parent, service, run)
) WITHOUT ROWID;

-- The version that an instance is to run from its next event on.
CREATE TABLE wishes (
    instance TEXT PRIMARY KEY,
    version TEXT NOT NULL
) WITHOUT ROWID;

-- The last ts of a deleted life of a name: the next life starts above it.
CREATE TABLE graves (
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    name TEXT NOT NULL,
    ts INTEGER NOT NULL,
    PRIMARY KEY (org, machine, name)
) WITHOUT ROWID;

-- org, from_machine, from_name: the sender, whose row may be gone by the time of delivery; null for kind self.
-- version, depth: of kind create. The order within a pair is that of rows.
ALTER TABLE messages ADD COLUMN org TEXT;
ALTER TABLE messages ADD COLUMN from_machine TEXT;
ALTER TABLE messages ADD COLUMN from_name TEXT;
ALTER TABLE messages ADD COLUMN version TEXT;
ALTER TABLE messages ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
CREATE INDEX messages_out ON messages (row) WHERE kind <> 'self' AND dead_at IS NULL;
CREATE INDEX messages_to ON messages (org, to_machine, to_name);

-- to_kind: null for a delay of the instance's own, else address or parent.
ALTER TABLE timers ADD COLUMN to_kind TEXT;
ALTER TABLE timers ADD COLUMN to_machine TEXT;
ALTER TABLE timers ADD COLUMN to_name TEXT;
