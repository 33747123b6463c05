"""The tables of the SQLite file.

`deliveries` has the deliveries that wait or are on their way, clustered by lane, so that a lane is read from
its head however many wait behind it. A payload stands once, in `kept` or in `events`, however many deliveries
refer to it.
"""

from collections.abc import Sequence

# Checkpoints are made by one thread of the platform alone (checkpoints.py).
PRAGMAS = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA wal_autocheckpoint = 0;
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

_VERSION_2_TABLE = """
CREATE TABLE entries (                 -- of the log: actions, refused calls, ends of deliveries
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,              -- with client_id: whose it is
    client_id TEXT NOT NULL,
    log_type TEXT NOT NULL,
    operation TEXT NOT NULL,
    subscriber_id TEXT,
    subscription_id TEXT,
    error_type TEXT,
    message TEXT NOT NULL,
    reason TEXT,
    status INTEGER,
    excerpt TEXT,
    request TEXT,                      -- JSON; of a delivery there is none
    response TEXT,                     -- JSON; of a delivery it is status and excerpt
    occurrences INTEGER NOT NULL,
    events TEXT NOT NULL,              -- the first of those that it stands for, as JSON
    first_at REAL NOT NULL,
    at REAL NOT NULL                   -- the latest
);
INSERT INTO entries SELECT l.id, coalesce(s.tenant, ''),
    coalesce(json_extract(s.document, '$.client_id'), ''),
    'error', l.operation, s.subscriber_id, l.subscription_id, 'failed_delivery', l.message, l.reason,
    l.status, l.excerpt, NULL, NULL, l.occurrences, l.events, l.first_at, l.at
    FROM log_entries l LEFT JOIN subscriptions s ON s.id = l.subscription_id;
DROP TABLE log_entries;
ALTER TABLE entries RENAME TO log_entries;
CREATE INDEX log_entries_by_time ON log_entries (at, id);
CREATE INDEX log_entries_by_content ON log_entries (subscription_id, operation, message, first_at);
"""

LOG_SCOPES: Sequence[str] = ("", "subscriber_id", "subscription_id")
LOG_KINDS: Sequence[str] = ("", "log_type", "operation", "reason")
"""The columns that narrow a client's log; each pair has an index ("" is no filter)."""


def log_index(scope: str, kind: str) -> str:
    """Returns the name of the index for a client's log with these filters, in the order of time."""
    return (
        "_".join(["log_entries_of", *filter(None, (scope, kind))])
        if scope or kind
        else "log_entries_of_owner"
    )


def _create(scope: str, kind: str) -> str:
    columns = ", ".join(["tenant", "client_id", *filter(None, (scope, kind)), "at", "id"])
    given = " AND ".join(
        f"{name} IS NOT NULL" for name in (scope, kind) if name.endswith("_id") or name == "reason"
    )
    partial = f" WHERE {given}" if given else ""
    return f"CREATE INDEX {log_index(scope, kind)} ON log_entries ({columns}){partial};\n"


_VERSION_2 = _VERSION_2_TABLE + "".join(_create(scope, kind) for scope in LOG_SCOPES for kind in LOG_KINDS)

_VERSION_3 = """
CREATE TABLE success_counts (          -- attempts of the last hours
    series TEXT NOT NULL,              -- subscription, epoch and URL, hashed
    minute INTEGER NOT NULL,           -- since 1970
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    first_failed_at REAL,
    PRIMARY KEY (series, minute)
) WITHOUT ROWID;
CREATE INDEX success_counts_by_minute ON success_counts (minute);
"""

_VERSION_4 = """
CREATE TABLE notifications (           -- until they are told
    id TEXT PRIMARY KEY,
    due_at REAL NOT NULL,
    mail_attempts INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX notifications_by_time ON notifications (due_at);
"""

_VERSION_5 = """
CREATE TABLE relayed (                 -- ids of the last day's relayed events, oldest first
    no INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    at REAL NOT NULL
);
"""

