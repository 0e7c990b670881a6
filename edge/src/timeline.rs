//! What a conversation holds, read from two places at once: what history has stored, and the tail of the log
//! that it has not stored yet. Whoever reads here finds every acknowledged event, however far ingest is behind.

mod ends;
mod fold;
mod logged;
mod outage;
mod prevs;

use std::sync::Arc;
use std::time::Duration;

use history::{History, Message, Page};
use log::{Consumer, Head, Lag, Log};
use tokio::time::Instant;
use types::{ConversationId, Entry, EventId, Vector};

use crate::ApiError;
use fold::{One, Window};
use outage::Outage;
use prevs::Rest;

pub(crate) use ends::Latest;

/// Events that are read from the log at a time.
const BATCH: usize = 256;
/// The role that stores events in history.
pub(crate) const INGEST: &str = "ingest";
/// How long apart it is looked whether ingest has caught up.
const PAUSE: Duration = Duration::from_millis(5);
/// How often a read begins anew because the log let go of events that history stored meanwhile.
const ATTEMPTS: usize = 3;

/// Reads of conversations, as if everything in the log were stored.
pub(crate) struct Timeline {
    log: Arc<dyn Log>,
    history: Arc<dyn History>,
    outage: Outage,
    /// Spares live events the wait for a history that is slow.
    rest: Rest,
}

/// Whether the tail of the log follows what is stored without a hole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joint {
    Tight,
    Open,
}

impl Timeline {
    pub(crate) fn new(log: Arc<dyn Log>, history: Arc<dyn History>) -> Self {
        Self { log, history, outage: Outage::default(), rest: Rest::default() }
    }

