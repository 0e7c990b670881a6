use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use tempfile::TempDir;
use types::{ConversationId, Region, Timestamp};

use super::keeper::Keeper;
use super::layout::Head;
use super::live::NOTICES;
use super::tail::Limits;
use super::{Embedded, Options, indexer};
use crate::contract::{append, event, events_until, group, next_batch, seqs, soon};
use crate::{Appended, Consumer, Delivery, Error, Log, Topic};

mod against_a_model;
mod kill;

const WINDOW: Duration = Duration::from_secs(120);
const RETENTION: Duration = Duration::from_secs(3600);
const INGEST: Consumer = Consumer { group: "ingest", shard: 0 };
const ANALYTICS: Consumer = Consumer { group: "analytics", shard: 0 };

fn options(folder: &TempDir) -> Options {
    Options::new(folder.path().join("log"), Region::default(), RETENTION, WINDOW)
}

/// A log that keeps little in memory.
fn forgetful(folder: &TempDir) -> Options {
    Options { tail: Limits { entries: 8, bytes: usize::MAX }, ..options(folder) }
}

/// Opens one log in a folder of its own.
fn fixture() -> impl Fn() -> BoxFuture<'static, Arc<dyn Log>> {
    let folder = tempfile::tempdir().unwrap();
    move || {
        let options = options(&folder);
        async move { super::open(options).await.unwrap() }.boxed()
    }
}

/// The same, with a log that keeps little in memory.
fn forgetful_fixture() -> impl Fn() -> BoxFuture<'static, Arc<dyn Log>> {
    let folder = tempfile::tempdir().unwrap();
    move || {
        let options = forgetful(&folder);
        async move { super::open(options).await.unwrap() }.boxed()
    }
}

mod keeps_the_contract {
    crate::contract::suite!(crate::embedded::tests::fixture);
}

mod keeps_the_contract_from_disk {
    crate::contract::suite!(crate::embedded::tests::forgetful_fixture);
}

/// A keeper besides the log's own, to be run when the test says so and at the moment it says.
fn keeper(log: &Embedded) -> Keeper {
    let shard = Arc::clone(&log.running.shard);
    let store = shard.store().unwrap();
    Keeper { shard, store, consumers: Arc::clone(&log.consumers), retention: RETENTION }
}

/// Two rounds so much later that everything stored so far has outlived the retention and the duplicate window;
/// later still at the next `time`, counted from 0.
fn tidy_much_later(log: &Embedded, time: u32) {
    for hours in [4 * time + 2, 4 * time + 4] {
        let later = RETENTION * hours;
        keeper(log).tidy(Instant::now() + later, Timestamp::now().plus(later)).unwrap();
    }
}

fn tidy_now(log: &Embedded) {
    keeper(log).tidy(Instant::now(), Timestamp::now()).unwrap();
}

async fn append_many(log: &Embedded, conversation: impl Into<ConversationId>, count: usize) -> Vec<u64> {
    let conversation = conversation.into();
    let mut stored = Vec::new();
    for _ in 0..count {
        stored.push(append(log, event(conversation)).await.position.seq);
    }
    stored
}

#[tokio::test]
async fn a_log_that_is_opened_anew_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(&folder)).unwrap();
    let (epoch, conversations) = (log.layout().epoch, [group().into(), group().into()]);
    let mut before = HashMap::new();
    for conversation in conversations {
        append_many(&log, conversation, 30).await;
        before.insert(conversation, log.read(conversation, 0, 100).await.unwrap());
    }
    let heads = log.heads(&conversations).await.unwrap();
    drop(log);

    let log = Embedded::open(options(&folder)).unwrap();
    assert_eq!(log.layout().epoch, epoch);
    assert_eq!(log.heads(&conversations).await.unwrap(), heads);
    for conversation in conversations {
        assert_eq!(log.read(conversation, 0, 100).await.unwrap(), before[&conversation]);
    }
    let next = append(&log, event(conversations[0])).await.position.seq;
    let entry = log.read(conversations[0], next - 1, 1).await.unwrap().remove(0);
    assert_eq!((entry.position.seq, entry.prev), (61, 30));
}

#[tokio::test]
async fn a_resent_event_is_refused_by_a_log_that_was_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(&folder)).unwrap();
    let conversation = group();
    let events: Vec<_> = (0..20).map(|_| event(conversation)).collect();
    let mut stored = Vec::new();
    for event in &events {
        stored.push(append(&log, event.clone()).await);
    }
    drop(log);

    let log = Embedded::open(options(&folder)).unwrap();
    for (event, stored) in events.into_iter().zip(stored) {
        assert_eq!(append(&log, event).await, Appended { duplicate: true, ..stored });
    }
}

