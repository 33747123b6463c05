"""The tables of the SQLite file.

`deliveries` is what waits or is on its way, clustered by lane, so that a lane is read from its head
whatever waits behind it. A payload stands once in `events`, however many deliveries refer to it.
"""

from collections.abc import Sequence

PRAGMAS = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA journal_size_limit = 67108864;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = OFF;
PRAGMA busy_timeout = 5000;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -16384;
"""

_VERSION_1 = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE tenants (
    name TEXT PRIMARY KEY,             -- the URL or the host pattern
    document TEXT NOT NULL
);
CREATE TABLE subscribers (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    client_id TEXT NOT NULL,
    status TEXT NOT NULL,
    updated_at REAL NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX subscribers_by_tenant ON subscribers (tenant, client_id);
CREATE TABLE subscriptions (
    no INTEGER PRIMARY KEY,            -- what deliveries refer to
    id TEXT NOT NULL UNIQUE,
    subscriber_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    status TEXT NOT NULL,
    updated_at REAL NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX subscriptions_by_subscriber ON subscriptions (subscriber_id);
CREATE INDEX subscriptions_by_tenant ON subscriptions (tenant, status);
CREATE TABLE seen (                    -- ids of the last minutes, oldest first
    no INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    at REAL NOT NULL
);
CREATE TABLE events (                  -- a rendered body, but for the subscription's id
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    accepted_at REAL NOT NULL,
    before_subject BLOB NOT NULL,
    after_subject BLOB NOT NULL
);
CREATE TABLE event_uses (              -- for events with more than one delivery: how many are left
    event_no INTEGER PRIMARY KEY,
    remaining INTEGER NOT NULL
);
CREATE TABLE deliveries (
    subscription_no INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    position INTEGER NOT NULL,
    event_no INTEGER NOT NULL,
    lanes INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    first_attempt_at REAL,
    nacks INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (subscription_no, lane, position)
) WITHOUT ROWID;
CREATE TABLE retries (                 -- deliveries that wait for their next attempt
    due_at REAL NOT NULL,
    position INTEGER NOT NULL,
    subscription_no INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    event_no INTEGER NOT NULL,
    lanes INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    first_attempt_at REAL,
    PRIMARY KEY (due_at, position)
) WITHOUT ROWID;
CREATE TABLE dead_letters (            -- deliveries that our own code failed on
    position INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    error TEXT NOT NULL,
    subscription_no INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    event_no INTEGER NOT NULL,
    lanes INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    first_attempt_at REAL
);
CREATE TABLE log_entries (
    id TEXT PRIMARY KEY,
    subscription_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    message TEXT NOT NULL,
    reason TEXT,
    status INTEGER,
    excerpt TEXT,
    occurrences INTEGER NOT NULL,
    events TEXT NOT NULL,              -- the first of those that it stands for, as JSON
    first_at REAL NOT NULL,
    at REAL NOT NULL                   -- the latest
);
CREATE INDEX log_entries_by_time ON log_entries (at);
CREATE INDEX log_entries_by_content ON log_entries (subscription_id, operation, message, first_at);
"""

MIGRATIONS: Sequence[str] = (_VERSION_1,)
"""What leads from each version of the schema to the next, from the empty file on. Only ever appended to.

A statement ends with its line, so that each can be run alone inside one transaction.
"""
