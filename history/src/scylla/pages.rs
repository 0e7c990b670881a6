//! Pages of messages and of events, gathered bucket by bucket.

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::try_join_all;
use scylla::statement::prepared::PreparedStatement;
use types::{ConversationId, Entry, Timestamp, UserId};

use super::buckets::{Buckets, Walk};
use super::connection::Connection;
use super::events::{self, Events, Partition, ROWS_NAMED};
use super::stamp::{self, Bucket};
use crate::{Message, Order, Page, Result};

/// Reads of pages.
pub(super) struct Pages {
    connection: Arc<Connection>,
    pub(super) events: Arc<Events>,
    pub(super) buckets: Arc<Buckets>,
    sent_newest: PreparedStatement,
    sent_oldest: PreparedStatement,
}

const SENT_NEWEST: &str = "SELECT seq FROM sent \
    WHERE conversation = ? AND bucket = ? AND sender = ? AND seq >= ? AND seq < ? ORDER BY sender ASC, seq DESC LIMIT ?";
const SENT_OLDEST: &str = "SELECT seq FROM sent \
    WHERE conversation = ? AND bucket = ? AND sender = ? AND seq >= ? AND seq < ? ORDER BY sender DESC, seq ASC LIMIT ?";

impl Pages {
    pub(super) async fn prepare(connection: &Arc<Connection>, events: Arc<Events>) -> Result<Self> {
        Ok(Self {
            connection: Arc::clone(connection),
            events,
            buckets: Arc::new(Buckets::prepare(connection).await?),
            sent_newest: connection.prepare_read(SENT_NEWEST).await?,
            sent_oldest: connection.prepare_read(SENT_OLDEST).await?,
        })
    }

    /// See [`crate::History::messages`].
    pub(super) async fn messages(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>> {
        let end = page.before_seq.unwrap_or(u64::MAX);
        let start = page.after_seq.map_or(0, |seq| seq.saturating_add(1));
        if start >= end || page.limit == 0 {
            return Ok(Vec::new());
        }
        let key = conversation.key();
        let mut reader = PageReader { pages: self, conversation, key: &key, page, seqs: start..end };
        reader.skip_what_is_too_old().await?;
        reader.read().await
    }

    /// Events of all kinds after `after_seq` and up to `last_seq`, at most `limit`.
    pub(super) async fn events(
        &self,
        conversation: ConversationId,
        (after_seq, last_seq): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let key = conversation.key();
        let from = self.buckets.of(&key, after_seq.saturating_add(1)).await?.unwrap_or(Bucket::FIRST);
        let mut walk = Walk::new(&key, None, (from, Bucket::LAST), Order::Asc);
        let mut entries = Vec::new();
        loop {
            let wave = walk.next(&self.buckets).await?;
            let left = limit - entries.len();
            if wave.is_empty() || left == 0 {
                return Ok(entries);
            }
            let reads = wave.into_iter().map(|bucket| {
                let partition = Partition { conversation, key: &key, bucket };
                self.events.entries(partition, (after_seq, last_seq), left)
            });
            entries.extend(try_join_all(reads).await?.into_iter().flatten());
            entries.truncate(limit);
        }
    }
}

/// The ends of what lies before a place.
impl Pages {
    /// The last event of any kind up to and with `until`, which must be stored whole up to there; 0 where there is none.
    pub(super) async fn last_seq(&self, conversation: ConversationId, until: u64) -> Result<u64> {
        let key = conversation.key();
        let Some(bucket) = self.buckets.of(&key, until).await? else { return Ok(0) };
        Ok(self.events.last(Partition { conversation, key: &key, bucket }, until).await?.unwrap_or(0))
    }
}

/// One page on its way.
struct PageReader<'a> {
    pages: &'a Pages,
    conversation: ConversationId,
    key: &'a [u8],
    page: &'a Page,
    /// Only messages at these places.
    seqs: Range<u64>,
}

