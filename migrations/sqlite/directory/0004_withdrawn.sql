-- Messages that had an attachment and were deleted: sent again, one does not open it again. It is a table of its own and not
-- a mark, so that a program that does not know of it goes on counting only messages that are there.
CREATE TABLE withdrawn_messages (
    attachment BLOB NOT NULL REFERENCES attachments (id) ON DELETE CASCADE,
    message BLOB NOT NULL,
    PRIMARY KEY (attachment, message)
) STRICT, WITHOUT ROWID;
