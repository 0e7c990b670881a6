//! What a feed reads back from the log because it did not come by itself.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use types::{ConversationId, Entry};

use super::Pump;
use crate::jetstream::live::seen::topics_of;
use crate::jetstream::reading::BATCH;
use crate::{Delivery, Result, Topic};

/// Events of one shard that are read back at most; more are lost to this feed.
const STRETCH: u64 = if cfg!(test) { 10_000 } else { 50_000 };
/// Events at the end of a shard that are looked through when its stream has a new leader: more than a leader can have had
/// on their way, and than come until it is looked for them.
const UNTOLD: u64 = 16_384;
/// Events of one conversation that are read back at most.
const GAP: usize = 4 * BATCH;
/// How long it is tried to read a gap.
const PATIENCE: Duration = Duration::from_secs(5);
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

    /// Reads back what was stored in each shard while nothing came.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        let ends = self.reading.ends().await?;
        for (shard, end) in (0..).zip(ends) {
            self.catch_up_shard(shard, end).await?;
        }
        Ok(())
    }

    /// Reads back what the leaders of streams that have a new one have stored at last and may not have told of: an event
    /// that a majority of the replicas has is stored, though the leader ends before it sends the live copy.
    pub(super) async fn follow_elections(&mut self) -> Result<()> {
        for shard in std::mem::take(&mut self.elected) {
            let Ok(end) = self.reading.end(shard).await else {
                // It has lost the lead again, or is not ready.
                self.elected.insert(shard);
                continue;
            };
            let floor = &mut self.floors[usize::from(shard)];
            *floor = end.saturating_sub(UNTOLD).max(self.reading.base).min(*floor);
            self.catch_up_shard(shard, end).await?;
        }
        Ok(())
    }

    async fn catch_up_shard(&mut self, shard: u16, end: u64) -> Result<()> {
        let mut prevs = HashMap::new();
        let index = usize::from(shard);
        if self.topics.is_empty() {
            self.floors[index] = end.max(self.floors[index]);
        }
        if end.saturating_sub(self.floors[index]) > STRETCH {
            self.lose(shard, end);
        }
        while self.floors[index] < end {
            let after = self.floors[index];
            let mut entries = self.reading.stretch(shard, after, end).await?;
            let Some(through) = entries.last().map(|last| last.position.seq) else {
                self.lose(shard, end);
                break;
            };
            if entries[0].position.seq > after + 1 {
                self.batch.push(Delivery::Lost);
            }
            entries.retain(|entry| topics_of(entry.conversation).any(|topic| self.topics.number_of(topic).is_some()));
            self.reading.fill_prevs(shard, &mut entries, &mut prevs).await?;
            for entry in entries {
                self.deliver_again(shard, &entry);
            }
            // Only now: should the connection break on the way, this is read once more.
            self.floors[index] = through.max(after);
            self.outlet.push(&mut self.batch);
            self.outlet.room().await;
        }
        Ok(())
    }

    /// Delivers an event of a stretch, to those of its topics that did not have it.
    fn deliver_again(&mut self, shard: u16, entry: &Entry) {
        for topic in topics_of(entry.conversation) {
            if self.topics.lacks(topic, shard, entry) {
                self.deliver(topic, entry.clone());
            }
        }
    }

    /// Too much of a shard was missed, or it has left the log.
    fn lose(&mut self, shard: u16, end: u64) {
        tracing::warn!(shard, "a feed has missed more than can be read back");
        self.batch.push(Delivery::Lost);
        self.outlet.push(&mut self.batch);
        self.floors[usize::from(shard)] = end;
        // Else the next event of a conversation would bring back all that it lacks, to readers who began anew behind it.
        let names = &self.reading.names;
        self.topics.pass_over(end, |conversation| names.shard_of(conversation) == shard);
    }
}
