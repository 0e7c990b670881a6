//! `prev` where the log does not know it: on JetStream it is 0 when the event before has left the log. History has that
//! event, for what leaves the log was stored before.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use types::{ConversationId, Entry};

use super::Timeline;
use crate::ApiError;

/// Conversations that history is asked about at the same time.
const AT_ONCE: usize = 32;
/// How long live events wait for history. Without its answer `prev` stays 0, and a client that has seen an earlier event
/// asks for what it may have missed.
const PATIENCE: Duration = Duration::from_millis(50);

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

    /// Completes live entries as far as history tells at once.
    pub(crate) async fn complete_live_prevs(&self, entries: impl Iterator<Item = &mut Entry> + Send) {
        let mut incomplete: Vec<&mut Entry> = entries.filter(|entry| self.may_follow_another(entry)).collect();
        if incomplete.is_empty() || self.outage.is_on() {
            return;
        }
        let reads: Vec<_> =
            incomplete.iter().map(|entry| self.history.last_seq(entry.conversation, entry.position.seq - 1)).collect();
        let prevs = stream::iter(reads).buffered(AT_ONCE).try_collect::<Vec<u64>>();
        let Ok(prevs) = tokio::time::timeout(PATIENCE, prevs).await else { return };
        if let Ok(Some(prevs)) = self.outage.note(prevs) {
            incomplete.iter_mut().zip(prevs).for_each(|(entry, prev)| entry.prev = prev);
        }
    }

    /// Whether there may be an event before this one though `prev` is 0.
    fn may_follow_another(&self, entry: &Entry) -> bool {
        entry.prev == 0 && !self.log_holds_all(entry.conversation)
    }
}