_VERSION_6 = """
CREATE TABLE accepted (                -- events that are not fanned out yet
    no INTEGER PRIMARY KEY,            -- in the order of acceptance; in `events` too, as is the next one
    tenant TEXT NOT NULL,
    snapshot_no INTEGER NOT NULL,
    accepted_at REAL NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    time TEXT NOT NULL,
    facts BLOB NOT NULL,
    data_json BLOB NOT NULL,
    identity TEXT NOT NULL,            -- JSON
    benchmark_client TEXT
);
CREATE INDEX accepted_by_tenant ON accepted (tenant, no);
CREATE TABLE snapshots (               -- the active subscriptions that accepted events are fanned out to
    no INTEGER PRIMARY KEY,
    document TEXT NOT NULL
);
CREATE TABLE fan_outs (                -- how far a tenant's first events are, where that takes several pieces
    tenant TEXT PRIMARY KEY,
    last_no INTEGER NOT NULL,          -- of those events
    done INTEGER NOT NULL              -- how many recipients of their snapshot have theirs
);
CREATE INDEX dead_letters_by_event ON dead_letters (event_no);
"""

_VERSION_7 = """
CREATE TABLE topic_claims (            -- Pub/Sub topics, and the client that holds each
    topic TEXT PRIMARY KEY,            -- projects/P/topics/T
    tenant TEXT NOT NULL,
    client_id TEXT NOT NULL
);
INSERT OR IGNORE INTO topic_claims SELECT
    'projects/' || json_extract(document, '$.config.project_id')
    || '/topics/' || json_extract(document, '$.config.topic_id'),
    tenant, json_extract(document, '$.client_id') FROM subscriptions
    WHERE status IN ('active', 'suspended') AND json_extract(document, '$.type') = 'pubsub'
    ORDER BY status, no;
"""

_VERSION_8 = """
ALTER TABLE notifications ADD COLUMN subscriber_id TEXT NOT NULL DEFAULT '';
ALTER TABLE notifications ADD COLUMN is_held INTEGER NOT NULL DEFAULT 0;
UPDATE notifications SET subscriber_id = json_extract(document, '$.subscriber_id');
DROP INDEX notifications_by_time;
CREATE INDEX notifications_by_time ON notifications (due_at, subscriber_id, id);
CREATE INDEX notifications_held ON notifications (subscriber_id, id) WHERE is_held;
CREATE TABLE notification_counts (     -- what was sent to an address within an hour
    hour INTEGER NOT NULL,             -- since 1970
    key TEXT NOT NULL,                 -- a hash of the address, and of the owner
    count INTEGER NOT NULL,
    PRIMARY KEY (hour, key)
) WITHOUT ROWID;
"""

_VERSION_9 = """
ALTER TABLE notifications ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE notifications ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
UPDATE notifications SET tenant = json_extract(document, '$.tenant'),
    client_id = json_extract(document, '$.client_id');
CREATE INDEX notifications_by_owner ON notifications (tenant, client_id, subscriber_id, due_at, id);
DROP INDEX notifications_by_time;
CREATE INDEX notifications_by_time ON notifications (due_at);
"""

_VERSION_10 = """
ALTER TABLE snapshots ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX snapshots_by_tenant ON snapshots (tenant, client_id, bytes);
CREATE TABLE dead_events (             -- accepted events that our own code failed to fan out
    no INTEGER PRIMARY KEY,            -- as in `accepted`
    at REAL NOT NULL,
    error TEXT NOT NULL,
    tenant TEXT NOT NULL,
    accepted_at REAL NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    time TEXT NOT NULL,
    facts BLOB NOT NULL,
    data_json BLOB NOT NULL,
    identity TEXT NOT NULL,
    benchmark_client TEXT,
    is_due INTEGER NOT NULL DEFAULT 0  -- to be fanned out again
);
CREATE INDEX dead_events_due ON dead_events (no) WHERE is_due;
"""

