-- Lines for the owners of machines, in the order of capture: `at` never falls with id. Ids are never used again,
-- so that a position stays what it was. instance is empty for what belongs to the machine as a whole.
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    instance TEXT NOT NULL,
    version TEXT NOT NULL,
    output TEXT NOT NULL CHECK (output IN ('stdout', 'stderr')),
    text TEXT NOT NULL
);
CREATE INDEX entries_by_org ON entries (org, at);
CREATE INDEX entries_by_instance ON entries (org, machine, instance, at);

-- How much an org has written on a UTC day, whatever was removed since.
CREATE TABLE volumes (
    day INTEGER NOT NULL,
    org TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (day, org)
) WITHOUT ROWID;
