-- One row per message that was sent. A range of the log comes as one insert, so as one part: there is no
-- PARTITION BY, which would cut it, and the token of an insert is known per partition.
CREATE TABLE IF NOT EXISTS facts (
    shard UInt16,
    seq UInt64 CODEC(Delta, ZSTD(1)),
    at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)), -- when it was said: when the log stored it, or before
    region UInt16, -- the sender's
    conversation UUID CODEC(ZSTD(1)), -- a group, or the first of two users
    peer UUID CODEC(ZSTD(1)), -- the second of two users; all zeros in a group
    sender UUID CODEC(ZSTD(1)),

    day Int64 ALIAS intDiv(toUnixTimestamp64Milli(at), 86400000), -- since 1970, UTC
    hour Int64 ALIAS intDiv(toUnixTimestamp64Milli(at), 3600000),
    direct Bool ALIAS peer != toUUID('00000000-0000-0000-0000-000000000000'),

    -- Counts of whole days and hours, kept with the rows of each part and merged with them.
    PROJECTION users_by_day (
        SELECT intDiv(toUnixTimestamp64Milli(at), 86400000) AS its_day, region,
            peer != toUUID('00000000-0000-0000-0000-000000000000') AS is_direct, sender, count()
        GROUP BY its_day, region, is_direct, sender
    ),
    PROJECTION conversations_by_day (
        SELECT intDiv(toUnixTimestamp64Milli(at), 86400000) AS its_day, region, conversation, peer, count()
        GROUP BY its_day, region, conversation, peer
    ),
    PROJECTION totals_by_hour (
        SELECT intDiv(toUnixTimestamp64Milli(at), 3600000) AS its_hour, region,
            peer != toUUID('00000000-0000-0000-0000-000000000000') AS is_direct, count()
        GROUP BY its_hour, region, is_direct
    ),
    PROJECTION ends_by_shard (
        SELECT shard, count(), min(seq), max(seq) GROUP BY shard
    )
)
ENGINE = {engine}
ORDER BY (region, at)
SETTINGS {window}, fsync_after_insert = 1, fsync_part_directory = 1;
