CREATE TABLE notifications (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_email TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    sent_at INTEGER,
    event_source TEXT,
    event_id TEXT
) STRICT;

-- An event that is delivered twice notifies once. NULLs are distinct: a raw message has no identity.
CREATE UNIQUE INDEX notifications_by_event ON notifications (event_source, event_id);

CREATE INDEX notifications_by_user ON notifications (user_email, id);
