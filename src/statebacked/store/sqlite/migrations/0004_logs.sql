-- Logs stand in a file of their own. What is to be erased from it is recorded here: the log of an instance, up to
-- the moment of its deletion, in the transaction that deletes it.
CREATE TABLE log_erasures (
    org TEXT NOT NULL,
    machine TEXT NOT NULL,
    name TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (org, machine, name, at)
) WITHOUT ROWID;
