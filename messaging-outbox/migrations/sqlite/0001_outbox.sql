-- Times are microseconds since 1970, by the database's clock.

-- Events that are committed and not yet with the broker.
CREATE TABLE messaging_outbox (
    shard INTEGER NOT NULL,
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lane INTEGER,
    topic TEXT NOT NULL,
    key BLOB,
    name TEXT,
    event_id TEXT,
    head TEXT NOT NULL,
    payload BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    created_at INTEGER NOT NULL
);
CREATE INDEX messaging_outbox_shard ON messaging_outbox (shard, id);

-- Events that are to be published later; they move to messaging_outbox when they are due.
CREATE TABLE messaging_outbox_delayed (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    shard INTEGER NOT NULL,
    due INTEGER NOT NULL,
    lane INTEGER,
    topic TEXT NOT NULL,
    key BLOB,
    name TEXT,
    event_id TEXT,
    head TEXT NOT NULL,
    payload BLOB NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX messaging_outbox_delayed_due ON messaging_outbox_delayed (shard, due, id);

-- Events that the relay gave up, with the reason.
CREATE TABLE messaging_outbox_dead (
    id INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL,
    lane INTEGER,
    topic TEXT NOT NULL,
    key BLOB,
    name TEXT,
    event_id TEXT,
    head TEXT NOT NULL,
    payload BLOB NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    holds INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    died_at INTEGER NOT NULL
);
CREATE INDEX messaging_outbox_dead_holding ON messaging_outbox_dead (shard) WHERE holds = 1;

-- Who relays which shard, and until when. Shard -1 is the housekeeping.
CREATE TABLE messaging_outbox_shards (
    shard INTEGER PRIMARY KEY,
    owner TEXT NOT NULL DEFAULT '',
    epoch INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE messaging_outbox_relays (
    relay TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
);

-- Fixed when the tables are first used.
CREATE TABLE messaging_outbox_settings (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);

-- What was handled (outcome 0) or dead-lettered (1) by which group.
CREATE TABLE messaging_inbox (
    consumer_group TEXT NOT NULL,
    source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    outcome INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, source, event_id)
);
CREATE INDEX messaging_inbox_recorded_at ON messaging_inbox (recorded_at);
