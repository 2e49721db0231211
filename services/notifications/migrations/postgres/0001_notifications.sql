CREATE TABLE notifications (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_email TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    sent_at BIGINT,
    event_source TEXT,
    event_id TEXT
);

-- An event that is delivered twice notifies once. NULLs are distinct: a raw message has no identity.
CREATE UNIQUE INDEX notifications_by_event ON notifications (event_source, event_id);

CREATE INDEX notifications_by_user ON notifications (user_email, id);
