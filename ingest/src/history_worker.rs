//! The history worker: brings every event of the log into history.
//!
//! A task for each shard fetches events, stores them, and only then acknowledges them. Whatever breaks in
//! between, the log gives again what was not acknowledged, and history passes over what it has.
//!
//! Events may leave the log before they were stored, when nobody stored any for longer than the log keeps them. What
//! follows on such a hole must not look as if nothing were missing: see `holes`.

mod holes;

use std::sync::Arc;
use std::time::Duration;

use history::History;
use log::{Consumer, Log, trace};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::Entry;

use self::holes::{Hole, Holes};
use crate::{Error, Result, until_first_error};

/// The name under which the worker reads the log.
pub const GROUP: &str = "ingest";
/// Events that are stored at once. It bounds the memory that they take.
const BATCH_EVENTS: usize = 1_000;
/// The time between two batches while less than a batch is behind them. Each costs a wait for the disk, or requests for every
/// conversation in it, however few events it holds. Hardly anybody waits for it: whoever reads takes the end of the
/// log as well, and only lists of conversations need to be sure that history has everything. All shards keep the same
/// time, for requests that come together cost a server far less than the same ones strewn about.
const GATHER: Duration = Duration::from_millis(100);
/// The first pause after a failure; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long it may take until this process is told what another one has acknowledged.
const NEWS: Duration = Duration::from_secs(60);
/// The time between two questions for that.
const NEWS_PAUSE: Duration = Duration::from_millis(100);

/// Stores every event of the log in history, until `shutdown`; what is in hand is then still stored. What is
/// unavailable is tried again for as long as it takes.
///
/// # Errors
/// When something is broken that no further attempt can mend. All shards have ended by then.
pub async fn run(log: Arc<dyn Log>, history: Arc<dyn History>, shutdown: CancellationToken) -> Result<()> {
    run_with(log, history, shutdown, NEWS).await
}

async fn run_with(
    log: Arc<dyn Log>,
    history: Arc<dyn History>,
    shutdown: CancellationToken,
    news: Duration,
) -> Result<()> {
    let mut shards = JoinSet::new();
    // A child, so that one shard's failure ends the other shards and not the whole process.
    let stop = shutdown.child_token();
    let began = Instant::now();
    for shard in 0..log.layout().shards {
        let consumer = Consumer { group: GROUP, shard };
        let shard = Shard { log: log.clone(), history: history.clone(), consumer, stop: stop.clone(), began, news };
        shards.spawn(shard.run());
    }
    until_first_error(shards, &stop).await
}

/// One shard of the log on its way into history.
struct Shard {
    log: Arc<dyn Log>,
    history: Arc<dyn History>,
    consumer: Consumer,
    stop: CancellationToken,
    /// When all shards began: what their time is counted from.
    began: Instant,
    /// See [`NEWS`].
    news: Duration,
}

impl Shard {
    async fn run(self) -> Result<()> {
        let shard = self.consumer.shard;
        let (mut failures, mut holes) = (Failures::default(), Holes::default());
        while !self.stop.is_cancelled() {
            let error = match self.follow(&mut failures, &mut holes).await {
                Ok(()) => break,
                Err(error) if is_passing(&error) => error,
                Err(error) => return Err(error),
            };
            // Once for a whole row of failures: the gauge of the lag tells how it goes on.
            if failures.in_a_row == 0 {
                tracing::warn!(shard, %error, "events could not be brought into history; trying again until they can");
            }
            self.report_lag().await;
            self.rest(failures.next_pause()).await;
        }
        Ok(())
    }

    /// Stores from where the log was last told that it is stored, until stopped.
    async fn follow(&self, failures: &mut Failures, holes: &mut Holes) -> Result<()> {
        self.log.resume(self.consumer).await?;
        while let Some(fetched) = self.stop.run_until_cancelled(self.log.fetch(self.consumer, BATCH_EVENTS)).await {
            let (mut entries, began) = (fetched?, Instant::now());
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { continue };
            let last_seq = last.position.seq;
            if !self.is_up_to_date(first, holes).await? {
                break;
            }
            holes.pass(&mut entries).iter().for_each(|hole| self.report_hole(hole));
            self.store(&entries).await?;
            self.log.ack(self.consumer, last_seq).await?;
            holes.go_on(last_seq);
            let behind = self.report(entries.len(), began).await;
            failures.end(self.consumer.shard);
            // A fetch may give less than there is.
            if behind < BATCH_EVENTS as u64 {
                self.rest(self.until_next_batch()).await;
            }
        }
        Ok(())
    }

