//! The embedded history with faults, for none of its own can be had on demand.

use std::sync::Mutex;

use async_trait::async_trait;
use history::{End, Error, History, Message, Page, Result, Tail};

use tokio::sync::watch;
use types::{ConversationId, Entry, EventId, UserId};

use super::Arc;

/// What goes wrong with one call of `store`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Nothing is stored.
    Before,
    /// The first half is stored.
    Midway,
    /// Everything is stored, but the caller is not told.
    After,
    /// Nothing is stored, now and ever.
    Damaged,
}

pub(super) struct FaultyHistory {
    history: Arc<dyn History>,
    /// The faults to come, last one first.
    faults: Mutex<Vec<Fault>>,
    /// Calls of `store` that have failed.
    pub(super) failed: watch::Sender<usize>,
    /// The last `seq` of which the caller was told that it is stored.
    pub(super) stored: watch::Sender<u64>,
}

impl FaultyHistory {
    pub(super) fn over(history: Arc<dyn History>, faults: &[Fault]) -> Arc<Self> {
        let faults = Mutex::new(faults.iter().rev().copied().collect());
        Arc::new(Self { history, faults, failed: watch::Sender::new(0), stored: watch::Sender::new(0) })
    }
}

#[async_trait]
impl History for FaultyHistory {
    async fn store(&self, entries: &[Entry]) -> Result<()> {
        let fault = self.faults.lock().unwrap().pop();
        let kept = match fault {
            Some(Fault::Before | Fault::Damaged) => 0,
            Some(Fault::Midway) => entries.len() / 2,
            Some(Fault::After) | None => entries.len(),
        };
        self.history.store(&entries[..kept]).await?;
        if let Some(fault) = fault {
            self.failed.send_modify(|failed| *failed += 1);
            let why = format!("as the test wants it: {fault:?}");
            return Err(if matches!(fault, Fault::Damaged) { Error::Damaged(why) } else { Error::Unavailable(why) });
        }
        let last = entries.last().map_or(0, |entry| entry.position.seq);
        self.stored.send_modify(|seq| *seq = last.max(*seq));
        Ok(())
    }

    async fn ends(&self, conversations: &[ConversationId]) -> Result<Vec<Option<End>>> {
        self.history.ends(conversations).await
    }

    async fn tails(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Tail>>> {
        self.history.tails(conversations).await
    }

    async fn messages(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>> {
        self.history.messages(conversation, page).await
    }

    async fn message(&self, conversation: ConversationId, id: EventId) -> Result<Option<Message>> {
        self.history.message(conversation, id).await
    }

    async fn event(&self, conversation: ConversationId, id: EventId) -> Result<Option<Entry>> {
        self.history.event(conversation, id).await
    }

    async fn events(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        self.history.events(conversation, after_seq, limit).await
    }

    async fn last_seq(&self, conversation: ConversationId, until: u64) -> Result<u64> {
        self.history.last_seq(conversation, until).await
    }

    async fn peers(&self, user: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        self.history.peers(user, after, limit).await
    }

    async fn mark_read(&self, user: UserId, conversation: ConversationId, seq: u64) -> Result<u64> {
        self.history.mark_read(user, conversation, seq).await
    }

    async fn read_marks(&self, user: UserId, conversations: &[ConversationId]) -> Result<Vec<u64>> {
        self.history.read_marks(user, conversations).await
    }
}
