-- What retention has removed of a job that ended, so that nobody looks for it any more.
ALTER TABLE jobs ADD COLUMN original_removed_at INTEGER;
ALTER TABLE jobs ADD COLUMN sidecars_removed_at INTEGER;
CREATE INDEX jobs_originals ON jobs (finished_at) WHERE finished_at IS NOT NULL AND original_removed_at IS NULL;
CREATE INDEX jobs_sidecars  ON jobs (finished_at) WHERE finished_at IS NOT NULL AND sidecars_removed_at IS NULL;
CREATE INDEX jobs_forgotten ON jobs (finished_at) WHERE finished_at IS NOT NULL AND original_removed_at IS NOT NULL;
-- Whether other jobs have the same bytes.
CREATE INDEX jobs_spool     ON jobs (spool)       WHERE original_removed_at IS NULL;
