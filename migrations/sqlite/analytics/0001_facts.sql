-- How far each shard of the log has been recorded.
CREATE TABLE shards (
    shard INTEGER PRIMARY KEY,
    recorded_seq INTEGER NOT NULL
) STRICT;

-- Facts as they came, a row per range and not counted anywhere else. Settling empties the table, so the
-- newest `id` is the number of rows, and its `bytes_through` the length of all of them.
CREATE TABLE recent_facts (
    id INTEGER PRIMARY KEY,
    bytes_through INTEGER NOT NULL,
    facts BLOB NOT NULL
) STRICT;

-- Facts that the counts below hold too, in order of time. No row goes beyond one day UTC.
CREATE TABLE settled_facts (
    id INTEGER PRIMARY KEY,
    first_at INTEGER NOT NULL, -- milliseconds since 1970, like all times here
    last_at INTEGER NOT NULL,
    facts BLOB NOT NULL
) STRICT;

CREATE INDEX settled_facts_by_time ON settled_facts (first_at, last_at);

-- Messages per day and user (subject 0) or conversation (subject 1). The ids' bytes sort as their texts do.
CREATE TABLE day_counts (
    subject INTEGER NOT NULL,
    day INTEGER NOT NULL, -- since 1970
    region INTEGER NOT NULL,
    direct INTEGER NOT NULL, -- 1 in direct conversations, 0 in groups
    id BLOB NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (subject, day, region, direct, id)
) STRICT, WITHOUT ROWID;

-- Messages per hour.
CREATE TABLE hour_counts (
    hour INTEGER NOT NULL, -- since 1970
    region INTEGER NOT NULL,
    direct INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (hour, region, direct)
) STRICT, WITHOUT ROWID;
