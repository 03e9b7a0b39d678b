-- Readings that the same bytes may be answered from: of accounts whose `duplicates` says so, and only while
-- the job is kept.
CREATE TABLE readings (
    job     TEXT PRIMARY KEY NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    account TEXT NOT NULL,
    spool   BLOB NOT NULL,                    -- sha256 of the document
    recipe  TEXT NOT NULL,                    -- engine, models, languages
    reading BLOB NOT NULL                     -- the worker's own form
) STRICT;
CREATE INDEX readings_document ON readings (account, spool, recipe, job);

-- Jobs that wait for a time to come (a retry's backoff) are parked: a claim must not walk over them, a hundred
-- thousand of them perhaps, to find one that is due. The claim that finds their time come takes the mark off.
ALTER TABLE jobs ADD COLUMN parked INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET parked = 1 WHERE state = 'queued' AND attempt > 0;
DROP INDEX jobs_queued;
CREATE INDEX jobs_queued  ON jobs (interruptions, id)  WHERE state = 'queued' AND parked = 0;
CREATE INDEX jobs_parked  ON jobs (due)                WHERE state = 'queued' AND parked = 1;
