//! The rows of facts: how they are inserted and read back.
//!
//! An insert becomes one part, which readers see whole or not at all: a range is below every bound at which the
//! server cuts a block, one thread writes, and the table has no partitions. An answer of the server's own
//! asynchronous inserts would come before the rows are there, so they are switched off.

use ::clickhouse::Row;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use types::{ConversationId, Timestamp};

use super::ranges::Pending;
use super::{Store, within};
use crate::{Error, Fact, Result};

/// The last moment that the table can hold, in milliseconds since 1970: the end of the year 2299.
pub(super) const LAST_MS: i64 = 10_413_791_999_999;
/// How long after it was made an insert is still taken, in milliseconds. Longer than anybody waits for the
/// answer; short enough for the server to remember every token that is younger.
const FRESH_MS: i64 = 60_000;
/// The size of a row in the format that the server reads.
const ROW_BYTES: usize = 2 + 8 + 8 + 2 + 3 * 16;
/// What stands for the second user in a group.
pub(super) const NO_PEER: [u8; 16] = [0; 16];

/// Not `now()`, which is the moment when the request began: this looks when the rows have come.
const INSERT: &str = "
    INSERT INTO facts (shard, seq, at, region, conversation, peer, sender)
    SELECT shard, seq, at, region, conversation, peer, sender FROM input('
        shard UInt16, seq UInt64, at DateTime64(3, ''UTC''), region UInt16, conversation UUID, peer UUID, sender UUID')
    WHERE throwIf(nowInBlock() > fromUnixTimestamp64Milli({deadline:Int64}), 'it came too late') = 0
    FORMAT RowBinary";

/// Settings that hold an insert together, whatever the server's own are.
const SETTINGS: [(&str, &str); 7] = [
    ("async_insert", "0"),
    ("deduplicate_insert", "enable"),
    ("max_insert_threads", "1"),
    ("max_threads", "1"),
    ("max_insert_block_size", "1048576"),
    ("min_insert_block_size_rows", "1048576"),
    ("min_insert_block_size_bytes", "268435456"),
];

const READ_BACK: &str = "
    SELECT count() AS rows, uniqExact(seq) AS facts, max(seq) AS last_seq FROM facts
    WHERE shard = {shard:UInt16} AND seq > {after:UInt64} AND seq <= {through:UInt64}
        AND at >= fromUnixTimestamp64Milli({first:Int64}) AND at <= fromUnixTimestamp64Milli({last:Int64})";

const LAST_SEQ: &str = "SELECT max(seq) AS seq FROM facts WHERE shard = {shard:UInt16}";

const UNDER_WAY: &str = "
    SELECT count() AS queries FROM system.processes WHERE Settings['insert_deduplication_token'] = {token:String}";

/// Waits until this replica has what others have taken.
const CATCH_UP: &str = "SYSTEM SYNC REPLICA facts LIGHTWEIGHT";

/// What of a pending range is there.
#[derive(Debug, PartialEq, Eq, Row, Deserialize)]
pub(super) struct Found {
    rows: u64,
    facts: u64,
    last_seq: u64,
}

#[derive(Row, Deserialize)]
struct Seq {
    seq: u64,
}

#[derive(Row, Deserialize)]
struct Queries {
    queries: u64,
}

impl Found {
    /// Where the range that is there ends; `None` when nothing is. Rows are of one insert, which held all facts
    /// up to its end: of the pending range, of `ours`, or of another recorder that settled and did not say.
    pub(super) fn end(&self, pending: &Pending, ours: Option<(&[Fact], u64)>) -> Option<u64> {
        if self.rows == 0 {
            return None;
        }
        if self.rows == pending.facts {
            return Some(pending.through_seq);
        }
        if let Some((facts, through_seq)) = ours {
            let is_ours = facts.len() as u64 == self.rows && facts.last().map(|fact| fact.seq) == Some(self.last_seq);
            if is_ours {
                return Some(through_seq);
            }
        }
        Some(self.last_seq)
    }
}

impl Store {
    /// Inserts facts of a shard under a token. An error does not tell whether they will be there.
    pub(super) async fn insert(&self, shard: u16, facts: &[Fact], token: &str) -> Result<()> {
        let deadline_ms = Timestamp::now().as_millis() + FRESH_MS;
        self.insert_until(deadline_ms, shard, facts, token).await
    }

    /// Inserts facts if the server has them before a moment, in milliseconds since 1970.
    pub(super) async fn insert_until(&self, deadline_ms: i64, shard: u16, facts: &[Fact], token: &str) -> Result<()> {
        let mut insert = self.client.insert_formatted_with(INSERT);
        for (name, value) in SETTINGS {
            insert = insert.with_setting(name, value);
        }
        let mut insert = insert
            .with_setting("insert_deduplication_token", token)
            .with_setting("param_deadline", deadline_ms.to_string())
            .with_timeouts(Some(self.patience.send), Some(self.patience.insert));
        within(self.patience.send + self.patience.insert, async {
            insert.send(encode(shard, facts)).await?;
            insert.end().await
        })
        .await
    }

    /// Looks for the rows of a pending range behind `after_seq`.
    pub(super) async fn read_back(&self, shard: u16, after_seq: u64, pending: &Pending) -> Result<Found> {
        let read_back = self
            .client
            .query(READ_BACK)
            .param("shard", shard)
            .param("after", after_seq)
            .param("through", pending.through_seq)
            .param("first", pending.first_ms)
            .param("last", pending.last_ms);
        let found: Found = within(self.patience.question, read_back.fetch_one()).await?;
        if found.rows != found.facts || found.rows > pending.facts {
            return Err(Error::Damaged(format!(
                "shard {shard} has {} rows of {} facts behind {after_seq}, where {} facts were to be",
                found.rows, found.facts, pending.facts
            )));
        }
        Ok(found)
    }

    /// The last `seq` of all rows of a shard, 0 when there are none.
    pub(super) async fn last_seq(&self, shard: u16) -> Result<u64> {
        let last_seq = self.client.query(LAST_SEQ).param("shard", shard);
        Ok(within(self.patience.question, last_seq.fetch_one::<Seq>()).await?.seq)
    }

    /// Whether the server is carrying out an insert under a token now.
    pub(super) async fn is_under_way(&self, token: &str) -> Result<bool> {
        let under_way = self.client.query(UNDER_WAY).param("token", token);
        Ok(within(self.patience.question, under_way.fetch_one::<Queries>()).await?.queries > 0)
    }

    /// Makes sure that what was inserted anywhere is seen here.
    pub(super) async fn catch_up(&self) -> Result<()> {
        if !self.replicated {
            return Ok(());
        }
        within(self.patience.question, self.client.query(CATCH_UP).execute()).await
    }
}

/// A moment as the table holds it.
pub(super) fn to_ms(at: Timestamp) -> i64 {
    at.as_millis().min(LAST_MS)
}

fn encode(shard: u16, facts: &[Fact]) -> Bytes {
    let mut rows = BytesMut::with_capacity(facts.len() * ROW_BYTES);
    for fact in facts {
        let (conversation, peer) = match &fact.conversation {
            ConversationId::Group(group) => (group.as_bytes(), &NO_PEER),
            ConversationId::Direct(first, second) => (first.as_bytes(), second.as_bytes()),
        };
        rows.put_u16_le(shard);
        rows.put_u64_le(fact.seq);
        rows.put_i64_le(to_ms(fact.at));
        rows.put_u16_le(fact.region.number());
        for id in [conversation, peer, fact.sender.as_bytes()] {
            put_uuid(&mut rows, id);
        }
    }
    rows.freeze()
}

/// ClickHouse writes a UUID as two numbers, the higher half first, each with its lowest byte first.
fn put_uuid(rows: &mut BytesMut, id: &[u8; 16]) {
    let number = u128::from_be_bytes(*id);
    for half in [number >> 64, number & u128::from(u64::MAX)] {
        rows.put_u64_le(u64::try_from(half).unwrap_or_default());
    }
}
