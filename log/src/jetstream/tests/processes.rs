//! What one process does, another sees.

use std::time::Duration;

use futures_util::future::join_all;
use types::{ConversationId, Timestamp};

use super::Made;
use crate::contract::{append, event, events_until, group, next_batch, seqs, soon, user};
use crate::{Append, Consumer, Delivery, Error, Lag, Log, Topic};

const INGEST: Consumer = Consumer { group: "ingest", shard: 0 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_was_told_another_reads() {
    let made = Made::shared(4);
    let (here, there) = (made.open().await, made.open().await);
    let conversation: ConversationId = group().into();
    let shard = usize::from(conversation.shard(4));
    for count in 1..=50 {
        let stored = append(&*here, event(conversation)).await;
        assert_eq!(there.heads(&[conversation]).await.unwrap()[0].unwrap().position, stored.position);
        assert_eq!(there.ends().await.unwrap()[shard], stored.position.seq);
        let read = there.read(conversation, 0, 100).await.unwrap();
        assert_eq!((read.len(), read[count - 1].position, read[count - 1].at), (count, stored.position, stored.at));
    }
    let again = event(conversation);
    let first = append(&*here, again.clone()).await;
    assert_eq!(append(&*there, again).await, crate::Appended { duplicate: true, ..first });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_notices_reach_the_feeds_of_other_processes() {
    let made = Made::shared(4);
    let (here, there) = (made.open().await, made.open().await);
    let [me, peer] = [user(), user()];
    let mut feed = there.feed().await.unwrap();
    feed.topics().subscribe(Topic::User(me)).await.unwrap();
    let to_me = [ConversationId::direct(me, peer), ConversationId::direct(me, me), ConversationId::direct(user(), me)];
    for conversation in to_me {
        let stored = append(&*here, event(conversation)).await.position.seq;
        assert_eq!(events_until(&mut feed, stored).await, [(Topic::User(me), stored)]);
    }
    here.notify(Topic::User(me), "seen".into()).await.unwrap();
    let heard = next_batch(&mut feed, 10).await;
    assert!(matches!(&*heard, [Delivery::Notice { topic: Topic::User(user), .. }] if *user == me), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_to_other_processes() {
    let made = Made::shared(1);
    let (here, there) = (made.open().await, made.open().await);
    let before = there.lag(INGEST).await.unwrap();
    assert_eq!((before.events, before.acked_seq), (0, 0));
    let stored = append(&*here, event(group())).await.position.seq;
    there.ends().await.unwrap();
    assert_eq!(there.lag(INGEST).await.unwrap(), Lag { events: 1, acked_seq: 0, end_seq: stored });
    assert_eq!(seqs(&soon(here.fetch(INGEST, 10)).await.unwrap()), [stored]);
    // It is the other's shard.
    assert!(matches!(there.ack(INGEST, stored).await, Err(Error::Unavailable(_))));
    here.ack(INGEST, stored).await.unwrap();
    let told = async {
        while there.lag(INGEST).await.unwrap() != (Lag { events: 0, acked_seq: stored, end_seq: stored }) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(told).await;
}

/// Fetches until so many events have come.
async fn fetched(log: &dyn Log, count: usize) -> Vec<u64> {
    let mut seqs_so_far = Vec::new();
    while seqs_so_far.len() < count {
        seqs_so_far.extend(seqs(&soon(log.fetch(INGEST, count)).await.unwrap()));
    }
    seqs_so_far
}

/// What an operator does after a store was put back from a backup, by the names that docs/OPERATING.md gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_deleted_begins_again_with_all_that_the_log_has() {
    let made = Made::shared(1);
    let log = made.open().await;
    let mut stored = Vec::new();
    for _ in 0..3 {
        stored.push(append(&*log, event(group())).await.position.seq);
    }
    assert_eq!(fetched(&*log, 3).await, stored);
    log.ack(INGEST, stored[2]).await.unwrap();
    log.close().await;

    let context = async_nats::jetstream::new(async_nats::connect(&made.options.servers[0]).await.unwrap());
    let stream = format!("{}-0-0", made.options.name);
    assert!(context.delete_consumer_from_stream("ingest", stream).await.unwrap().success);
    let log = made.open().await;
    assert_eq!(fetched(&*log, 3).await, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_is_told_how_much_is_behind_what_it_was_given() {
    let made = Made::shared(1);
    let (here, there) = (made.open().await, made.open().await);
    let before = there.lag(INGEST).await.unwrap();
    assert_eq!((before.events, before.acked_seq), (0, 0));
    let receipts = join_all((0..3_000).map(|_| here.append(event(group())))).await;
    let mut end_seq = 0;
    for receipt in receipts {
        end_seq = soon(receipt.unwrap()).await.unwrap().position.seq.max(end_seq);
    }
    assert!(!soon(there.fetch(INGEST, 1)).await.unwrap().is_empty());
    assert_eq!(there.lag(INGEST).await.unwrap(), Lag { events: 3_000, acked_seq: 0, end_seq });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_is_read_slowly_misses_nothing() {
    let made = Made::shared(1);
    let log = made.open().await;
    let group = group();
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(Topic::Group(group)).await.unwrap();
    // Twice what waits for a reader at most.
    let mut stored = Vec::new();
    for _ in 0..160 {
        let payload = vec![b'x'; crate::MAX_PAYLOAD_BYTES].into();
        stored.push(append(&*log, Append { payload, ..event(group) }).await.position.seq);
    }
    let delivered = events_until(&mut feed, *stored.last().unwrap()).await;
    assert_eq!(delivered.into_iter().map(|(_, seq)| seq).collect::<Vec<_>>(), stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_tells_the_moment_that_readers_see_whether_or_not_a_feed_listens() {
    let made = Made::shared(1);
    let log = made.open().await;
    let feed = log.feed().await.unwrap();
    let (heard, unheard) = (group(), group());
    feed.topics().subscribe(Topic::Group(heard)).await.unwrap();
    for conversation in [heard, unheard] {
        let before = Timestamp::now();
        let stored = append(&*log, event(conversation)).await;
        let read = log.read(conversation.into(), 0, 1).await.unwrap();
        assert_eq!(read[0].at, stored.at);
        assert!(stored.at >= before.minus(Duration::from_secs(1)));
    }
}
