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
