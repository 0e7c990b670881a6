-- Ids are the sixteen bytes of a UUIDv7, times are milliseconds since 1970 in UTC.
-- `*_folded` holds a text in lower case, by which it is found and kept unique.
-- `fingerprint` is the SHA-256 of what a record was created from: it tells a repeated command from another one.

CREATE TABLE users (
    id BLOB NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    username_folded TEXT UNIQUE, -- NULL once deleted
    name TEXT NOT NULL,
    name_folded TEXT, -- NULL once deleted
    email TEXT NOT NULL,
    email_folded TEXT UNIQUE, -- NULL once deleted
    picture TEXT,
    password_hash TEXT NOT NULL,
    roles TEXT NOT NULL, -- a JSON array of names
    fingerprint BLOB NOT NULL, -- empty once deleted
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX users_by_name ON users (name_folded, username_folded);

-- Every user name that was ever given, and to whom: it is never given to anybody else.
CREATE TABLE usernames (
    folded TEXT NOT NULL PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id BLOB NOT NULL PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id),
    refresh_hash BLOB NOT NULL, -- of the present token alone
    client TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    refreshed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_revocation ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE groups (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL, -- empty once ended
    owner BLOB NOT NULL REFERENCES users (id),
    members_count INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
    group_id BLOB NOT NULL REFERENCES groups (id),
    user_id BLOB NOT NULL REFERENCES users (id),
    joined_at INTEGER NOT NULL,
    PRIMARY KEY (group_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_by_user ON members (user_id, group_id);
CREATE INDEX members_by_standing ON members (group_id, joined_at, user_id);

CREATE TABLE attachments (
    id BLOB NOT NULL PRIMARY KEY,
    owner BLOB NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size INTEGER NOT NULL, -- bytes
    width INTEGER, -- pixels
    height INTEGER, -- pixels
    fingerprint BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events on their way into the log, in order of `place`.
CREATE TABLE outbox (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id BLOB NOT NULL UNIQUE,
    conversation BLOB NOT NULL, -- its key
    payload TEXT NOT NULL -- the event's JSON
) STRICT;
