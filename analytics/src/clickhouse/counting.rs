//! Questions: counts of whole days or hours from the projections, and single facts around them.
//!
//! A question names the table twice. Both must see the same parts, or a range that is inserted in between would
//! be seen in part: hence `enable_shared_storage_snapshot_in_query`.

use ::clickhouse::Row;
use ::clickhouse::query::Query;
use serde::Deserialize;
use types::{ConversationId, GroupId, Timestamp, UserId};
use uuid::Uuid;

use super::facts::{LAST_MS, NO_PEER};
use super::{Store, within};
use crate::span::{DAY_MS, HOUR_MS, Span};
use crate::{Bucket, Error, Filter, Ranked, Result};

/// The largest limit and offset, whose sum must be a number of the server's too.
const MOST_ROWS: u64 = 1 << 62;

/// Ids stand in the order of their bytes, which is that of their texts; ClickHouse's own order is another one.
const RANK_USERS: &str = "
    SELECT sender, sum(messages) AS total FROM (
        SELECT sender, count() AS messages FROM facts
        WHERE day >= {first:Int64} AND day < {end:Int64}
            AND ({region:Int32} < 0 OR region = {region:Int32}) AND direct <= {direct:Bool}
        GROUP BY sender
        UNION ALL
        SELECT sender, count() AS messages FROM facts
        WHERE (at >= fromUnixTimestamp64Milli({edge1:Int64}) AND at < fromUnixTimestamp64Milli({edge1_end:Int64})
            OR at >= fromUnixTimestamp64Milli({edge2:Int64}) AND at < fromUnixTimestamp64Milli({edge2_end:Int64}))
            AND ({region:Int32} < 0 OR region = {region:Int32}) AND direct <= {direct:Bool}
        GROUP BY sender
    ) GROUP BY sender ORDER BY total DESC, UUIDToNum(sender) LIMIT {limit:UInt64} OFFSET {offset:UInt64}";

/// A group has no peer and stands before all direct conversations whose first user bears the same number.
const RANK_CONVERSATIONS: &str = "
    SELECT conversation, peer, sum(messages) AS total FROM (
        SELECT conversation, peer, count() AS messages FROM facts
        WHERE day >= {first:Int64} AND day < {end:Int64}
            AND ({region:Int32} < 0 OR region = {region:Int32}) AND direct <= {direct:Bool}
        GROUP BY conversation, peer
        UNION ALL
        SELECT conversation, peer, count() AS messages FROM facts
        WHERE (at >= fromUnixTimestamp64Milli({edge1:Int64}) AND at < fromUnixTimestamp64Milli({edge1_end:Int64})
            OR at >= fromUnixTimestamp64Milli({edge2:Int64}) AND at < fromUnixTimestamp64Milli({edge2_end:Int64}))
            AND ({region:Int32} < 0 OR region = {region:Int32}) AND direct <= {direct:Bool}
        GROUP BY conversation, peer
    ) GROUP BY conversation, peer ORDER BY total DESC, UUIDToNum(conversation), UUIDToNum(peer)
    LIMIT {limit:UInt64} OFFSET {offset:UInt64}";

const COUNT_STEPS: &str = "
    SELECT intDiv(hour, {hours:Int64}) AS step, sum(messages) AS total FROM (
        SELECT hour, count() AS messages FROM facts
        WHERE hour >= {first:Int64} AND hour < {end:Int64}
            AND ({region:Int32} < 0 OR region = {region:Int32}) AND direct <= {direct:Bool}
        GROUP BY hour
        UNION ALL
        SELECT hour, count() AS messages FROM facts
        WHERE (at >= fromUnixTimestamp64Milli({edge1:Int64}) AND at < fromUnixTimestamp64Milli({edge1_end:Int64})
            OR at >= fromUnixTimestamp64Milli({edge2:Int64}) AND at < fromUnixTimestamp64Milli({edge2_end:Int64}))
            AND ({region:Int32} < 0 OR region = {region:Int32}) AND direct <= {direct:Bool}
        GROUP BY hour
    ) GROUP BY step ORDER BY step LIMIT {limit:UInt64}";

const COUNT_ALL: &str = "
    SELECT sum(messages) AS total FROM (
        SELECT count() AS messages FROM facts
        WHERE hour >= {first:Int64} AND hour < {end:Int64}
            AND ({region:Int32} < 0 OR region = {region:Int32}) AND direct <= {direct:Bool}
        UNION ALL
        SELECT count() AS messages FROM facts
        WHERE (at >= fromUnixTimestamp64Milli({edge1:Int64}) AND at < fromUnixTimestamp64Milli({edge1_end:Int64})
            OR at >= fromUnixTimestamp64Milli({edge2:Int64}) AND at < fromUnixTimestamp64Milli({edge2_end:Int64}))
            AND ({region:Int32} < 0 OR region = {region:Int32}) AND direct <= {direct:Bool}
    )";

