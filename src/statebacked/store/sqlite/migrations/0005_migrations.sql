-- Migrations between versions: uploads that are to become one, and those that are. The order of rows is the
-- order of creation; the code stands in bundles, under the id of the migration.

ALTER TABLE uploads ADD COLUMN from_version TEXT;
ALTER TABLE uploads ADD COLUMN to_version TEXT;

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
