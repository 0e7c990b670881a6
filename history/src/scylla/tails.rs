//! The table of tails: the end of what is stored of each conversation.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use scylla::DeserializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;
use types::{ConversationId, Position, Timestamp};

use super::connection::Connection;
use super::events::{ROWS_NAMED, epoch};
use super::stamp::{self, Bucket};
use crate::{End, Result};

/// Questions for many ends that are on their way at once.
const QUESTIONS_AT_ONCE: usize = 8;

/// A tail as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TailRow {
    pub(super) position: Position,
    pub(super) at: Timestamp,
    pub(super) last_message: Option<(Bucket, u64)>,
}

/// Reads and writes of tails.
pub(super) struct Tails {
    connection: Arc<Connection>,
    read: PreparedStatement,
    ends: PreparedStatement,
    write: PreparedStatement,
}

const READ: &str = "SELECT epoch, seq, at, last_message, last_message_bucket FROM tails WHERE conversation = ?";
const ENDS: &str = "SELECT conversation, epoch, seq, at FROM tails WHERE conversation IN ?";
const WRITE: &str = "INSERT INTO tails (conversation, epoch, seq, at, last_message, last_message_bucket) \
    VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

impl Tails {
    pub(super) async fn prepare(connection: &Arc<Connection>) -> Result<Self> {
        Ok(Self {
            connection: Arc::clone(connection),
            read: connection.prepare_read(READ).await?,
            ends: connection.prepare_read(ENDS).await?,
            write: connection.prepare_write(WRITE).await?,
        })
    }

    pub(super) async fn read(&self, conversation: ConversationId) -> Result<Option<TailRow>> {
        let row: Option<Row> = self.connection.row(&self.read, (conversation.key(),)).await?;
        row.map(Row::read).transpose()
    }

    /// Where conversations end, a hundred in one question.
    pub(super) async fn ends(&self, conversations: &[ConversationId]) -> Result<Vec<Option<End>>> {
        let keys: Vec<_> = conversations.iter().map(ConversationId::key).collect();
        let questions: Vec<_> = keys
            .chunks(ROWS_NAMED)
            .map(|keys| self.connection.rows::<(Vec<u8>, i64, i64, CqlTimestamp)>(&self.ends, (keys,)))
            .collect();
        let answers: Vec<_> = stream::iter(questions).buffer_unordered(QUESTIONS_AT_ONCE).try_collect().await?;
        let mut ends: HashMap<Vec<u8>, End> = HashMap::with_capacity(keys.len());
        for (key, number, seq, at) in answers.into_iter().flatten() {
            let position = Position { epoch: epoch(number)?, seq: stamp::seq(seq)? };
            ends.insert(key, End { position, at: stamp::from_cql(at) });
        }
        Ok(keys.iter().map(|key| ends.get(&key[..]).copied()).collect())
    }

    /// Writes all of it, so that two readers' tails are never mixed into one. The greatest `seq` wins.
    pub(super) async fn write(&self, conversation: ConversationId, tail: &TailRow) -> Result<()> {
        let Position { epoch, seq } = tail.position;
        let (bucket, last_message) = tail.last_message.unwrap_or((Bucket::FIRST, 0));
        let values = (
            conversation.key(),
            i64::from(epoch.number()),
            stamp::number(seq),
            stamp::to_cql(tail.at),
            stamp::number(last_message),
            bucket.0,
            stamp::last_wins(seq),
        );
        self.connection.write(&self.write, values).await
    }
}

#[derive(DeserializeRow)]
struct Row {
    epoch: i64,
    seq: i64,
    at: CqlTimestamp,
    last_message: i64,
    last_message_bucket: i32,
}

impl Row {
    fn read(self) -> Result<TailRow> {
        let last_message = match stamp::seq(self.last_message)? {
            0 => None,
            seq => Some((Bucket(self.last_message_bucket), seq)),
        };
        let position = Position { epoch: epoch(self.epoch)?, seq: stamp::seq(self.seq)? };
        Ok(TailRow { position, at: stamp::from_cql(self.at), last_message })
    }
}
