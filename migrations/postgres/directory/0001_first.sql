-- Times are milliseconds since 1970 in UTC.
-- `*_folded` holds a text in lower case, by which it is found and kept unique, in the order of its bytes.
-- `fingerprint` is the SHA-256 of what a record was created from: it tells a repeated command from another one.

CREATE TABLE users (
    id UUID NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    username_folded TEXT COLLATE "C" UNIQUE, -- NULL once deleted
    name TEXT NOT NULL,
    name_folded TEXT COLLATE "C", -- NULL once deleted
    email TEXT NOT NULL,
    email_folded TEXT COLLATE "C" UNIQUE, -- NULL once deleted
    picture TEXT,
    password_hash TEXT NOT NULL,
    roles TEXT NOT NULL, -- a JSON array of names
    fingerprint BYTEA NOT NULL, -- empty once deleted
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE INDEX users_by_name ON users (name_folded, username_folded);

-- Every user name that was ever given, and to whom: it is never given to anybody else.
CREATE TABLE usernames (
    folded TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id)
);

CREATE TABLE sessions (
    id UUID NOT NULL PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id),
    refresh_hash BYTEA NOT NULL, -- of the present token alone
    client TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    refreshed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_revocation ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE groups (
    id UUID NOT NULL PRIMARY KEY,
    name TEXT NOT NULL, -- empty once ended
    owner UUID NOT NULL REFERENCES users (id),
    members_count BIGINT NOT NULL,
    fingerprint BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    ended BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE members (
    group_id UUID NOT NULL REFERENCES groups (id),
    user_id UUID NOT NULL REFERENCES users (id),
    joined_at BIGINT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);

CREATE INDEX members_by_user ON members (user_id, group_id);
CREATE INDEX members_by_standing ON members (group_id, joined_at, user_id);

CREATE TABLE attachments (
    id UUID NOT NULL PRIMARY KEY,
    owner UUID NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size BIGINT NOT NULL, -- bytes
    width BIGINT, -- pixels
    height BIGINT, -- pixels
    fingerprint BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

-- Events on their way into the log, in order of `place`. The numbers of one conversation are given out under the
-- lock of its group, and so in the order of their commits.
CREATE TABLE outbox (
    place BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id UUID NOT NULL UNIQUE,
    conversation BYTEA NOT NULL, -- its key
    payload TEXT NOT NULL -- the event's JSON
);
