-- A client may give its upload another time of modification. While that is under way the file has the old
-- one or the new one, whenever the daemon is killed, so the row knows both.
ALTER TABLE jobs ADD COLUMN was_modified_ns INTEGER;
