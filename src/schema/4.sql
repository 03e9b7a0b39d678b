-- Accounts take turns: the one whose turn comes first and that has a job due is served (queue/turns.rs).
CREATE TABLE turns (
    account TEXT PRIMARY KEY NOT NULL,
    queued  INTEGER NOT NULL,                 -- jobs, kept by triggers
    turn    INTEGER NOT NULL DEFAULT 0,       -- when its next one is, in no unit of time
    served  INTEGER NOT NULL DEFAULT 0,       -- when its last one was
    step    INTEGER NOT NULL DEFAULT 4        -- between two of its own: small for a high priority
) STRICT, WITHOUT ROWID;
CREATE INDEX turns_waiting ON turns (turn, account) WHERE queued > 0;
CREATE INDEX turns_served  ON turns (served);
INSERT INTO turns (account, queued) SELECT account, count(*) FROM jobs WHERE state = 'queued' GROUP BY account;
CREATE TRIGGER turns_added AFTER INSERT ON jobs WHEN new.state = 'queued' BEGIN
    INSERT INTO turns (account, queued) VALUES (new.account, 1) ON CONFLICT (account) DO UPDATE SET queued = queued + 1;
END;
CREATE TRIGGER turns_left AFTER UPDATE OF state ON jobs WHEN old.state = 'queued' AND new.state <> 'queued' BEGIN
    UPDATE turns SET queued = queued - 1 WHERE account = new.account;
END;
CREATE TRIGGER turns_came_back AFTER UPDATE OF state ON jobs WHEN old.state <> 'queued' AND new.state = 'queued' BEGIN
    INSERT INTO turns (account, queued) VALUES (new.account, 1) ON CONFLICT (account) DO UPDATE SET queued = queued + 1;
END;
CREATE TRIGGER turns_removed AFTER DELETE ON jobs WHEN old.state = 'queued' BEGIN
    UPDATE turns SET queued = queued - 1 WHERE account = old.account;
END;

-- What an account's turn looks at: its jobs in the order in which they fall due.
DROP INDEX jobs_queued;
CREATE INDEX jobs_line ON jobs (account, interruptions, due, id) WHERE state = 'queued';
