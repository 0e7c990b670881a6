-- A user holds a few names and no more: they are counted.
CREATE INDEX usernames_by_user ON usernames (user_id);