_VERSION_11 = """
CREATE TABLE last_calls (              -- of each PIM by each way in; '' is of calls that were nobody's
    tenant TEXT NOT NULL,
    way TEXT NOT NULL,
    taken_at REAL,                     -- when events came last
    answered_at REAL,                  -- when a call was taken last, also one without events
    refused_at REAL,
    status INTEGER,
    reason TEXT,
    PRIMARY KEY (tenant, way)
) WITHOUT ROWID;
"""

_VERSION_12 = """
CREATE TABLE arrived (                 -- the last ids that came in; `seen` has the earlier ones
    no INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    at REAL NOT NULL
);
"""

_VERSION_13 = """
CREATE TABLE kept (                    -- accepted events, matched or not, for as long as AEP_KEEP says
    no INTEGER PRIMARY KEY,            -- even, in the order of acceptance; as in `accepted`
    tenant TEXT NOT NULL,
    accepted_at REAL NOT NULL,
    way TEXT NOT NULL,                 -- the ingest format that it came in
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    time TEXT NOT NULL,
    identity TEXT NOT NULL,            -- JSON
    identifier BLOB,                   -- of a product; UTF-8, which may hold halves of surrogate pairs
    data_json BLOB NOT NULL
);
CREATE TABLE courses (                 -- what became of each delivery of a kept event
    event_no INTEGER NOT NULL,         -- in `kept`
    subscription_no INTEGER NOT NULL,
    replay_no INTEGER NOT NULL DEFAULT 0,
    matched_at REAL,                   -- null: in the commit of acceptance
    attempts TEXT,                     -- that failed, as JSON: [at, outcome, reason, status, milliseconds]
    outcome TEXT,                      -- 'delivered' or 'ended'; null while it waits
    status INTEGER,                    -- of the last attempt, as are the next ones, or why it was not sent
    reason TEXT,
    message TEXT,
    milliseconds INTEGER,
    ended_at REAL,
    PRIMARY KEY (event_no, subscription_no, replay_no)
) WITHOUT ROWID;
CREATE TABLE kept_segments (           -- ranges of `kept` that are indexed; they are removed one by one
    no INTEGER PRIMARY KEY,
    first_no INTEGER NOT NULL,
    last_no INTEGER NOT NULL,
    first_at REAL NOT NULL,            -- the earliest and the latest time of acceptance
    last_at REAL NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE TABLE kept_index (              -- of each segment, the events that may have a key
    segment_no INTEGER NOT NULL,
    key INTEGER NOT NULL,
    entries BLOB NOT NULL,
    PRIMARY KEY (segment_no, key)
) WITHOUT ROWID;
"""

_VERSION_14 = """
CREATE TABLE replays (                 -- replays, and what suspended subscriptions have to catch up with
    no INTEGER PRIMARY KEY AUTOINCREMENT,  -- in the lanes of its deliveries, so it never comes again
    id TEXT NOT NULL UNIQUE,
    subscription_no INTEGER NOT NULL,
    kind TEXT NOT NULL,                -- 'replay' or 'catch_up'
    status TEXT NOT NULL,
    asked TEXT NOT NULL,               -- JSON
    first_no INTEGER NOT NULL,         -- of the kept events: behind this one
    last_no INTEGER NOT NULL,
    cursor_no INTEGER NOT NULL,        -- read up to here
    sent INTEGER NOT NULL DEFAULT 0,   -- deliveries
    delivered INTEGER NOT NULL DEFAULT 0,
    ended INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    created_at REAL NOT NULL,
    ended_at REAL
);
CREATE INDEX replays_by_subscription ON replays (subscription_no, no);
CREATE INDEX replays_running ON replays (no) WHERE status IN ('running', 'clearing');
ALTER TABLE deliveries ADD COLUMN entered_at REAL;
ALTER TABLE retries ADD COLUMN entered_at REAL;
ALTER TABLE dead_letters ADD COLUMN entered_at REAL;
"""

