//! Events that left the log before they were stored.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use types::Timestamp;

use super::cut::CutLog;
use super::*;

/// Counts holes.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicU64>);

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "rookery_ingest_holes_total" { Counter::from_arc(self.0.clone()) } else { Counter::noop() }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// A group that is made so much later than now.
fn group_born(later: Duration) -> ConversationId {
    let mut bytes = *GroupId::generate(Region::default()).as_bytes();
    let millis = Timestamp::now().plus(later).as_millis().to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    ConversationId::Group(GroupId::from_bytes(bytes).unwrap())
}

impl Stores {
    /// A worker over the log without what is missing. It waits so long for what others have stored.
    fn start_without(&self, missing: RangeInclusive<u64>, old_news: &[u64], news: Duration) -> Running {
        let old_news = Mutex::new(old_news.iter().copied().collect());
        let log = Arc::new(CutLog { log: self.log.clone(), missing, old_news });
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run_with(log, self.history.clone(), shutdown.clone(), news));
        Running { task, shutdown }
    }

    /// As by another process: everything up to `last` is stored.
    async fn store(&self, last: u64) {
        let worker = self.start();
        self.stored(last).await;
        worker.stop().await.unwrap();
    }

    /// Whether nothing is missing after a place, as a client sees it, for whom a `prev` of 0 is filled in.
    async fn is_whole(&self, conversation: ConversationId, after_seq: u64) -> bool {
        let entries = self.history.events(conversation, after_seq, 1_000).await.unwrap();
        let mut before = after_seq;
        entries.iter().all(|entry| std::mem::replace(&mut before, entry.position.seq).max(after_seq) >= entry.prev)
    }
}

#[tokio::test]
async fn what_left_the_log_before_it_was_stored_is_missed() {
    let counted = Counted::default();
    let _recorder = metrics::set_default_local_recorder(&counted);
    let stores = Stores::new(&[]).await;
    let [busy, quiet] = [(); 2].map(|()| group_born(Duration::ZERO));
    let young = group_born(Duration::from_secs(3_600));
    let acked = stores.append(&[busy, quiet], 10).await;
    stores.store(acked).await;

    let gone = stores.append(&[busy], 40).await;
    let last = stores.append(&[busy, quiet, young, busy], 4).await;
    let worker = stores.start_without(acked + 1..=gone, &[], Duration::ZERO);
    stores.stored(last).await;
    worker.stop().await.unwrap();
    assert_eq!(counted.0.load(Ordering::SeqCst), 1);
    for (conversation, is_whole) in [(busy, false), (quiet, false), (young, true)] {
        assert_eq!(stores.is_whole(conversation, acked).await, is_whole);
    }
    let [first, second] = &stores.history.events(busy, acked, 10).await.unwrap()[..] else { unreachable!() };
    assert_eq!((first.prev, second.prev), (gone, first.position.seq));
    assert!(stores.is_whole(quiet, gone).await, "whoever was there behind the hole misses nothing");
}

#[tokio::test]
async fn a_hole_is_remembered_until_the_process_ends() {
    let stores = Stores::new(&[]).await;
    let [busy, silent] = [(); 2].map(|()| group_born(Duration::ZERO));
    let acked = stores.append(&[busy, silent], 2).await;
    stores.store(acked).await;

    let gone = stores.append(&[busy], 40).await;
    let worker = stores.start_without(acked + 1..=gone, &[], Duration::ZERO);
    let after = stores.append(&[busy], 1).await;
    stores.stored(after).await;
    let last = stores.append(&[silent], 1).await;
    stores.stored(last).await;
    worker.stop().await.unwrap();
    assert!(!stores.is_whole(silent, acked).await);
}

#[tokio::test]
async fn what_another_process_has_stored_is_not_missed_though_it_is_told_late() {
    let counted = Counted::default();
    let _recorder = metrics::set_default_local_recorder(&counted);
    let (stores, conversation) = (Stores::new(&[]).await, group_born(Duration::ZERO));
    let old = stores.append(&[conversation], 5).await;
    let acked = stores.append(&[conversation], 5).await;
    stores.store(acked).await;
    let last = stores.append(&[conversation], 5).await;
    let worker = stores.start_without(0..=0, &[old; 3], PATIENCE);
    stores.stored(last).await;
    worker.stop().await.unwrap();
    assert_eq!(counted.0.load(Ordering::SeqCst), 0);
    assert!(stores.is_whole(conversation, 0).await);
}
