-- Instants are milliseconds since 1970 in UTC; ids are ULIDs in text, so they sort by acceptance.

CREATE TABLE jobs (
    id            TEXT PRIMARY KEY NOT NULL,
    account       TEXT NOT NULL,
    path          TEXT NOT NULL,              -- as the client sees it
    spool         BLOB NOT NULL,              -- sha256
    bytes         INTEGER NOT NULL,
    door          TEXT NOT NULL,
    received_at   INTEGER NOT NULL,
    -- which file it was (job::FileIdentity)
    inode         INTEGER NOT NULL,
    modified_ns   INTEGER NOT NULL,
    file_bytes    INTEGER NOT NULL,
    -- job::state::Standing
    state         TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'rejected', 'dead')),
    due           INTEGER,                    -- queued
    token         INTEGER,                    -- running
    lease_until   INTEGER,                    -- running
    cause         TEXT,                       -- rejected: the code; dead: the reason
    attempt       INTEGER NOT NULL,
    interruptions INTEGER NOT NULL,
    claims        INTEGER NOT NULL,
    finished_at   INTEGER,
    error         TEXT
) STRICT, WITHOUT ROWID;

-- What a claim looks at stays as small as the work that is left.
CREATE INDEX jobs_queued     ON jobs (interruptions, id) WHERE state = 'queued';
CREATE INDEX jobs_running    ON jobs (lease_until)       WHERE state = 'running';
CREATE INDEX jobs_unfinished ON jobs (account, path, id) WHERE state IN ('queued', 'running');
-- What the doors and the status page ask.
CREATE INDEX jobs_file       ON jobs (account, inode, modified_ns);
CREATE INDEX jobs_path       ON jobs (account, path, id);
CREATE INDEX jobs_account    ON jobs (account, id);
CREATE INDEX jobs_state      ON jobs (state, id);

-- How many jobs stand where, kept while they change: counting a million rows is not a page view.
CREATE TABLE tally (
    state TEXT PRIMARY KEY NOT NULL,
    jobs  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO tally VALUES ('queued', 0), ('running', 0), ('done', 0), ('rejected', 0), ('dead', 0);
CREATE TRIGGER jobs_added AFTER INSERT ON jobs BEGIN
    UPDATE tally SET jobs = jobs + 1 WHERE state = new.state;
END;
CREATE TRIGGER jobs_moved AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE state = old.state;
    UPDATE tally SET jobs = jobs + 1 WHERE state = new.state;
END;
CREATE TRIGGER jobs_removed AFTER DELETE ON jobs BEGIN
    UPDATE tally SET jobs = jobs - 1 WHERE state = old.state;
END;

-- The outbox: job::delivery::DeliveryStanding, committed with the job's end.
CREATE TABLE deliveries (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    job          TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    recipient    TEXT NOT NULL,
    attachments  TEXT NOT NULL,               -- JSON: [[file name, sha256 in hex], ...]
    state        TEXT NOT NULL CHECK (state IN ('scheduled', 'sent', 'deferred', 'bounced')),
    attempts     INTEGER NOT NULL,
    scheduled_at INTEGER NOT NULL,
    due          INTEGER NOT NULL,
    error        TEXT
) STRICT;
CREATE INDEX deliveries_job  ON deliveries (job);
CREATE INDEX deliveries_open ON deliveries (due, id) WHERE state IN ('scheduled', 'deferred');

CREATE TABLE accounts (
    name       TEXT PRIMARY KEY NOT NULL,
    account    TEXT NOT NULL,                 -- account::Account as JSON
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
