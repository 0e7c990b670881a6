//! Recorders that are killed, hasty, and at odds, on a server that is killed under them.

use std::collections::BTreeMap;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use servers::{ClickHouse, ClickHouseOptions, Home};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{sleep, timeout};

use super::*;
use crate::span::DAY_MS;

const ROUNDS: u64 = 12;
/// Places in the log that a round adds.
const PLACES: u64 = 2_000;
/// The longest range that is recorded at once, in places.
const LONGEST: u64 = 250;
/// How long a round may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(90);

/// What has happened.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    calls: u64,
    recorded: u64,
    out_of_step: u64,
    unavailable: u64,
    killed: u64,
    paused: u64,
    crashed: u64,
}

/// A log that grows, a server of its own, and recorders.
struct Chaos {
    server: ClickHouse,
    config: Config,
    log: Arc<[Fact]>,
    /// The last place of the log so far.
    end: watch::Sender<u64>,
    tally: watch::Sender<Tally>,
    lot: StdRng,
    recorders: Vec<JoinHandle<()>>,
    _folder: TempDir,
}

impl Chaos {
    async fn new() -> Self {
        let home = Home::open().unwrap();
        let folder = home.scratch("analytics").unwrap();
        let options = ClickHouseOptions { max_memory_bytes: 2 * 1024 * 1024 * 1024 };
        let server = block_in_place(|| ClickHouse::start(&home, folder.path(), options)).unwrap();
        let config = config_at(server.url(), &new_name());
        migrate(&config).await.unwrap();
        let log: Vec<_> = facts(1, ROUNDS * PLACES).into_iter().filter(is_message).collect();
        Self {
            server,
            config,
            log: log.into(),
            end: watch::Sender::new(0),
            tally: watch::Sender::default(),
            lot: StdRng::seed_from_u64(4),
            recorders: Vec::new(),
            _folder: folder,
        }
    }

    fn start_recorder(&mut self) {
        let recorder = Recorder {
            config: self.config.clone(),
            log: self.log.clone(),
            end: self.end.subscribe(),
            tally: self.tally.clone(),
            lot: StdRng::seed_from_u64(self.lot.random()),
        };
        self.recorders.push(tokio::spawn(recorder.run()));
    }

    /// As a crash would: nothing more is done, and requests are cut off wherever they are.
    async fn crash_recorder(&mut self) {
        let recorder = self.recorders.swap_remove(self.lot.random_range(0..self.recorders.len()));
        recorder.abort();
        assert!(recorder.await.unwrap_err().is_cancelled());
        self.tally.send_modify(|tally| tally.crashed += 1);
    }

    /// Waits until recorders are in the midst of something.
    async fn wait_for_calls(&mut self) {
        let calls = self.tally.borrow().calls + self.lot.random_range(1..12);
        let mut tally = self.tally.subscribe();
        timeout(PATIENCE, tally.wait_for(|tally| tally.calls >= calls)).await.expect("recorders have stopped").unwrap();
        sleep(Duration::from_micros(self.lot.random_range(0..8_000))).await;
    }

    async fn hurt_the_server(&mut self) {
        if self.lot.random_bool(0.7) {
            block_in_place(|| self.server.kill()).unwrap();
            self.tally.send_modify(|tally| tally.killed += 1);
            if self.lot.random_bool(0.5) {
                self.crash_recorder().await;
                self.start_recorder();
            }
            block_in_place(|| self.server.restart()).unwrap();
            return;
        }
        // What is on its way now comes later, when whoever sent it may have given up.
        self.server.pause().unwrap();
        self.tally.send_modify(|tally| tally.paused += 1);
        sleep(Duration::from_millis(self.lot.random_range(5..300))).await;
        self.crash_recorder().await;
        self.start_recorder();
        self.server.resume().unwrap();
    }

    async fn round(&mut self) {
        self.end.send_modify(|end| *end += PLACES);
        for _ in 0..self.lot.random_range(1..4) {
            self.wait_for_calls().await;
            if self.lot.random_bool(0.5) {
                self.hurt_the_server().await;
            } else {
                self.crash_recorder().await;
                self.start_recorder();
            }
        }
        self.wait_for_calls().await;
        self.hurt_the_server().await;
        let end = *self.end.borrow();
        let mut tally = self.tally.subscribe();
        let reached = timeout(PATIENCE, tally.wait_for(|tally| tally.recorded >= end)).await;
        reached.expect("the round does not come to its end").unwrap();
    }

