-- The refresh token of a session that was exchanged last. Until this moment it is exchanged once more, for a client whose
-- answer was lost. It is a table of its own and not two columns: a program that runs has asked for all columns of a
-- session before, and Postgres does not let what it has prepared give more of them.
CREATE TABLE spent_tokens (
    session_id BLOB NOT NULL PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    refresh_hash BLOB NOT NULL,
    good_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
