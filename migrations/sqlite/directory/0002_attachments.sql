-- Bytes that are on their way into the blob store: noted before the first of them is stored, so that whatever
-- breaks off can be found and removed.
CREATE TABLE uploads (
    id BLOB NOT NULL PRIMARY KEY, -- of the blob, or of what a link uploads
    owner BLOB NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    content_type TEXT, -- as the sender calls it
    size INTEGER, -- bytes; NULL while nobody knows
    attachment BLOB, -- what was made of it
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX uploads_by_time ON uploads (created_at);

-- The messages that an attachment was sent in: members of their conversations may download it.
CREATE TABLE attachment_messages (
    attachment BLOB NOT NULL REFERENCES attachments (id),
    message BLOB NOT NULL,
    conversation BLOB NOT NULL, -- its key
    PRIMARY KEY (attachment, message)
) STRICT, WITHOUT ROWID;

CREATE INDEX attachment_messages_by_message ON attachment_messages (message);

-- Since when no message has had it; NULL while one has.
ALTER TABLE attachments ADD COLUMN unsent_since INTEGER;

CREATE INDEX attachments_by_unsent ON attachments (unsent_since) WHERE unsent_since IS NOT NULL;

-- Blobs that nobody knows any more and that are to be removed from the blob store.
CREATE TABLE condemned_blobs (
    id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
