-- A context that is too long to stand well in the row that every event rewrites stands here; instances.context
-- is then empty. Rows of contexts that have become short again are left over, and go with the instance.
CREATE TABLE large_contexts (
    instance TEXT PRIMARY KEY,
    context BLOB NOT NULL
);