#[tokio::test]
async fn an_event_is_forgotten_as_a_duplicate_after_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { duplicate_window: Duration::ZERO, ..options(&folder) };
    let log = Embedded::open(options).unwrap();
    let sent = event(group());
    let first = append(&log, sent.clone()).await;
    tidy_now(&log);
    let second = append(&log, sent).await;
    assert!(!second.duplicate);
    assert!(second.position.seq > first.position.seq);
}

#[tokio::test]
async fn a_second_open_is_refused_until_the_first_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(&folder)).unwrap();
    let Err(Error::Unavailable(reason)) = Embedded::open(options(&folder)) else { panic!("it was opened twice") };
    assert!(reason.contains("in use by another process"), "{reason}");
    log.close().await;
    let second = Embedded::open(options(&folder)).unwrap();
    drop(log);
    drop(second);
    Embedded::open(options(&folder)).unwrap();
}

#[tokio::test]
async fn the_log_of_another_region_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Embedded::open(options(&folder)).unwrap());
    let other = Options { region: Region::new(7).unwrap(), ..options(&folder) };
    assert!(matches!(Embedded::open(other), Err(Error::Refused(_))));
    Embedded::open(options(&folder)).unwrap();
}

#[tokio::test]
async fn every_log_has_an_epoch_of_its_own() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = folders.each_ref().map(|folder| Embedded::open(options(folder)).unwrap().layout().epoch);
    assert_ne!(one, other);
}

#[tokio::test]
async fn moments_do_not_decrease_when_the_clock_is_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let conversation = group();
    let log = Embedded::open(options(&folder)).unwrap();
    let ahead = Timestamp::now().plus(Duration::from_secs(3600));
    log.running.shard.store().unwrap().append_for_test(1, ahead, conversation.into());
    drop(log);
    let log = Embedded::open(options(&folder)).unwrap();
    assert_eq!(append(&log, event(conversation)).await.at, ahead);
}

#[tokio::test]
async fn nothing_of_a_batch_shows_when_the_disk_fails() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(&folder)).unwrap();
    let conversation = group();
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(Topic::Group(conversation)).await.unwrap();
    let sent = event(conversation);
    let before = append(&log, sent.clone()).await;
    log.running.shard.store().unwrap().broken.store(true, Ordering::Relaxed);
    let mut receipts = Vec::new();
    for _ in 0..10 {
        receipts.push(log.append(event(conversation)).await.unwrap());
    }
    for failed in join_all(receipts).await {
        assert!(matches!(failed, Err(Error::Unavailable(_))));
    }
    assert_eq!(log.heads(&[conversation.into()]).await.unwrap()[0].unwrap().position, before.position);
    assert_eq!(seqs(&log.read(conversation.into(), 0, 10).await.unwrap()), [before.position.seq]);
    assert_eq!(events_until(&mut feed, before.position.seq).await.len(), 1);

    // Also once the disk is well again: what it holds is not known before the log is opened anew.
    log.running.shard.store().unwrap().broken.store(false, Ordering::Relaxed);
    assert!(matches!(log.append(sent.clone()).await.unwrap().await, Err(Error::Unavailable(_))));
    drop(log);
    let log = Embedded::open(options(&folder)).unwrap();
    assert_eq!(append(&log, sent).await, Appended { duplicate: true, ..before });
    assert_eq!(append(&log, event(conversation)).await.position.seq, before.position.seq + 1);
}

#[tokio::test]
async fn a_feed_that_lags_behind_memory_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(forgetful(&folder)).unwrap();
    let (heard, other) = (group(), group());
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(Topic::Group(heard)).await.unwrap();
    let mut stored = Vec::new();
    for _ in 0..700 {
        stored.push((Topic::Group(heard), append(&log, event(heard)).await.position.seq));
        append(&log, event(other)).await;
    }
    assert_eq!(events_until(&mut feed, stored[699].1).await, stored);
    let next = append(&log, event(heard)).await.position.seq;
    assert_eq!(events_until(&mut feed, next).await, [(Topic::Group(heard), next)]);
}

