-- Accounts may be kept for different times: retention walks each one's ended jobs by their age. The id stands in
-- every index of this table behind what is named.
DROP INDEX jobs_originals;
DROP INDEX jobs_sidecars;
DROP INDEX jobs_forgotten;
CREATE INDEX jobs_originals ON jobs (account, finished_at) WHERE finished_at IS NOT NULL AND original_removed_at IS NULL;
CREATE INDEX jobs_sidecars  ON jobs (account, finished_at) WHERE finished_at IS NOT NULL AND sidecars_removed_at IS NULL;
CREATE INDEX jobs_forgotten ON jobs (account, finished_at) WHERE finished_at IS NOT NULL AND original_removed_at IS NOT NULL;