    /// A page of messages in their present state.
    ///
    /// The order of the reads matters: first where the stored part ends, then the page, then the log. So the log
    /// is at least as new as the page, and folding its events over the page, those again that the page may
    /// already show, leads to the state after the last of them.
    /// While history cannot be reached, the log alone answers what it holds the whole of; while that is known, the log is
    /// asked first.
    pub(crate) async fn messages(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>, ApiError> {
        let mut logged = None;
        if self.outage.is_on() {
            match self.logged_messages(conversation, page).await {
                Ok(messages) => return Ok(messages),
                Err(error) => logged = Some(error),
            }
        }
        let mut attempt = 1;
        loop {
            let Some((stored_seq, stored)) = self.outage.note(self.stored(conversation, page).await)? else {
                return match logged {
                    Some(error) => Err(error),
                    None => self.logged_messages(conversation, page).await,
                };
            };
            let mut window = Window::new(page, stored_seq, stored);
            let joint = self.scan(conversation, stored_seq, |entry| window.apply(entry)).await?;
            if joint == Joint::Tight || attempt == ATTEMPTS {
                return Ok(window.into_messages());
            }
            attempt += 1;
        }
    }

    /// One message in its present state.
    pub(crate) async fn message(&self, conversation: ConversationId, id: EventId) -> Result<Option<Message>, ApiError> {
        let mut logged = None;
        if self.outage.is_on() {
            match self.logged_message(conversation, id).await {
                Ok(message) => return Ok(message),
                Err(error) => logged = Some(error),
            }
        }
        let Some((stored_seq, stored)) = self.outage.note(self.stored_message(conversation, id).await)? else {
            return match logged {
                Some(error) => Err(error),
                None => self.logged_message(conversation, id).await,
            };
        };
        let mut one = One::new(id, stored);
        self.scan(conversation, stored_seq, |entry| one.apply(entry)).await?;
        Ok(one.into_message())
    }

    /// Events of all kinds with a greater `seq` than `after_seq`, oldest first, at most `limit`.
    ///
    /// The log is asked first, and history only for what the log no longer has: whatever has left the log was
    /// stored before it left, so together they are whole. Should there be a hole all the same, an entry's `prev`
    /// tells: see [`is_whole`].
    pub(crate) async fn events(
        &self,
        conversation: ConversationId,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, ApiError> {
        let mut logged = self.log.read(conversation, after_seq, limit).await?;
        if logged.is_empty() {
            if self.ends_by(conversation, after_seq).await? {
                return Ok(logged);
            }
            logged = self.log.read(conversation, after_seq, limit).await?;
        }
        // A `prev` of 0 says that nothing came before it, or that this has left the log.
        let follows = |first: &Entry| first.prev <= after_seq && (first.prev > 0 || self.log_holds_all(conversation));
        if logged.first().is_some_and(follows) {
            return Ok(logged);
        }
        let mut entries = self.history.events(conversation, after_seq, limit).await?;
        let stored_seq = entries.last().map_or(after_seq, |last| last.position.seq);
        let room = limit.saturating_sub(entries.len());
        entries.extend(logged.into_iter().filter(|entry| entry.position.seq > stored_seq).take(room));
        self.complete_prevs(conversation, after_seq, &mut entries).await?;
        Ok(entries)
    }

    /// Whether the log holds an event of the conversation, and none after `after_seq`: then nothing later has left it
    /// either.
    async fn ends_by(&self, conversation: ConversationId, after_seq: u64) -> Result<bool, ApiError> {
        let head = self.log.heads(&[conversation]).await?.into_iter().next().flatten();
        Ok(head.is_some_and(|head| head.position.seq <= after_seq))
    }

    /// The event at this very place.
    pub(crate) async fn event_at(&self, conversation: ConversationId, seq: u64) -> Result<Option<Entry>, ApiError> {
        let entries = self.events(conversation, seq.saturating_sub(1), 1).await?;
        Ok(entries.into_iter().next().filter(|entry| entry.position.seq == seq))
    }

    /// The event with this id, of whatever kind.
    pub(crate) async fn event(&self, conversation: ConversationId, id: EventId) -> Result<Option<Entry>, ApiError> {
        let stored_seq = self.stored_seq(conversation).await?;
        if let Some(stored) = self.history.event(conversation, id).await? {
            return Ok(Some(stored));
        }
        let mut found = None;
        let is_it = |entry: &Entry| fold::read(entry).is_some_and(|event| event.id == id);
        self.scan(conversation, stored_seq, |entry| {
            found = found.take().or_else(|| is_it(entry).then(|| entry.clone()))
        })
        .await?;
        Ok(found)
    }

    /// Where the log ends, as this process was last told: what is stored later has a later place.
    pub(crate) async fn end(&self) -> Result<Vector, ApiError> {
        let seqs = self.ingest().await?.iter().map(|lag| lag.end_seq).collect();
        Ok(Vector { epoch: self.log.layout().epoch, seqs })
    }

    /// Waits, at most `patience`, until history has everything that is in the log now; gives whether it has. For what
    /// only history knows, such as who wrote to a user for the first time.
    pub(crate) async fn settle(&self, patience: Duration) -> Result<bool, ApiError> {
        let (ends, began) = (self.log.ends().await?, Instant::now());
        loop {
            let lags = self.ingest().await?;
            if lags.iter().zip(&ends).all(|(lag, end)| lag.events == 0 || lag.acked_seq >= *end) {
                return Ok(true);
            }
            if began.elapsed() >= patience {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How far ingest is, by shard.
    async fn ingest(&self) -> Result<Vec<Lag>, ApiError> {
        let shards = 0..self.log.layout().shards;
        let lags = shards.map(|shard| self.log.lag(Consumer { group: INGEST, shard }));
        Ok(futures_util::future::try_join_all(lags).await?)
    }

    /// Where the stored part ends, then what is stored of a page.
    async fn stored(&self, conversation: ConversationId, page: &Page) -> history::Result<(u64, Vec<Message>)> {
        Ok((self.stored_seq(conversation).await?, self.history.messages(conversation, page).await?))
    }

    /// Where the stored part ends, then a message if it is stored.
    async fn stored_message(
        &self,
        conversation: ConversationId,
        id: EventId,
    ) -> history::Result<(u64, Option<Message>)> {
        Ok((self.stored_seq(conversation).await?, self.history.message(conversation, id).await?))
    }

    async fn stored_seq(&self, conversation: ConversationId) -> history::Result<u64> {
        let ends = self.history.ends(&[conversation]).await?;
        Ok(ends.into_iter().next().flatten().map_or(0, |end| end.position.seq))
    }

    /// Shows `see` every event of the log after `stored_seq`, in order.
    async fn scan(
        &self,
        conversation: ConversationId,
        stored_seq: u64,
        see: impl FnMut(&Entry) + Send,
    ) -> Result<Joint, ApiError> {
        let heads = self.log.heads(&[conversation]).await?;
        match heads.into_iter().next().flatten() {
            Some(head) if head.position.seq > stored_seq => self.scan_to(conversation, stored_seq, head, see).await,
            _ => Ok(Joint::Tight),
        }
    }

    /// As [`Timeline::scan`]. What is appended after `head` was asked for need not be seen, so that this ends
    /// however fast others append.
    async fn scan_to(
        &self,
        conversation: ConversationId,
        stored_seq: u64,
        head: Head,
        mut see: impl FnMut(&Entry) + Send,
    ) -> Result<Joint, ApiError> {
        let (mut seen, mut joint) = (stored_seq, Joint::Tight);
        while seen < head.position.seq {
            let entries = self.log.read(conversation, seen, BATCH).await?;
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { break };
            if first.prev > seen {
                joint = Joint::Open;
            }
            entries.iter().for_each(&mut see);
            seen = last.position.seq;
        }
        Ok(joint)
    }
}

/// Whether `entries` are all that happened in their conversation after `after_seq` up to the last of them. `after_seq`
/// may be any place in the shard, not only one of the conversation's own.
pub(crate) fn is_whole(after_seq: u64, entries: &[Entry]) -> bool {
    let starts = entries.first().is_none_or(|first| first.prev <= after_seq);
    starts && entries.windows(2).all(|pair| pair[1].prev == pair[0].position.seq)
}

#[cfg(test)]
mod tests;
