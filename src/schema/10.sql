-- Who is told of a job's end beside its account's addresses: a request named them.
ALTER TABLE jobs ADD COLUMN email TEXT;

-- Requests that named themselves (Idempotency-Key): sent again, they find their job, as long as that is kept.
CREATE TABLE requests (
    account     TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,                -- sha256 of what it asked for
    job         TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_job ON requests (job);

-- What happened to jobs, for those who follow: as many of the latest as somebody who was away for a while may ask for.
CREATE TABLE job_events (
    number  INTEGER PRIMARY KEY,              -- the newest is never removed, so it only rises
    job     TEXT NOT NULL,
    account TEXT NOT NULL,
    state   TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX job_events_account ON job_events (account, number);
CREATE TRIGGER job_events_kept AFTER INSERT ON job_events BEGIN
    DELETE FROM job_events WHERE number <= new.number - 20000;
END;
CREATE TRIGGER jobs_came AFTER INSERT ON jobs BEGIN
    INSERT INTO job_events (job, account, state, at) VALUES (new.id, new.account, new.state, new.received_at);
END;
CREATE TRIGGER jobs_changed AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    INSERT INTO job_events (job, account, state, at)
    VALUES (new.id, new.account, new.state, coalesce(new.finished_at, CAST(unixepoch('subsec') * 1000 AS INTEGER)));
END;

-- The secret that signed links are made with, and those that hold no more before they expire.
CREATE TABLE link_secret (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    secret BLOB NOT NULL
) STRICT;
CREATE TABLE links_revoked (
    link       TEXT PRIMARY KEY NOT NULL,
    revoked_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL               -- after that the row says nothing more
) STRICT, WITHOUT ROWID;