    /// When events seem to be missing before the first of a batch, waits for the news that another process has stored
    /// them. Gives whether the batch may be stored: not when the worker was stopped meanwhile.
    async fn is_up_to_date(&self, first: &Entry, holes: &mut Holes) -> Result<bool> {
        let asked = Instant::now();
        while !holes.are_followed_by(first) && !self.stop.is_cancelled() {
            let acked_seq = self.log.lag(self.consumer).await?.acked_seq;
            holes.go_on(acked_seq);
            // What comes first to a new reader is the beginning, as far as anybody knows.
            if acked_seq == 0 || asked.elapsed() >= self.news {
                break;
            }
            if !holes.are_followed_by(first) {
                self.rest(NEWS_PAUSE).await;
            }
        }
        Ok(holes.are_followed_by(first) || !self.stop.is_cancelled())
    }

    fn report_hole(&self, hole: &Hole) {
        let (shard, &Hole { after_seq, end_seq, .. }) = (self.consumer.shard, hole);
        metrics::counter!("rookery_ingest_holes_total", "shard" => shard.to_string()).increment(1);
        tracing::error!(shard, after_seq, end_seq, "events left the log before they were stored");
    }

    /// Stores a batch, with a span of each event whose trace is recorded.
    async fn store(&self, entries: &[Entry]) -> Result<()> {
        let events = entries.len();
        let spans = trace::follow_all(entries, |entry| {
            log::trace_span!(
                "ingest.store",
                otel.kind = "consumer",
                conversation.kind = entry.conversation.kind(),
                seq = entry.position.seq,
                batch.events = events
            )
        });
        let stored = self.history.store(entries).await;
        if stored.is_err() {
            spans.iter().for_each(trace::fail);
        }
        Ok(stored?)
    }

    /// The time until the shards' next common moment.
    fn until_next_batch(&self) -> Duration {
        let into = self.began.elapsed().as_millis() % GATHER.as_millis();
        GATHER.saturating_sub(Duration::from_millis(u64::try_from(into).unwrap_or_default()))
    }

    /// Tells of a batch, and gives how many events are behind it.
    async fn report(&self, events: usize, began: Instant) -> u64 {
        metrics::counter!("rookery_ingest_events_total").increment(events as u64);
        metrics::histogram!("rookery_ingest_batch_seconds").record(began.elapsed());
        self.report_lag().await
    }

    /// Tells how many events are not stored yet, as far as is known, and gives it.
    async fn report_lag(&self) -> u64 {
        // A lag that cannot be asked for stays as it was: the next attempt tells the same trouble.
        let Ok(lag) = self.log.lag(self.consumer).await else { return 0 };
        let shard = self.consumer.shard.to_string();
        metrics::gauge!("rookery_consumer_lag_events", "group" => GROUP, "shard" => shard).set(lag.events as f64);
        lag.events
    }

    /// Waits, but not when the worker is to stop.
    async fn rest(&self, pause: Duration) {
        self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

/// Failures with no success between them.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
}

impl Failures {
    fn next_pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.in_a_row.min(16)).min(LONGEST_PAUSE);
        self.in_a_row = self.in_a_row.saturating_add(1);
        pause
    }

    fn end(&mut self, shard: u16) {
        let failures = std::mem::take(&mut self.in_a_row);
        if failures > 0 {
            tracing::info!(shard, failures, "events go into history again");
        }
    }
}

/// Whether another attempt may help.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Log(log::Error::Unavailable(_)) | Error::History(history::Error::Unavailable(_)))
}

#[cfg(test)]
mod tests;
