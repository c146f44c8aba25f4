-- Dead letters are bounded by org. is_truncated: only the head of the event was kept, there was no room for more.
ALTER TABLE timers ADD COLUMN is_truncated INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN is_truncated INTEGER NOT NULL DEFAULT 0;

-- How many an org has, of those kept whole and of heads, and how long the events of the former are together. The
-- triggers below write it, in the transaction of whatever buries a row, redrives it or removes it.
CREATE TABLE dead_letter_totals (
    org TEXT PRIMARY KEY,
    letters INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    heads INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO dead_letter_totals (org, letters, bytes, heads)
SELECT org, count(*), sum(bytes), 0
FROM (
    SELECT i.org, length(t.event) AS bytes
    FROM timers AS t
    JOIN instances AS i ON i.id = t.instance
    WHERE t.dead_at IS NOT NULL
    UNION ALL
    SELECT coalesce(m.org, i.org), length(m.event)
    FROM messages AS m
    LEFT JOIN instances AS i ON i.id = m.instance
    WHERE m.dead_at IS NOT NULL
)
WHERE org IS NOT NULL
GROUP BY org;

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

CREATE TRIGGER timer_redriven AFTER UPDATE OF dead_at ON timers
WHEN old.dead_at IS NOT NULL AND new.dead_at IS NULL
BEGIN
    UPDATE dead_letter_totals SET
        letters = letters - (1 - old.is_truncated),
        bytes = bytes - (1 - old.is_truncated) * length(old.event),
        heads = heads - old.is_truncated
    WHERE org = (SELECT i.org FROM instances AS i WHERE i.id = old.instance);
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

CREATE TRIGGER dead_timer_removed AFTER DELETE ON timers
WHEN old.dead_at IS NOT NULL
BEGIN
    UPDATE dead_letter_totals SET
        letters = letters - (1 - old.is_truncated),
        bytes = bytes - (1 - old.is_truncated) * length(old.event),
        heads = heads - old.is_truncated
    WHERE org = (SELECT i.org FROM instances AS i WHERE i.id = old.instance);
END;

CREATE TRIGGER dead_message_removed AFTER DELETE ON messages
WHEN old.dead_at IS NOT NULL
BEGIN
    UPDATE dead_letter_totals SET
        letters = letters - (1 - old.is_truncated),
        bytes = bytes - (1 - old.is_truncated) * length(old.event),
        heads = heads - old.is_truncated
    WHERE org = coalesce(old.org, (SELECT i.org FROM instances AS i WHERE i.id = old.instance));
END;
