-- What an operator wants done to jobs: written by the command line, carried out by the one process that
-- holds the queue, answered there, and taken away by who reads the answer.
CREATE TABLE orders (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    verb       TEXT NOT NULL CHECK (verb IN ('retry', 'cancel')),
    job        TEXT,                          -- NULL: every dead one
    ordered_at INTEGER NOT NULL,
    carried_out INTEGER NOT NULL DEFAULT 0,   -- 1: all of it
    jobs       INTEGER NOT NULL DEFAULT 0,    -- so many
    refusal    TEXT                           -- why a single one was not
) STRICT;
CREATE INDEX orders_open ON orders (id) WHERE carried_out = 0;