#[tokio::test]
async fn a_consumer_that_lags_behind_memory_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(forgetful(&folder)).unwrap();
    let stored = append_many(&log, group(), 700).await;
    let mut read = Vec::new();
    while read.len() < 700 {
        read.extend(seqs(&soon(log.fetch(INGEST, 1_000)).await.unwrap()));
        log.ack(INGEST, *read.last().unwrap()).await.unwrap();
    }
    assert_eq!(read, stored);
}

#[tokio::test]
async fn retention_keeps_what_a_consumer_needs() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(forgetful(&folder)).unwrap();
    let conversation = group();
    let stored = append_many(&log, conversation, 300).await;
    for consumer in [INGEST, ANALYTICS] {
        soon(log.fetch(consumer, 1)).await.unwrap();
    }
    tidy_much_later(&log, 0);
    assert_eq!(log.running.shard.oldest(), 1, "nobody has acknowledged");
    log.ack(INGEST, stored[280]).await.unwrap();
    log.ack(ANALYTICS, stored[99]).await.unwrap();
    tidy_now(&log);
    assert_eq!(log.running.shard.oldest(), 1, "nothing is old");
    tidy_much_later(&log, 1);
    let oldest = log.running.shard.oldest();
    assert!((stored[90]..=stored[100]).contains(&oldest), "only whole spans are removed: {oldest}");
    let kept: Vec<u64> = (oldest..=stored[299]).collect();
    assert_eq!(seqs(&log.read(conversation.into(), 0, 1_000).await.unwrap()), kept);
    log.resume(ANALYTICS).await.unwrap();
    let mut given = Vec::new();
    while given.len() < 200 {
        given.extend(seqs(&soon(log.fetch(ANALYTICS, 200)).await.unwrap()));
    }
    assert_eq!(given, stored[100..]);
    log.ack(ANALYTICS, stored[299]).await.unwrap();
    log.ack(INGEST, stored[299]).await.unwrap();
    tidy_much_later(&log, 2);
    assert!(log.running.shard.oldest() > stored[280], "what has left memory is removed");
}

#[tokio::test]
async fn a_removal_that_was_broken_off_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(forgetful(&folder)).unwrap();
    append_many(&log, group(), 100).await;
    let store = log.running.shard.store().unwrap();
    let (first, _) = store.outer_spans().unwrap().unwrap();
    let mut batch = store.batch(2);
    store.put_oldest(&mut batch, first.last + 1);
    store.remove_entry(&mut batch, first.first);
    store.commit_durably(batch).unwrap();
    drop((log, store));

    let log = Embedded::open(forgetful(&folder)).unwrap();
    assert_eq!(log.running.shard.oldest(), first.last + 1);
    tidy_now(&log);
    let store = log.running.shard.store().unwrap();
    assert!(store.entries(first.first, first.last, 100, usize::MAX).unwrap().is_empty());
    assert_eq!(store.outer_spans().unwrap().unwrap().0.first, first.last + 1);
}

#[tokio::test]
async fn an_index_that_was_broken_off_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(&folder)).unwrap();
    let conversations = [group(), group()];
    let mut stored = Vec::new();
    for number in 0..20 {
        stored.push(append(&log, event(conversations[number % 2])).await.position.seq);
    }
    // As if the process had ended after the first of the two was indexed up to the tenth event.
    let store = log.running.shard.store().unwrap();
    let mut batch = store.batch(2);
    let distances: Vec<u8> = [0_u16, 2, 4, 6, 8].iter().flat_map(|distance| distance.to_be_bytes()).collect();
    store.put_in_span(&mut batch, conversations[0].into(), 1, &distances);
    store.put_head(&mut batch, conversations[0].into(), Head { seq: 9, at: Timestamp::now() });
    store.commit_durably(batch).unwrap();
    drop((log, store));

    let log = Embedded::open(forgetful(&folder)).unwrap();
    let last = append(&log, event(conversations[0])).await.position.seq;
    let store = log.running.shard.store().unwrap();
    indexer::advance(&log.running.shard, &store).unwrap();
    assert_eq!(log.running.shard.tail.indexed(), last);
    let read = seqs(&log.read(conversations[0].into(), 0, 100).await.unwrap());
    assert_eq!(read, stored.iter().copied().step_by(2).chain([last]).collect::<Vec<_>>());
    let read = seqs(&log.read(conversations[1].into(), 5, 3).await.unwrap());
    assert_eq!(read, [stored[5], stored[7], stored[9]]);
}

