//! The table of events: see `migrations/scylla/history/`.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join;
use scylla::DeserializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;
use types::{ConversationId, Entry, Epoch, Position, Timestamp};

use super::connection::Connection;
use super::stamp::{self, Bucket};
use crate::{Error, Message, Order, Result};

/// What an event is kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// A message, the first event of its id.
    Message = 0,
    /// Everything else, also what repeats an id or cannot be read.
    Other = 1,
}

impl Class {
    pub(super) const ALL: [Self; 2] = [Self::Message, Self::Other];

    pub(super) fn decode(class: i8) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|known| *known as i8 == class);
        known.ok_or_else(|| Error::Damaged(format!("an event is of the unknown class {class}")))
    }
}

/// Where an event is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bucket: Bucket,
    pub(super) class: Class,
    pub(super) seq: u64,
}

/// How many rows are named in one question. Servers answer no more than a hundred.
pub(super) const ROWS_NAMED: usize = 100;

/// Reads of events.
pub(super) struct Events {
    connection: Arc<Connection>,
    newest: PreparedStatement,
    oldest: PreparedStatement,
    named: PreparedStatement,
    first_time: PreparedStatement,
    last_time: PreparedStatement,
    entries: PreparedStatement,
    entry: PreparedStatement,
    last: PreparedStatement,
    epochs: PreparedStatement,
}

/// Rows of one partition.
#[derive(Clone, Copy)]
pub(super) struct Partition<'a> {
    pub(super) conversation: ConversationId,
    /// [`ConversationId::key`] of it.
    pub(super) key: &'a [u8],
    pub(super) bucket: Bucket,
}

const NEWEST: &str = "SELECT seq, at, payload, edited_at, edited_text, deleted_at FROM events \
    WHERE conversation = ? AND bucket = ? AND class = 0 AND seq >= ? AND seq < ? ORDER BY class ASC, seq DESC LIMIT ?";
const OLDEST: &str = "SELECT seq, at, payload, edited_at, edited_text, deleted_at FROM events \
    WHERE conversation = ? AND bucket = ? AND class = 0 AND seq >= ? AND seq < ? ORDER BY class DESC, seq ASC LIMIT ?";
const NAMED: &str = "SELECT seq, at, payload, edited_at, edited_text, deleted_at FROM events \
    WHERE conversation = ? AND bucket = ? AND class = 0 AND seq IN ?";
const FIRST_TIME: &str = "SELECT seq, at FROM events \
    WHERE conversation = ? AND bucket = ? AND class = 0 AND seq >= ? AND seq < ? ORDER BY class DESC, seq ASC LIMIT 1";
const LAST_TIME: &str = "SELECT seq, at FROM events \
    WHERE conversation = ? AND bucket = ? AND class = 0 AND seq >= ? AND seq < ? ORDER BY class ASC, seq DESC LIMIT 1";
const ENTRIES: &str = "SELECT seq, epoch, prev, at, payload FROM events \
    WHERE conversation = ? AND bucket = ? AND class = ? AND seq > ? AND seq <= ? \
    ORDER BY class DESC, seq ASC LIMIT ?";
const ENTRY: &str = "SELECT seq, epoch, prev, at, payload FROM events \
    WHERE conversation = ? AND bucket = ? AND class = ? AND seq = ?";
const LAST: &str = "SELECT seq FROM events \
    WHERE conversation = ? AND bucket = ? AND class = ? AND seq <= ? ORDER BY class ASC, seq DESC LIMIT 1";
const EPOCHS: &str = "SELECT seq, epoch FROM events \
    WHERE conversation = ? AND bucket = ? AND class = ? AND seq IN ?";

impl Events {
    pub(super) async fn prepare(connection: &Arc<Connection>) -> Result<Self> {
        Ok(Self {
            connection: Arc::clone(connection),
            newest: connection.prepare_read(NEWEST).await?,
            oldest: connection.prepare_read(OLDEST).await?,
            named: connection.prepare_read(NAMED).await?,
            first_time: connection.prepare_read(FIRST_TIME).await?,
            last_time: connection.prepare_read(LAST_TIME).await?,
            entries: connection.prepare_read(ENTRIES).await?,
            entry: connection.prepare_read(ENTRY).await?,
            last: connection.prepare_read(LAST).await?,
            epochs: connection.prepare_read(EPOCHS).await?,
        })
    }

    /// Messages at these places, at most `limit`, in order.
    pub(super) async fn messages(
        &self,
        partition: Partition<'_>,
        (seqs, order): (Range<u64>, Order),
        limit: usize,
    ) -> Result<Vec<Message>> {
        let statement = match order {
            Order::Desc => &self.newest,
            Order::Asc => &self.oldest,
        };
        let Partition { key, bucket, .. } = partition;
        let values = (key, bucket.0, stamp::number(seqs.start), stamp::number(seqs.end), rows(limit));
        partition.read_messages(self.connection.rows(statement, values).await?)
    }

    /// The messages at exactly these places, at most [`ROWS_NAMED`], in order.
    pub(super) async fn named(&self, partition: Partition<'_>, seqs: &[u64], order: Order) -> Result<Vec<Message>> {
        let numbers: Vec<i64> = seqs.iter().map(|seq| stamp::number(*seq)).collect();
        let rows = self.connection.rows(&self.named, (partition.key, partition.bucket.0, numbers)).await?;
        let mut messages = partition.read_messages(rows)?;
        messages.sort_unstable_by_key(|message| message.seq);
        if order == Order::Desc {
            messages.reverse();
        }
        Ok(messages)
    }

