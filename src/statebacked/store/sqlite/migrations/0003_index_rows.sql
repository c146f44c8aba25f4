-- The rows of an index stand in the order in which queries give them: by value, then by the instance's name.
DROP TABLE index_rows;
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