#[tokio::test]
async fn what_retention_removed_stays_removed_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(forgetful(&folder)).unwrap();
    let (quiet, busy) = (group(), group());
    let last_of_quiet = append_many(&log, quiet, 5).await[4];
    append_many(&log, busy, 300).await;
    tidy_much_later(&log, 0);
    let oldest = log.running.shard.oldest();
    assert!(oldest > last_of_quiet);
    drop(log);

    let log = Embedded::open(forgetful(&folder)).unwrap();
    assert_eq!(log.running.shard.oldest(), oldest);
    assert_eq!(log.heads(&[quiet.into()]).await.unwrap(), [None]);
    assert_eq!(log.read(quiet.into(), 0, 10).await.unwrap(), []);
    assert_eq!(seqs(&soon(log.fetch(INGEST, 1)).await.unwrap()), [oldest]);
    let next = append(&log, event(quiet)).await.position.seq;
    let entries = log.read(quiet.into(), 0, 10).await.unwrap();
    assert_eq!((entries[0].position.seq, entries[0].prev), (next, last_of_quiet));
}

#[tokio::test]
async fn a_feed_is_told_when_retention_overtook_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(forgetful(&folder)).unwrap();
    let conversation = group();
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(Topic::Group(conversation)).await.unwrap();
    let stored = append_many(&log, conversation, 300).await;
    tidy_much_later(&log, 0);
    let oldest = log.running.shard.oldest();
    assert!(matches!(&*next_batch(&mut feed, 10).await, [Delivery::Lost]));
    let delivered = events_until(&mut feed, stored[299]).await;
    assert_eq!(
        delivered.into_iter().map(|(_, seq)| seq).collect::<Vec<_>>(),
        (oldest..=stored[299]).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn what_is_not_acknowledged_within_the_lease_is_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(Options { lease: Duration::from_millis(50), ..options(&folder) }).unwrap();
    let stored = append_many(&log, group(), 3).await;
    assert_eq!(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()), stored);
    assert_eq!(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()), stored);
    log.ack(INGEST, stored[1]).await.unwrap();
    assert_eq!(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()), stored[2..]);
}

#[tokio::test]
async fn acknowledged_progress_is_written_down_without_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(&folder)).unwrap();
    let stored = append_many(&log, group(), 3).await;
    soon(log.fetch(INGEST, 10)).await.unwrap();
    log.ack(INGEST, stored[1]).await.unwrap();
    tidy_now(&log);
    let consumers = log.running.shard.store().unwrap().consumers().unwrap();
    assert_eq!(consumers, [(0, "ingest".to_owned(), stored[1])]);
}

#[tokio::test]
async fn requests_go_round() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(Embedded::open(options(&folder)).unwrap());
    let mut servers = [log.serve("x").await.unwrap(), log.serve("x").await.unwrap(), log.serve("x").await.unwrap()];
    for turn in 0..12 {
        let log = Arc::clone(&log);
        let asking = tokio::spawn(async move { log.request("x", Bytes::new(), WINDOW).await.unwrap() });
        soon(servers[turn % 3].next()).await.unwrap().answer("mine".into());
        assert_eq!(asking.await.unwrap(), "mine");
    }
}

#[tokio::test]
async fn a_feed_that_cannot_take_all_notices_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(&folder)).unwrap();
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(Topic::Directory).await.unwrap();
    for _ in 0..NOTICES + 10 {
        log.notify(Topic::Directory, Bytes::from_static(b"x")).await.unwrap();
    }
    let batch = next_batch(&mut feed, NOTICES * 2).await;
    assert_eq!(batch.len(), NOTICES + 1);
    assert!(matches!(batch[NOTICES], Delivery::Lost));
    log.notify(Topic::Directory, Bytes::from_static(b"y")).await.unwrap();
    assert!(matches!(&*next_batch(&mut feed, 10).await, [Delivery::Notice { .. }]));
}

#[tokio::test]
async fn a_feed_outlives_neither_its_log_nor_its_topics() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(options(&folder)).unwrap();
    let mut feed = log.feed().await.unwrap();
    let dropped = log.feed().await.unwrap();
    let topics = dropped.topics();
    topics.subscribe(Topic::Directory).await.unwrap();
    drop(dropped);
    log.notify(Topic::Directory, Bytes::new()).await.unwrap();
    drop(log);
    assert!(matches!(soon(feed.next_batch(&mut Vec::new(), 1)).await, Err(Error::Unavailable(_))));
}
