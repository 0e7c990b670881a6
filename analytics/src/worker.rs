//! The worker: reads the log and records facts.
//!
//! A task for each shard fetches events, records what lies between the last recorded `seq` and the last fetched
//! one as a range, and only then acknowledges it. Whatever breaks in between, the store alone knows how far
//! the shard is recorded: the task asks it, has the log give again what is not acknowledged, and passes over
//! what it finds recorded already.

use std::sync::Arc;
use std::time::Duration;

use log::{Consumer, Log, trace};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use types::{Body, Entry, Event};

use crate::{Analytics, Fact, Range};

/// The name under which the worker reads the log.
pub const GROUP: &str = "analytics";
/// Events that are read at once. It bounds the memory that their payloads take.
const FETCH_LIMIT: usize = 1_000;
/// Events that are recorded as one range, at most this and a fetch more. It bounds the memory that facts take.
const BATCH_LIMIT: u64 = 10_000;
/// How long events are waited for that are known to be stored.
const GATHER: Duration = Duration::from_millis(500);
/// The first pause after a failure; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why the worker ended although nobody asked it to. What is unavailable is tried again and does not end it.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// Facts cannot be recorded.
    #[error(transparent)]
    Analytics(#[from] crate::Error),
    /// The log has been told that events were recorded which the analytics store does not have, as when an
    /// older copy of it was put back. To go on would count too little in silence.
    #[error("the log handed shard {shard} over up to {acked_seq}, but analytics has it up to {recorded_seq} only")]
    Missing {
        /// The shard.
        shard: u16,
        /// Where the last recorded range ends.
        recorded_seq: u64,
        /// What the log was told.
        acked_seq: u64,
    },
    /// The store has recorded events that the log does not have, as when an older copy of the log was put back, or its
    /// end was lost. What the log stores there now would be taken for what was recorded.
    #[error("analytics has shard {shard} up to {recorded_seq}, but the log has it up to {end_seq} only")]
    Ahead {
        /// The shard.
        shard: u16,
        /// Where the last recorded range ends.
        recorded_seq: u64,
        /// The last that the log ever stored.
        end_seq: u64,
    },
    /// A task of the worker panicked.
    #[error("a shard's task ended: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Records every message of the log, until `shutdown`; what is in hand is then still recorded.
///
/// # Errors
/// When something is broken that no further attempt can mend. All shards have ended by then.
pub async fn run(
    log: Arc<dyn Log>,
    analytics: Arc<dyn Analytics>,
    shutdown: CancellationToken,
) -> Result<(), WorkerError> {
    let mut shards = JoinSet::new();
    // A child, so that one shard's failure ends the other shards and not the whole process.
    let stop = shutdown.child_token();
    for shard in 0..log.layout().shards {
        let consumer = Consumer { group: GROUP, shard };
        let shard = Shard { log: log.clone(), analytics: analytics.clone(), consumer, stop: stop.clone() };
        shards.spawn(shard.run());
    }
    let mut outcome = Ok(());
    while let Some(ended) = shards.join_next().await {
        let ended = ended.map_err(WorkerError::from).and_then(|result| result);
        if ended.is_err() {
            stop.cancel();
            outcome = outcome.and(ended);
        }
    }
    outcome
}

/// One shard of the log on its way into the store.
struct Shard {
    log: Arc<dyn Log>,
    analytics: Arc<dyn Analytics>,
    consumer: Consumer,
    stop: CancellationToken,
}

impl Shard {
    async fn run(self) -> Result<(), WorkerError> {
        let mut pause = FIRST_PAUSE;
        while !self.stop.is_cancelled() {
            let error = match self.follow(&mut pause).await {
                Ok(()) => return Ok(()),
                Err(error) if is_passing(&error) => error,
                Err(error) => return Err(error),
            };
            tracing::warn!(shard = self.consumer.shard, %error, ?pause, "facts were not recorded; trying again");
            self.report_lag().await;
            self.rest(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// Records from where the store is, until stopped. Begins the pauses anew once something was recorded.
    async fn follow(&self, pause: &mut Duration) -> Result<(), WorkerError> {
        let mut batch = Batch::after(self.begin().await?);
        self.report_lag().await;
        while !self.stop.is_cancelled() {
            let has_read_all = self.gather(&mut batch).await?;
            self.record(&batch).await?;
            *pause = FIRST_PAUSE;
            batch = Batch::after(batch.through_seq);
            self.report_lag().await;
            if has_read_all {
                self.rest(self.analytics.pace()).await;
            }
        }
        Ok(())
    }

    /// Finds out how far the shard is recorded, and has the log give again what it was not told of.
    async fn begin(&self) -> Result<u64, WorkerError> {
        let shard = self.consumer.shard;
        self.log.resume(self.consumer).await?;
        let acked_seq = self.log.lag(self.consumer).await?.acked_seq;
        let recorded_seq = self.analytics.recorded_seq(shard).await?;
        if recorded_seq < acked_seq {
            return Err(WorkerError::Missing { shard, recorded_seq, acked_seq });
        }
        // Asked last, and not of what this process was told of: another may have recorded what it has not heard of.
        let end_seq = self.log.ends().await?.get(usize::from(shard)).copied().unwrap_or(0);
        if end_seq < recorded_seq {
            return Err(WorkerError::Ahead { shard, recorded_seq, end_seq });
        }
        Ok(recorded_seq)
    }

    /// Waits for events and reads until there are no more, or enough, and tells whether there are no more.
    async fn gather(&self, batch: &mut Batch) -> Result<bool, WorkerError> {
        while batch.events < BATCH_LIMIT {
            // With something in hand more is known to be stored; but it may have left the log.
            let patience = if batch.events == 0 { Duration::MAX } else { GATHER };
            let fetch = timeout(patience, self.log.fetch(self.consumer, FETCH_LIMIT));
            let Some(Ok(fetched)) = self.stop.run_until_cancelled(fetch).await else { return Ok(true) };
            let fetched = fetched?;
            for (after_seq, before_seq) in batch.push(&fetched) {
                self.report_hole(after_seq, before_seq);
            }
            if self.has_read_all(batch).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nothing is known to be stored behind a batch. A fetch may give less than there is.
    async fn has_read_all(&self, batch: &Batch) -> bool {
        let lag = self.log.lag(self.consumer).await;
        lag.map_or(true, |lag| batch.through_seq >= lag.end_seq)
    }

    /// Records the batch and acknowledges it; does nothing when there were no events.
    async fn record(&self, batch: &Batch) -> Result<(), WorkerError> {
        if batch.events == 0 {
            return Ok(());
        }
        if batch.after_seq < batch.through_seq {
            let recorded = self.analytics.record(batch.range(self.consumer.shard)).await;
            if recorded.is_err() {
                batch.spans.iter().for_each(trace::fail);
            }
            recorded?;
            metrics::counter!("rookery_analytics_facts_total").increment(batch.facts.len() as u64);
        }
        Ok(self.log.ack(self.consumer, batch.through_seq).await?)
    }

    /// What lies between was never given: it left the log before it was counted, or was lost with an earlier log.
    fn report_hole(&self, after_seq: u64, before_seq: u64) {
        let shard = self.consumer.shard;
        metrics::counter!("rookery_analytics_holes_total").increment(1);
        tracing::error!(shard, after_seq, before_seq, "events left the log before they were counted");
    }

    async fn report_lag(&self) {
        // A lag that cannot be asked for stays as it was: the next attempt tells the same trouble.
        if let Ok(lag) = self.log.lag(self.consumer).await {
            let shard = self.consumer.shard.to_string();
            metrics::gauge!("rookery_consumer_lag_events", "group" => GROUP, "shard" => shard).set(lag.events as f64);
        }
    }

    /// Waits, but not when the worker is to stop.
    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Whether another attempt may help.
fn is_passing(error: &WorkerError) -> bool {
    use crate::Error::{OutOfStep, Unavailable};
    matches!(
        error,
        WorkerError::Log(log::Error::Unavailable(_)) | WorkerError::Analytics(Unavailable(_) | OutOfStep { .. })
    )
}

/// Events that are to be recorded as one range.
struct Batch {
    after_seq: u64,
    through_seq: u64,
    /// Events that were read, whether they are facts, or recorded already.
    events: u64,
    facts: Vec<Fact>,
    /// One of each event whose trace is recorded: from when it was read until the batch is recorded.
    spans: Vec<tracing::Span>,
}

impl Batch {
    fn after(seq: u64) -> Self {
        Self { after_seq: seq, through_seq: seq, events: 0, facts: Vec::new(), spans: Vec::new() }
    }

    /// Adds events, and gives the places between which there should have been others. What came before the first that
    /// was ever recorded is not known.
    fn push(&mut self, entries: &[Entry]) -> Vec<(u64, u64)> {
        self.events += entries.len() as u64;
        self.spans.extend(trace::follow_all(entries, span));
        let mut holes = Vec::new();
        for entry in entries {
            let seq = entry.position.seq;
            // What is not beyond the range's end was recorded before and is given again.
            if seq <= self.through_seq {
                continue;
            }
            if self.through_seq > 0 && seq > self.through_seq + 1 {
                holes.push((self.through_seq, seq));
            }
            self.through_seq = seq;
            self.facts.extend(fact(entry));
        }
        holes
    }

    fn range(&self, shard: u16) -> Range<'_> {
        Range { shard, after_seq: self.after_seq, through_seq: self.through_seq, facts: &self.facts }
    }
}

fn span(entry: &Entry) -> tracing::Span {
    log::trace_span!(
        "analytics.record",
        otel.kind = "consumer",
        conversation.kind = entry.conversation.kind(),
        seq = entry.position.seq
    )
}

/// The fact in an event, if it is a message. An event that cannot be read is passed over, for it would be no
/// more readable the next time: history passes over the same ones.
fn fact(entry: &Entry) -> Option<Fact> {
    let Ok(event) = Event::decode(&entry.payload) else {
        metrics::counter!("rookery_analytics_undecodable_total").increment(1);
        // Not the error, for it may quote the message.
        tracing::error!(conversation = %entry.conversation, seq = entry.position.seq, "an event cannot be read");
        return None;
    };
    let Body::Message(content) = event.body else { return None };
    Some(Fact {
        seq: entry.position.seq,
        at: content.said_at(entry.at),
        region: event.sender.region(),
        conversation: entry.conversation,
        sender: event.sender,
    })
}

#[cfg(test)]
mod tests;