impl PageReader<'_> {
    async fn read(&self) -> Result<Vec<Message>> {
        let page = self.page;
        let mut walk = Walk::new(self.key, page.sender, self.bounds().await?, page.order);
        let mut messages: Vec<Message> = Vec::new();
        loop {
            let wave = walk.next(&self.pages.buckets).await?;
            let left = page.limit - messages.len();
            if wave.is_empty() || left == 0 {
                return Ok(messages);
            }
            let reads = wave.into_iter().map(|bucket| self.read_bucket(bucket, left));
            let read = try_join_all(reads).await?.into_iter().flatten().take(left);
            // Newest first, whatever follows one that is too old is older still. Oldest first, the page begins behind those.
            let since = page.since.filter(|_| page.order == Order::Desc);
            messages.extend(read.take_while(|message| since.is_none_or(|since| message.created_at >= since)));
        }
    }

    /// The first and the last bucket that may hold a message of the page.
    async fn bounds(&self) -> Result<(Bucket, Bucket)> {
        let buckets = &self.pages.buckets;
        let mut from = self.page.since.map_or(Bucket::FIRST, Bucket::of);
        if self.seqs.start > 0 {
            from = from.max(buckets.of(self.key, self.seqs.start).await?.unwrap_or(Bucket::FIRST));
        }
        let to = match self.page.before_seq {
            None => Some(Bucket::LAST),
            Some(_) => buckets.of(self.key, self.seqs.end - 1).await?,
        };
        // Nothing lies before the first bucket.
        Ok(to.map_or((Bucket::LAST, Bucket::FIRST), |to| (from, to)))
    }

    async fn read_bucket(&self, bucket: Bucket, limit: usize) -> Result<Vec<Message>> {
        let (events, order, seqs) = (&self.pages.events, self.page.order, self.seqs.clone());
        let partition = Partition { conversation: self.conversation, key: self.key, bucket };
        let Some(sender) = self.page.sender else {
            return events.messages(partition, (seqs, order), limit).await;
        };
        let seqs = self.sent(bucket, sender, limit).await?;
        let reads = seqs.chunks(ROWS_NAMED).map(|seqs| events.named(partition, seqs, order));
        Ok(try_join_all(reads).await?.concat())
    }

    /// Where in a bucket a sender's messages are, in order.
    async fn sent(&self, bucket: Bucket, sender: UserId, limit: usize) -> Result<Vec<u64>> {
        let statement = match self.page.order {
            Order::Desc => &self.pages.sent_newest,
            Order::Asc => &self.pages.sent_oldest,
        };
        let (start, end) = (stamp::number(self.seqs.start), stamp::number(self.seqs.end));
        let values = (self.key, bucket.0, sender.as_bytes(), start, end, events::rows(limit));
        let rows: Vec<(i64,)> = self.pages.connection.rows(statement, values).await?;
        rows.into_iter().map(|(seq,)| stamp::seq(seq)).collect()
    }

    /// Oldest first, a page that is bounded by time begins somewhere in the middle of a bucket. As times grow with
    /// `seq`, that place is found in as many steps as the bucket has binary digits, without an index. (Newest first
    /// it needs no finding: the page ends there.)
    async fn skip_what_is_too_old(&mut self) -> Result<()> {
        let Some(since) = self.page.since.filter(|_| self.page.order == Order::Asc) else { return Ok(()) };
        let Some((last, last_at)) = self.time(since, self.seqs.clone(), Order::Desc).await? else { return Ok(()) };
        if last_at < since {
            self.seqs.start = last + 1;
            return Ok(());
        }
        let Some((mut first, first_at)) = self.time(since, self.seqs.clone(), Order::Asc).await? else { return Ok(()) };
        if first_at >= since {
            return Ok(());
        }
        // Too old is `first`, and not too old is `end`.
        let mut end = last;
        while end - first > 1 {
            let middle = first + (end - first) / 2;
            match self.time(since, middle..end, Order::Asc).await? {
                Some((seq, at)) if at < since => first = seq,
                Some((seq, _)) if middle == seq => end = seq,
                _ => end = middle,
            }
        }
        self.seqs.start = first + 1;
        Ok(())
    }

    async fn time(&self, since: Timestamp, seqs: Range<u64>, order: Order) -> Result<Option<(u64, Timestamp)>> {
        let partition = Partition { conversation: self.conversation, key: self.key, bucket: Bucket::of(since) };
        self.pages.events.time(partition, (seqs, order)).await
    }
}