_VERSION_15 = """
CREATE TABLE last_failures (           -- of each subscription the last attempt that failed
    subscription_no INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    status INTEGER
);
"""

_VERSION_16 = """
CREATE TABLE feeds (                   -- PIMs whose REST API is asked for changes
    no INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,             -- another one with each change of the settings
    document TEXT NOT NULL             -- JSON, secrets sealed
);
CREATE TABLE feed_resources (          -- how far each resource has come
    tenant TEXT NOT NULL,
    resource TEXT NOT NULL,
    state TEXT NOT NULL,               -- JSON
    PRIMARY KEY (tenant, resource)
) WITHOUT ROWID;
CREATE TABLE feed_marks (              -- what was found of an entity last
    feed_no INTEGER NOT NULL,
    resource TEXT NOT NULL,
    key BLOB NOT NULL,                 -- 16 bytes of a hash of its identity
    created INTEGER,                   -- unix seconds
    updated INTEGER,
    digest BLOB,                       -- of an item without dates
    PRIMARY KEY (feed_no, resource, key)
) WITHOUT ROWID;
CREATE INDEX feed_marks_by_time ON feed_marks (feed_no, resource, updated);
"""

_VERSION_17 = """
CREATE TABLE feed_listed (             -- entities that sweeps have listed
    feed_no INTEGER NOT NULL,
    resource TEXT NOT NULL,
    identity TEXT NOT NULL,            -- JSON
    identifier TEXT,                   -- of a product
    sweep INTEGER NOT NULL,            -- the last one that listed it
    PRIMARY KEY (feed_no, resource, identity)
) WITHOUT ROWID;
"""

# A body that waits is in `events` only if its event is not kept (bodies.py). What is there stays until it is
# delivered; a fan-out that is under way does not hold bodies of kept events any longer.
_VERSION_18 = """
ALTER TABLE courses ADD COLUMN variant INTEGER;
UPDATE event_uses SET remaining = remaining - 1 WHERE event_no IN (
    SELECT e.no FROM fan_outs f
    CROSS JOIN accepted a ON a.tenant = f.tenant AND a.no <= f.last_no
    CROSS JOIN kept k ON k.no = a.no
    CROSS JOIN events e ON e.no IN (a.no, a.no + 1)
);
DELETE FROM events WHERE no IN (SELECT event_no FROM event_uses WHERE remaining <= 0);
DELETE FROM event_uses WHERE remaining <= 0;
"""

_VERSION_19 = """
DROP INDEX feed_marks_by_time;
DELETE FROM feed_marks;                -- whose keys were others; the feeds begin anew
DELETE FROM feed_resources;
"""

_VERSION_20 = """
CREATE TABLE ended_sessions (          -- of the console, ended before their time
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,              -- '' is the operator
    until REAL NOT NULL                -- when its cookie is no longer good
) WITHOUT ROWID;
CREATE INDEX ended_sessions_by_tenant ON ended_sessions (tenant, until);
"""

# So that those of an event type are found without their documents.
_VERSION_21 = """
ALTER TABLE subscriptions ADD COLUMN events TEXT AS (json_extract(document, '$.events')) VIRTUAL;
DROP INDEX subscriptions_by_tenant;
CREATE INDEX subscriptions_by_tenant ON subscriptions (tenant, status, events);
"""

MIGRATIONS: Sequence[str] = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    _VERSION_4,
    _VERSION_5,
    _VERSION_6,
    _VERSION_7,
    _VERSION_8,
    _VERSION_9,
    _VERSION_10,
    _VERSION_11,
    _VERSION_12,
    _VERSION_13,
    _VERSION_14,
    _VERSION_15,
    _VERSION_16,
    _VERSION_17,
    _VERSION_18,
    _VERSION_19,
    _VERSION_20,
    _VERSION_21,
)
"""The statements that lead from each version of the schema to the next, beginning with the empty file.

Only ever append to it. A statement ends with its line, so that each can be run alone inside one transaction.
"""