    /// The place and time of the first or the last message among these places.
    pub(super) async fn time(
        &self,
        partition: Partition<'_>,
        (seqs, order): (Range<u64>, Order),
    ) -> Result<Option<(u64, Timestamp)>> {
        let statement = match order {
            Order::Asc => &self.first_time,
            Order::Desc => &self.last_time,
        };
        let values = (partition.key, partition.bucket.0, stamp::number(seqs.start), stamp::number(seqs.end));
        let row: Option<(i64, CqlTimestamp)> = self.connection.row(statement, values).await?;
        row.map(|(seq, at)| Ok((stamp::seq(seq)?, stamp::from_cql(at)))).transpose()
    }

    /// Events of all kinds behind `after` and up to `last`, oldest first, at most `limit`.
    pub(super) async fn entries(
        &self,
        partition: Partition<'_>,
        (after, last): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let Partition { key, bucket, .. } = partition;
        let class = |class: Class| {
            let values = (key, bucket.0, class as i8, stamp::number(after), stamp::number(last), rows(limit));
            self.connection.rows::<EntryRow>(&self.entries, values)
        };
        let (messages, others) = try_join(class(Class::Message), class(Class::Other)).await?;
        let read = |row: EntryRow| row.read(partition.conversation).transpose();
        let mut entries = messages.into_iter().chain(others).filter_map(read).collect::<Result<Vec<_>>>()?;
        entries.sort_by_key(|entry| entry.position.seq);
        entries.dedup_by_key(|entry| entry.position.seq);
        entries.truncate(limit);
        Ok(entries)
    }

    /// The event at a place.
    pub(super) async fn entry(&self, conversation: ConversationId, place: Place) -> Result<Option<Entry>> {
        let Place { bucket, class, seq } = place;
        let values = (conversation.key(), bucket.0, class as i8, stamp::number(seq));
        let row: Option<EntryRow> = self.connection.row(&self.entry, values).await?;
        Ok(row.map(|row| row.read(conversation)).transpose()?.flatten())
    }

    /// The last place of an event up to and with `until`.
    pub(super) async fn last(&self, Partition { key, bucket, .. }: Partition<'_>, until: u64) -> Result<Option<u64>> {
        let class = |class: Class| {
            let values = (key, bucket.0, class as i8, stamp::number(until));
            self.connection.row::<(i64,)>(&self.last, values)
        };
        let (message, other) = try_join(class(Class::Message), class(Class::Other)).await?;
        message.max(other).map(|(seq,)| stamp::seq(seq)).transpose()
    }

    /// The logs that the events at these places come from, where there are any; at most [`ROWS_NAMED`].
    pub(super) async fn epochs(&self, partition: Partition<'_>, seqs: &[u64]) -> Result<Vec<(u64, Epoch)>> {
        let numbers: Vec<i64> = seqs.iter().map(|seq| stamp::number(*seq)).collect();
        let class = |class: Class| {
            let values = (partition.key, partition.bucket.0, class as i8, &numbers);
            self.connection.rows::<(i64, Option<i64>)>(&self.epochs, values)
        };
        let (messages, others) = try_join(class(Class::Message), class(Class::Other)).await?;
        let stored = messages.into_iter().chain(others).filter_map(|(seq, number)| Some((seq, number?)));
        stored.map(|(seq, number)| Ok((stamp::seq(seq)?, epoch(number)?))).collect()
    }
}

impl Partition<'_> {
    fn read_messages(self, rows: Vec<MessageRow>) -> Result<Vec<Message>> {
        rows.into_iter().filter_map(|row| row.read(self.conversation).transpose()).collect()
    }
}

/// A limit as the server takes it.
pub(super) fn rows(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

pub(super) fn epoch(number: i64) -> Result<Epoch> {
    u32::try_from(number).map(Epoch::new).map_err(|_| Error::Damaged(format!("a log is numbered {number}")))
}

#[derive(DeserializeRow)]
struct MessageRow {
    seq: i64,
    at: Option<CqlTimestamp>,
    payload: Option<Bytes>,
    edited_at: Option<CqlTimestamp>,
    edited_text: Option<String>,
    deleted_at: Option<CqlTimestamp>,
}

impl MessageRow {
    /// The message; `None` when only a change of it was written, and not yet itself.
    fn read(self, conversation: ConversationId) -> Result<Option<Message>> {
        let (Some(at), Some(payload)) = (self.at, self.payload) else { return Ok(None) };
        let deleted = self.deleted_at.map(|at| (stamp::from_cql(at), None));
        let edited = self.edited_at.map(|at| (stamp::from_cql(at), Some(self.edited_text.unwrap_or_default())));
        let place = (conversation, stamp::seq(self.seq)?);
        Message::present(place, stamp::from_cql(at), &payload, deleted.or(edited)).map(Some)
    }
}

#[derive(DeserializeRow)]
struct EntryRow {
    seq: i64,
    epoch: Option<i64>,
    prev: Option<i64>,
    at: Option<CqlTimestamp>,
    payload: Option<Bytes>,
}

impl EntryRow {
    fn read(self, conversation: ConversationId) -> Result<Option<Entry>> {
        let Self { seq, epoch: Some(number), prev: Some(prev), at: Some(at), payload: Some(payload) } = self else {
            return Ok(None);
        };
        let position = Position { epoch: epoch(number)?, seq: stamp::seq(seq)? };
        Ok(Some(Entry {
            conversation,
            position,
            prev: stamp::seq(prev)?,
            at: stamp::from_cql(at),
            payload,
            trace: None,
        }))
    }
}
