//! What a feed reads back from the log because it did not come by itself.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use types::{ConversationId, Entry};

use super::Pump;
use crate::jetstream::live::seen::topics_of;
use crate::jetstream::reading::BATCH;
use crate::{Delivery, Result, Topic};

/// Events of one shard that are read back at most; more are lost to this feed.
const STRETCH: u64 = if cfg!(test) { 10_000 } else { 50_000 };
/// Events of one conversation that are read back at most.
const GAP: usize = 4 * BATCH;
/// How long it is tried to read a gap.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long shards are read back before the others have their turn.
const MOMENT: Duration = Duration::from_secs(1);
/// The pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

impl Pump {
    /// Delivers what one conversation lacks between `after` and `entry`, and `entry` itself.
    pub(super) async fn refill(&mut self, topic: Topic, after: u64, entry: &Entry) -> Result<()> {
        let until = entry.position.seq;
        tracing::debug!(conversation = %entry.conversation, after, until, "a gap is read back");
        metrics::counter!("rookery_log_gaps_total").increment(1);
        let entries = self.read_gap(entry.conversation, after).await;
        let missing: Vec<Entry> = entries.into_iter().take_while(|entry| entry.position.seq <= until).collect();
        let is_whole = missing.last().is_some_and(|last| last.position.seq == until);
        for entry in missing {
            self.deliver(topic, entry);
        }
        if !is_whole {
            self.batch.push(Delivery::Lost);
            self.deliver(topic, entry.clone());
        }
        Ok(())
    }

    /// As much of a gap as can be read.
    async fn read_gap(&self, conversation: ConversationId, after: u64) -> Vec<Entry> {
        let began = Instant::now();
        loop {
            match self.reading.read(conversation, after, GAP).await {
                Ok(entries) => return entries,
                Err(error) if began.elapsed() > PATIENCE => {
                    tracing::warn!(%error, "a gap cannot be read back");
                    return Vec::new();
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Reads back a shard that is behind, for a moment: the others are not to wait for long. What is left is read the
    /// next time; a shard of which nothing can be read is asked anew.
    pub(super) async fn read_back(&mut self) {
        let Some(shard) = self.ready.first().copied() else { return };
        let before = self.behind.get(&shard).copied();
        // Cancelled between two stretches or within one, which is then read again.
        let outcome = timeout(MOMENT, self.read_back_shard(shard)).await;
        if let Ok(Err(error)) = &outcome {
            tracing::debug!(shard, %error, "a shard cannot be read back");
        }
        if !matches!(outcome, Ok(Ok(()))) && self.behind.get(&shard).copied() == before {
            self.ready.remove(&shard);
        }
    }

    async fn read_back_shard(&mut self, shard: u16) -> Result<()> {
        let end = self.reading.end(shard).await?;
        let index = usize::from(shard);
        if self.topics.is_empty() || end.saturating_sub(self.floors[index]) > STRETCH {
            self.pass_over(shard, end);
        }
        let mut prevs = HashMap::new();
        while let Some(after) = self.behind.get(&shard).copied().filter(|after| *after < end) {
            let mut entries = self.reading.stretch(shard, after, end).await?;
            let Some(through) = entries.last().map(|last| last.position.seq) else {
                // All of it has left the log.
                self.pass_over(shard, end);
                break;
            };
            // What is missing below the floor was handed on before it left the log.
            if entries[0].position.seq > after.max(self.floors[index]) + 1 {
                self.batch.push(Delivery::Lost);
            }
            entries.retain(|entry| topics_of(entry.conversation).any(|topic| self.topics.number_of(topic).is_some()));
            self.reading.fill_prevs(shard, &mut entries, &mut prevs).await?;
            for entry in entries {
                self.deliver_again(shard, &entry);
            }
            // Only now: should the connection break on the way, this is read once more.
            self.behind.insert(shard, through);
            self.floors[index] = through.max(self.floors[index]);
            self.outlet.push(&mut self.batch);
            self.outlet.room().await;
        }
        self.behind.remove(&shard);
        self.ready.remove(&shard);
        Ok(())
    }

    /// Goes on at the end of a shard. What was not handed on before is too much, or has left the log.
    fn pass_over(&mut self, shard: u16, end: u64) {
        let floor = &mut self.floors[usize::from(shard)];
        if end > std::mem::replace(floor, end.max(*floor)) && !self.topics.is_empty() {
            tracing::warn!(shard, "a feed has missed more than can be read back");
            self.batch.push(Delivery::Lost);
            self.outlet.push(&mut self.batch);
            // Else the next event of a conversation would bring back all that it lacks, to readers who began anew behind it.
            let names = &self.reading.names;
            self.topics.pass_over(end, |conversation| names.shard_of(conversation) == shard);
        }
        self.behind.insert(shard, end);
    }

    /// Delivers an event of a stretch, to those of its topics that did not have it.
    fn deliver_again(&mut self, shard: u16, entry: &Entry) {
        for topic in topics_of(entry.conversation) {
            if self.topics.lacks(topic, shard, entry) {
                self.deliver(topic, entry.clone());
            }
        }
    }
}