    /// Every message is counted, once, on its day.
    async fn check(&self) {
        let store = Store::open(&self.config, Patience::default()).await.unwrap();
        assert_eq!(store.recorded_seq(0).await.unwrap(), ROUNDS * PLACES);
        assert_eq!(store.total(&everything()).await.unwrap(), self.log.len() as u64);
        let distinct = store.client.query("SELECT uniqExact(seq) FROM facts").fetch_one::<u64>().await.unwrap();
        assert_eq!(distinct, self.log.len() as u64);
        let mut days = BTreeMap::<i64, u64>::new();
        for fact in &*self.log {
            *days.entry(fact.at.as_millis() / DAY_MS * DAY_MS).or_default() += 1;
        }
        let counted = store.activity(&everything(), Bucket::Day, 10_000).await.unwrap();
        assert_eq!(
            counted.into_iter().map(|day| (day.key.as_millis(), day.messages)).collect::<BTreeMap<_, _>>(),
            days
        );
    }
}

/// Some places of the log hold no message, and some stretches of it none at all.
fn is_message(fact: &Fact) -> bool {
    !fact.seq.is_multiple_of(7) && fact.seq % 900 < 700
}

/// A worker, as far as the store sees it.
struct Recorder {
    config: Config,
    log: Arc<[Fact]>,
    end: watch::Receiver<u64>,
    tally: watch::Sender<Tally>,
    lot: StdRng,
}

impl Recorder {
    async fn run(mut self) {
        loop {
            let patience = self.draw_patience();
            let Ok(store) = Store::open(&self.config, patience).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            for _ in 0..self.lot.random_range(1..20) {
                self.step(&store).await;
            }
        }
    }

    /// Often too little for an answer to come, and enough for the rows to.
    fn draw_patience(&mut self) -> Patience {
        if self.lot.random_bool(0.5) {
            return Patience::default();
        }
        let hasty = Duration::from_millis(self.lot.random_range(1..15));
        Patience { send: hasty, insert: hasty, ..Patience::default() }
    }

    /// Records some places from where the store is, or waits for the log to grow.
    async fn step(&mut self, store: &Store) {
        self.tally.send_modify(|tally| tally.calls += 1);
        let outcome = self.record(store).await;
        self.tally.send_modify(|tally| match outcome {
            Ok(seq) => tally.recorded = tally.recorded.max(seq),
            Err(Error::OutOfStep { .. }) => tally.out_of_step += 1,
            Err(Error::Unavailable(_)) => tally.unavailable += 1,
            Err(ref error) => panic!("{error}"),
        });
        if matches!(outcome, Err(Error::Unavailable(_))) {
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn record(&mut self, store: &Store) -> Result<u64> {
        let after_seq = store.recorded_seq(0).await?;
        let end = *self.end.borrow();
        if after_seq >= end {
            // A bound, so that a server that was lost meanwhile is noticed.
            timeout(Duration::from_millis(200), self.end.wait_for(|end| *end > after_seq)).await.ok();
            return Ok(after_seq);
        }
        let through_seq = end.min(after_seq + self.lot.random_range(1..=LONGEST));
        store.record(range(after_seq, through_seq, &self.log)).await?;
        Ok(through_seq)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_crashes_and_lost_answers_leave_every_message_counted_once() {
    let mut chaos = Chaos::new().await;
    let began = Instant::now();
    // Two at all times, as when one was taken for dead and is not.
    chaos.start_recorder();
    chaos.start_recorder();
    for _ in 0..ROUNDS {
        chaos.round().await;
    }
    chaos.check().await;
    while !chaos.recorders.is_empty() {
        chaos.crash_recorder().await;
    }
    println!("{ROUNDS} rounds, {} messages, {:?}: {:?}", chaos.log.len(), began.elapsed(), *chaos.tally.borrow());
    remove(&chaos.config).await;
}
