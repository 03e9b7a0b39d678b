-- Who is locked out for a while, for the operator to see; the daemon writes it, and clears it when it starts.
CREATE TABLE bans (
    account TEXT NOT NULL,                    -- '' for none
    address TEXT NOT NULL,                    -- '' for none
    reason  TEXT NOT NULL,
    since   INTEGER NOT NULL,
    until   INTEGER NOT NULL,
    PRIMARY KEY (account, address)
) STRICT, WITHOUT ROWID;