#[derive(Row, Deserialize)]
struct OfUser {
    #[serde(with = "::clickhouse::serde::uuid")]
    sender: Uuid,
    total: u64,
}

#[derive(Row, Deserialize)]
struct OfConversation {
    #[serde(with = "::clickhouse::serde::uuid")]
    conversation: Uuid,
    #[serde(with = "::clickhouse::serde::uuid")]
    peer: Uuid,
    total: u64,
}

#[derive(Row, Deserialize)]
struct OfStep {
    step: i64,
    total: u64,
}

#[derive(Row, Deserialize)]
struct Total {
    total: u64,
}

impl Store {
    pub(super) async fn rank_users(&self, filter: &Filter, offset: u64, limit: usize) -> Result<Vec<Ranked<UserId>>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let rank = page(self.question(RANK_USERS, filter, DAY_MS), offset, limit);
        let rows: Vec<OfUser> = within(self.patience.question, rank.fetch_all()).await?;
        rows.into_iter().map(|row| Ok(Ranked { key: user(row.sender)?, messages: row.total })).collect()
    }

    pub(super) async fn rank_conversations(
        &self,
        filter: &Filter,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Ranked<ConversationId>>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let rank = page(self.question(RANK_CONVERSATIONS, filter, DAY_MS), offset, limit);
        let rows: Vec<OfConversation> = within(self.patience.question, rank.fetch_all()).await?;
        rows.into_iter().map(|row| Ok(Ranked { key: conversation(&row)?, messages: row.total })).collect()
    }

    pub(super) async fn count_steps(
        &self,
        filter: &Filter,
        bucket: Bucket,
        limit: usize,
    ) -> Result<Vec<Ranked<Timestamp>>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let step_ms = match bucket {
            Bucket::Hour => HOUR_MS,
            Bucket::Day => DAY_MS,
        };
        let count = page(self.question(COUNT_STEPS, filter, HOUR_MS), 0, limit).param("hours", step_ms / HOUR_MS);
        let rows: Vec<OfStep> = within(self.patience.question, count.fetch_all()).await?;
        let begins = |row: &OfStep| Timestamp::from_millis(row.step * step_ms);
        Ok(rows.iter().map(|row| Ranked { key: begins(row), messages: row.total }).collect())
    }

    pub(super) async fn count_all(&self, filter: &Filter) -> Result<u64> {
        let count = self.question(COUNT_ALL, filter, HOUR_MS);
        Ok(within(self.patience.question, count.fetch_one::<Total>()).await?.total)
    }

    /// A question over the filter's range, cut at multiples of `unit_ms`.
    fn question(&self, sql: &str, filter: &Filter, unit_ms: i64) -> Query {
        let Span { units, edges: [first, second], .. } = Span::cut(filter, unit_ms);
        // Beyond the last moment that the table can hold there is nothing to count.
        let bound = |ms: i64| ms.min(LAST_MS + 1);
        self.client
            .query(sql)
            .with_setting("enable_shared_storage_snapshot_in_query", "1")
            .with_setting("max_execution_time", self.patience.question.as_secs().max(1).to_string())
            .param("first", units.start)
            .param("end", units.end)
            .param("edge1", bound(first.start))
            .param("edge1_end", bound(first.end))
            .param("edge2", bound(second.start))
            .param("edge2_end", bound(second.end))
            .param("region", filter.region.map_or(-1, |region| i32::from(region.number())))
            .param("direct", filter.include_direct)
    }
}

fn page(question: Query, offset: u64, limit: usize) -> Query {
    let limit = u64::try_from(limit).unwrap_or(MOST_ROWS).min(MOST_ROWS);
    question.param("limit", limit).param("offset", offset.min(MOST_ROWS))
}

fn user(id: Uuid) -> Result<UserId> {
    UserId::from_bytes(id.into_bytes()).map_err(|_| Error::Damaged(format!("{id} is no user's id")))
}

fn conversation(row: &OfConversation) -> Result<ConversationId> {
    if row.peer.as_bytes() != &NO_PEER {
        return Ok(ConversationId::direct(user(row.conversation)?, user(row.peer)?));
    }
    let group = GroupId::from_bytes(row.conversation.into_bytes());
    Ok(group.map_err(|_| Error::Damaged(format!("{} is no group's id", row.conversation)))?.into())
}
