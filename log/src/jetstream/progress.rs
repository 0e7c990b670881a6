//! How far each role is, as this process was last told.
//!
//! Whoever reads a shard tells all others of each acknowledgement; what was not told is asked for now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connection::unavailable;
use super::reading::{Reading, Refusal};
use crate::{Consumer, Error, Lag, Result};

/// How often it is asked how far everybody is.
const PERIOD: Duration = Duration::from_secs(2);
/// The consumer does not exist.
const NO_CONSUMER: u64 = 10_014;

/// See above.
pub(super) struct Progress {
    reading: Arc<Reading>,
    /// The last acknowledged `seq` of every consumer that was asked for.
    acked: Mutex<Vec<(Consumer, u64)>>,
    /// The last `seq` of each shard that has left the log.
    removed: Vec<AtomicU64>,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    ack_floor: Option<Floor>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Floor {
    stream_seq: u64,
}

#[derive(Deserialize)]
struct StreamInfo {
    state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    first_seq: u64,
    last_seq: u64,
}

impl Progress {
    pub(super) async fn open(reading: &Arc<Reading>, stop: &CancellationToken) -> Result<Arc<Self>> {
        let removed = (0..reading.names.shards).map(|_| AtomicU64::new(reading.base)).collect();
        let progress = Arc::new(Self { reading: Arc::clone(reading), acked: Mutex::default(), removed });
        let mut told = reading.client.subscribe(reading.names.progress_of_all()).await.map_err(unavailable)?;
        let (listening, asking, ended) = (Arc::clone(&progress), Arc::clone(&progress), stop.clone());
        drop(tokio::spawn(async move {
            while let Some(Some(message)) = ended.run_until_cancelled(told.next()).await {
                listening.hear(&message);
            }
        }));
        let ended = stop.clone();
        drop(tokio::spawn(async move { ended.run_until_cancelled(asking.ask_again()).await }));
        Ok(progress)
    }

    /// Tells everybody that `seq` is acknowledged.
    pub(super) fn tell(&self, consumer: Consumer, seq: u64) {
        self.learn(consumer, seq);
        let subject = self.reading.names.progress(consumer.group, consumer.shard);
        let client = self.reading.client.clone();
        drop(tokio::spawn(async move {
            if let Err(error) = client.publish(subject, seq.to_string().into()).await {
                tracing::debug!(%error, "progress was not told");
            }
        }));
    }

    /// See [`crate::Log::lag`].
    pub(super) async fn lag(&self, consumer: Consumer) -> Result<Lag> {
        let known = self.acked.lock().iter().find(|(of, _)| *of == consumer).map(|(_, acked)| *acked);
        let acked_seq = match known {
            Some(acked) => acked,
            None => {
                self.ask_shard(consumer.shard).await?;
                self.ask(consumer).await?
            }
        };
        let removed = self.removed[usize::from(consumer.shard)].load(Ordering::Acquire);
        let end_seq = self.reading.known_end(consumer.shard);
        Ok(Lag { events: end_seq.saturating_sub(acked_seq.max(removed)), acked_seq, end_seq })
    }

    fn hear(&self, message: &async_nats::Message) {
        let Some((group, shard)) = self.reading.names.read_progress(&message.subject) else { return };
        let Some(seq) = std::str::from_utf8(&message.payload).ok().and_then(|seq| seq.parse().ok()) else { return };
        self.reading.learn_end(shard, seq);
        for (consumer, acked) in &mut *self.acked.lock() {
            if consumer.group == group && consumer.shard == shard {
                *acked = seq.max(*acked);
            }
        }
    }

    fn learn(&self, consumer: Consumer, seq: u64) -> u64 {
        let mut known = self.acked.lock();
        if let Some((_, acked)) = known.iter_mut().find(|(of, _)| *of == consumer) {
            *acked = seq.max(*acked);
            return *acked;
        }
        known.push((consumer, seq));
        seq
    }

    async fn ask_again(&self) {
        loop {
            sleep(PERIOD).await;
            let known: Vec<Consumer> = self.acked.lock().iter().map(|(consumer, _)| *consumer).collect();
            let mut shards: Vec<u16> = known.iter().map(|consumer| consumer.shard).collect();
            shards.sort_unstable();
            shards.dedup();
            if let Err(error) = self.ask_all(&shards, &known).await {
                tracing::debug!(%error, "it is not known how far everybody is");
            }
        }
    }

    async fn ask_all(&self, shards: &[u16], known: &[Consumer]) -> Result<()> {
        for shard in shards {
            self.ask_shard(*shard).await?;
        }
        for consumer in known {
            self.ask(*consumer).await?;
        }
        Ok(())
    }

    /// Asks where a shard begins and ends.
    async fn ask_shard(&self, shard: u16) -> Result<()> {
        let subject = format!("$JS.API.STREAM.INFO.{}", self.reading.names.stream(shard));
        let answer = self.reading.client.request(subject, "".into()).await.map_err(unavailable)?;
        let info: StreamInfo = serde_json::from_slice(&answer.payload).map_err(unavailable)?;
        let Some(State { first_seq, last_seq }) = info.state else {
            return Err(unavailable("the stream is not there"));
        };
        self.reading.learn_end(shard, last_seq);
        self.removed[usize::from(shard)].fetch_max(first_seq.saturating_sub(1), Ordering::AcqRel);
        Ok(())
    }

    /// Asks how far a consumer is.
    async fn ask(&self, consumer: Consumer) -> Result<u64> {
        let Consumer { group, shard } = consumer;
        let subject = format!("$JS.API.CONSUMER.INFO.{}.{group}", self.reading.names.stream(shard));
        let answer = self.reading.client.request(subject, "".into()).await.map_err(unavailable)?;
        match serde_json::from_slice(&answer.payload).map_err(unavailable)? {
            ConsumerInfo { ack_floor: Some(floor), .. } => {
                // Before the first event it has acknowledged nothing.
                let is_any = floor.stream_seq > self.reading.base;
                Ok(self.learn(consumer, if is_any { floor.stream_seq } else { 0 }))
            }
            ConsumerInfo { error: Some(Refusal { err_code: NO_CONSUMER, .. }), .. } => Ok(self.learn(consumer, 0)),
            ConsumerInfo { error, .. } => {
                Err(Error::Unavailable(error.map_or_else(String::new, |error| error.description)))
            }
        }
    }
}
