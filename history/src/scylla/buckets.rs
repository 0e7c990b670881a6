//! Which buckets a conversation has, and which of them hold messages of a sender.

use std::collections::VecDeque;
use std::sync::Arc;

use scylla::statement::prepared::PreparedStatement;
use types::UserId;

use super::connection::Connection;
use super::stamp::{self, Bucket};
use crate::{Order, Result};

/// Buckets that are looked up at a time.
const BUCKETS_LISTED: i32 = 16;
/// Buckets that are read at once, at most.
const LONGEST_WAVE: usize = 8;

/// Reads of buckets.
pub(super) struct Buckets {
    connection: Arc<Connection>,
    newest: PreparedStatement,
    oldest: PreparedStatement,
    start: PreparedStatement,
}

const NEWEST: &str = "SELECT bucket FROM buckets \
    WHERE conversation = ? AND sender = ? AND bucket >= ? AND bucket <= ? ORDER BY bucket DESC LIMIT ?";
const OLDEST: &str = "SELECT bucket FROM buckets \
    WHERE conversation = ? AND sender = ? AND bucket >= ? AND bucket <= ? ORDER BY bucket ASC LIMIT ?";
const START: &str = "SELECT bucket FROM bucket_starts \
    WHERE conversation = ? AND first_seq <= ? ORDER BY first_seq DESC LIMIT 1";

impl Buckets {
    pub(super) async fn prepare(connection: &Arc<Connection>) -> Result<Self> {
        Ok(Self {
            connection: Arc::clone(connection),
            newest: connection.prepare_read(NEWEST).await?,
            oldest: connection.prepare_read(OLDEST).await?,
            start: connection.prepare_read(START).await?,
        })
    }

    /// The bucket of the event at `seq`, or of the last one before it.
    pub(super) async fn of(&self, key: &[u8], seq: u64) -> Result<Option<Bucket>> {
        let row: Option<(i32,)> = self.connection.row(&self.start, (key, stamp::number(seq))).await?;
        Ok(row.map(|(bucket,)| Bucket(bucket)))
    }
}

/// A walk over the buckets of a conversation, or of one sender in it.
pub(super) struct Walk<'a> {
    pub(super) key: &'a [u8],
    pub(super) sender: Option<UserId>,
    pub(super) order: Order,
    /// What is not yet listed: both ends count.
    pub(super) from: Bucket,
    pub(super) to: Bucket,
    listed: VecDeque<Bucket>,
    wave: usize,
    is_done: bool,
}

impl<'a> Walk<'a> {
    /// From and to with both ends.
    pub(super) fn new(key: &'a [u8], sender: Option<UserId>, (from, to): (Bucket, Bucket), order: Order) -> Self {
        Self { key, sender, order, from, to, listed: VecDeque::new(), wave: 1, is_done: from > to }
    }

    /// The buckets that are to be read next, at once: first one, for it mostly suffices, then more and more, so that
    /// a page of few messages over a long time takes few round trips. Empty at the end.
    pub(super) async fn next(&mut self, buckets: &Buckets) -> Result<Vec<Bucket>> {
        if self.listed.is_empty() && !self.is_done {
            self.list(buckets).await?;
        }
        let wave = self.wave.min(self.listed.len());
        self.wave = (self.wave * 2).min(LONGEST_WAVE);
        Ok(self.listed.drain(..wave).collect())
    }

    async fn list(&mut self, buckets: &Buckets) -> Result<()> {
        let statement = match self.order {
            Order::Desc => &buckets.newest,
            Order::Asc => &buckets.oldest,
        };
        let values = (self.key, sender_key(self.sender.as_ref()), self.from.0, self.to.0, BUCKETS_LISTED);
        let rows: Vec<(i32,)> = buckets.connection.rows(statement, values).await?;
        self.is_done = rows.len() < usize::try_from(BUCKETS_LISTED).unwrap_or_default();
        if let Some((last,)) = rows.last() {
            match self.order {
                Order::Desc => self.to = Bucket(last.saturating_sub(1)),
                Order::Asc => self.from = Bucket(last.saturating_add(1)),
            }
        }
        self.listed = rows.into_iter().map(|(bucket,)| Bucket(bucket)).collect();
        Ok(())
    }
}

/// A sender as it is kept; everybody is the empty one.
pub(super) fn sender_key(sender: Option<&UserId>) -> &[u8] {
    sender.map_or(&[], |sender| sender.as_bytes())
}
