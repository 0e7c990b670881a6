//! `prev` where the log does not know it: on JetStream it is 0 when the event before has left the log. History has that
//! event, for what leaves the log was stored before.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::Instant;
use types::{ConversationId, Entry};

use super::Timeline;
use crate::ApiError;

/// Conversations that history is asked about at the same time.
const AT_ONCE: usize = 32;
/// How long live events wait for history. Without its answer `prev` stays 0, and a client that has seen an earlier event
/// asks for what it may have missed.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long live events do not wait at all after they have waited in vain.
const REST: Duration = Duration::from_secs(5);

/// Until when history is not asked for the sake of live events. It is slow, which is less than an outage: whoever reads
/// pages still wants its answers.
#[derive(Default)]
pub(super) struct Rest(Mutex<Option<Instant>>);

impl Rest {
    fn begin(&self) {
        *self.0.lock() = Some(Instant::now() + REST);
    }

    fn is_on(&self) -> bool {
        self.0.lock().is_some_and(|until| Instant::now() < until)
    }
}

impl Timeline {
    /// Completes entries of one conversation, which are all that happened after `after_seq` up to the last of them.
    pub(super) async fn complete_prevs(
        &self,
        conversation: ConversationId,
        after_seq: u64,
        entries: &mut [Entry],
    ) -> Result<(), ApiError> {
        for index in 1..entries.len() {
            if entries[index].prev == 0 {
                entries[index].prev = entries[index - 1].position.seq;
            }
        }
        if let Some(first) = entries.first_mut().filter(|first| after_seq > 0 && self.may_follow_another(first)) {
            first.prev = self.history.last_seq(conversation, after_seq).await?;
        }
        Ok(())
    }

    /// Completes live entries as far as history tells at once: each by itself, for it may be slow about one of them.
    pub(crate) async fn complete_live_prevs(&self, entries: impl Iterator<Item = &mut Entry> + Send) {
        let mut incomplete: Vec<&mut Entry> = entries.filter(|entry| self.may_follow_another(entry)).collect();
        if incomplete.is_empty() || self.rest.is_on() || self.outage.is_on() {
            return;
        }
        let read = async |(index, (conversation, seq)): (usize, (ConversationId, u64))| {
            (index, self.history.last_seq(conversation, seq - 1).await)
        };
        let places = incomplete.iter().map(|entry| (entry.conversation, entry.position.seq)).enumerate();
        let reads: Vec<_> = places.map(read).collect();
        let mut answers = stream::iter(reads).buffer_unordered(AT_ONCE);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Ok(answer) = tokio::time::timeout_at(deadline, answers.next()).await else { return self.rest.begin() };
            let Some((index, prev)) = answer else { return };
            let entry = &mut incomplete[index];
            match self.outage.note(prev) {
                Ok(prev) => entry.prev = prev.unwrap_or_default(),
                Err(error) => {
                    tracing::error!(%error, conversation = %entry.conversation, "the event before a live one cannot be read");
                }
            }
        }
    }

    /// Whether there may be an event before this one though `prev` is 0.
    fn may_follow_another(&self, entry: &Entry) -> bool {
        entry.prev == 0 && !self.log_holds_all(entry.conversation)
    }
}
