-- Keys of the HTTP side. Of a bearer key only a hash of its secret is kept; a signing key's secret must be read
-- again, so it is sealed under a master key that does not lie in here.
CREATE TABLE keys (
    id           TEXT PRIMARY KEY NOT NULL,   -- key_ and a ULID
    account      TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('bearer', 'hmac')),
    label        TEXT NOT NULL,
    scopes       TEXT NOT NULL,               -- read,write,admin
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER                      -- to a minute or so
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_account ON keys (account, id);

CREATE TABLE key_secrets (
    key        TEXT NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,              -- the highest is the current one
    ends_at    INTEGER,                       -- of an older one's grace
    finder     BLOB,                          -- bearer: the hash's first 8 bytes
    hash       BLOB,                          -- bearer: sha256 of the secret
    master     BLOB,                          -- hmac: which master key sealed it
    sealed     BLOB,                          -- hmac
    PRIMARY KEY (key, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_secrets_finder ON key_secrets (finder) WHERE finder IS NOT NULL;

-- Which master key the daemon has: a command line that has another must not seal with it.
CREATE TABLE master_key (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    fingerprint BLOB NOT NULL
) STRICT;

-- An account of the same name that is made later is somebody else's.
CREATE TRIGGER keys_of_nobody AFTER DELETE ON accounts BEGIN
    UPDATE keys SET revoked_at = unixepoch() * 1000 WHERE account = old.name AND revoked_at IS NULL;
END;

-- Signed requests that were seen, until their time stamp is too old anyway: of v2 by their nonce, of v1 by
-- their signature, with the body that they came with.
CREATE TABLE signed_requests (
    key      TEXT NOT NULL,
    mark     TEXT NOT NULL,                   -- v2: and the nonce; v1: and the signature
    body     BLOB,                            -- v1: sha256
    ends_at  INTEGER NOT NULL,
    PRIMARY KEY (key, mark)
) STRICT, WITHOUT ROWID;
CREATE INDEX signed_requests_end ON signed_requests (ends_at);

-- Pages charged to an account on a UTC day, by the job that they are for. Made before the job; one whose job
-- never came is taken back.
CREATE TABLE charges (
    job     TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    day     INTEGER NOT NULL,                 -- since 1970
    pages   INTEGER NOT NULL,
    came    INTEGER NOT NULL DEFAULT 0        -- 1: the job was committed
) STRICT, WITHOUT ROWID;
CREATE INDEX charges_day    ON charges (day);
CREATE INDEX charges_orphan ON charges (job) WHERE came = 0;
CREATE TABLE charged_days (
    account TEXT NOT NULL,
    day     INTEGER NOT NULL,
    pages   INTEGER NOT NULL,
    PRIMARY KEY (account, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX charged_days_day ON charged_days (day);
CREATE TRIGGER charges_added AFTER INSERT ON charges BEGIN
    INSERT INTO charged_days (account, day, pages) VALUES (new.account, new.day, new.pages)
        ON CONFLICT (account, day) DO UPDATE SET pages = pages + new.pages;
END;
CREATE TRIGGER charges_changed AFTER UPDATE OF pages ON charges BEGIN
    UPDATE charged_days SET pages = pages + new.pages - old.pages WHERE account = new.account AND day = new.day;
END;
CREATE TRIGGER charges_removed AFTER DELETE ON charges BEGIN
    UPDATE charged_days SET pages = pages - old.pages WHERE account = old.account AND day = old.day;
END;
CREATE TRIGGER charges_job_came AFTER INSERT ON jobs BEGIN
    UPDATE charges SET came = 1 WHERE job = new.id;
END;
-- What could not be read costs nothing.
CREATE TRIGGER charges_job_failed AFTER UPDATE OF state ON jobs WHEN new.state IN ('rejected', 'dead') BEGIN
    UPDATE charges SET pages = 0 WHERE job = new.id;
END;
