//! Servers of our own, which are killed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use servers::{Home, Nats, NatsCluster, NatsOptions};
use tempfile::TempDir;
use types::{ConversationId, Entry, EventId};

use super::Made;
use super::relay::Relay;
use crate::contract::{append, event, group, next_batch, soon};
use crate::jetstream::Options;
use crate::{Append, Consumer, Delivery, Error, Log, Topic};

const WRITERS: usize = 8;
/// Events that show that writers go on.
const MORE: usize = 50 * WRITERS;
/// A cluster takes several seconds to choose a leader anew, and may be asked to do so again before it has.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

pub(super) fn folder(name: &str) -> (Home, TempDir) {
    let home = Home::open().unwrap();
    let folder = home.scratch(name).unwrap();
    (home, folder)
}

/// Appends until told to end, and sends again what it was not told of: as a client does. Gives what was stored.
async fn write(
    log: Arc<dyn Log>,
    conversation: ConversationId,
    ends: Arc<AtomicBool>,
    written: Written,
) -> Vec<(EventId, u64)> {
    let mut acked = Vec::new();
    while !ends.load(Ordering::Acquire) {
        let sent = event(conversation);
        acked.push((sent.id, insist(&log, sent).await));
        written.0.fetch_add(1, Ordering::Release);
    }
    acked
}

/// How many events all writers were told are stored.
#[derive(Clone, Default)]
struct Written(Arc<AtomicUsize>);

impl Written {
    /// Blocks until the writers have gone on.
    fn wait_for_more(&self) {
        let (enough, began) = (self.0.load(Ordering::Acquire) + MORE, Instant::now());
        while self.0.load(Ordering::Acquire) < enough {
            assert!(began.elapsed() < PATIENCE, "the writers do not go on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends an event until it is stored, and not for ever.
pub(super) async fn insist(log: &Arc<dyn Log>, sent: Append) -> u64 {
    patiently(send_until_stored(log, sent)).await
}

async fn send_until_stored(log: &Arc<dyn Log>, sent: Append) -> u64 {
    loop {
        let outcome = match log.append(sent.clone()).await {
            Ok(receipt) => receipt.await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(stored) => return stored.position.seq,
            Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads a feed until it has the event at `seq` of the conversation. Nothing may be missing or come twice.
async fn follow(log: &Arc<dyn Log>, conversation: ConversationId, until: Arc<AtomicBool>) -> Vec<u64> {
    let mut feed = log.feed().await.unwrap();
    let ConversationId::Group(group) = conversation else { panic!("no group") };
    feed.topics().subscribe(Topic::Group(group)).await.unwrap();
    let mut seqs = Vec::new();
    loop {
        let mut batch = Vec::new();
        patiently(feed.next_batch(&mut batch, 100)).await.unwrap();
        for delivery in batch {
            let entry = match delivery {
                Delivery::Event { entry, .. } => entry,
                Delivery::Interrupted => continue,
                other => panic!("{other:?}"),
            };
            seqs.push(entry.position.seq);
            if until.load(Ordering::Acquire) && entry.payload == "last" {
                return seqs;
            }
        }
    }
}

async fn read_all(log: &Arc<dyn Log>, conversation: ConversationId) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |last| last.position.seq);
        let page = log.read(conversation, after, 500).await.unwrap();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

/// Writers and followers go on while `disturb` does its worst.
async fn survive<T: Send + 'static>(log: Arc<dyn Log>, disturb: impl FnOnce(&Written) -> T + Send + 'static) -> T {
    let written = Written::default();
    let ends = Arc::new(AtomicBool::new(false));
    let conversations: Vec<ConversationId> = (0..WRITERS).map(|_| group().into()).collect();
    let followers = conversations.iter().map(|conversation| {
        let (log, conversation, ends) = (Arc::clone(&log), *conversation, Arc::clone(&ends));
        tokio::spawn(async move { follow(&log, conversation, ends).await })
    });
    let followers: Vec<_> = followers.collect();
    let writers: Vec<_> = conversations
        .iter()
        .map(|conversation| tokio::spawn(write(Arc::clone(&log), *conversation, Arc::clone(&ends), written.clone())))
        .collect();
    let disturbed = tokio::task::spawn_blocking(move || disturb(&written)).await.unwrap();
    ends.store(true, Ordering::Release);
    for ((writer, follower), conversation) in writers.into_iter().zip(followers).zip(conversations) {
        let acked = writer.await.unwrap();
        insist(&log, Append { payload: "last".into(), ..event(conversation) }).await;
        let stored = read_all(&log, conversation).await;
        let seqs: HashMap<String, u64> = stored
            .iter()
            .map(|entry| (String::from_utf8_lossy(&entry.payload).into_owned(), entry.position.seq))
            .collect();
        assert_eq!(seqs.len(), stored.len(), "an event was stored twice");
        for (id, seq) in &acked {
            assert_eq!(seqs.get(&format!(r#"{{"id":"{id}"}}"#)), Some(seq), "an acknowledged event is lost");
        }
        assert!(stored.windows(2).all(|pair| pair[1].prev == pair[0].position.seq));
        let delivered = follower.await.unwrap();
        let stored: Vec<u64> = stored.iter().map(|entry| entry.position.seq).collect();
        // The first ones may have been stored before the follower had subscribed.
        assert!(stored.ends_with(&delivered), "{} of {} were delivered", delivered.len(), stored.len());
    }
    disturbed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_no_feed_has_a_hole_when_the_server_is_killed() {
    let (home, folder) = folder("log-kill");
    let mut nats = Nats::start(&home, folder.path(), NatsOptions::default()).unwrap();
    let made = std::mem::ManuallyDrop::new(Made::on(nats.url(), 2));
    let log = made.open().await;
    let nats = survive(Arc::clone(&log), move |written| {
        for _ in 0..3 {
            written.wait_for_more();
            nats.kill().unwrap();
            nats.restart().unwrap();
        }
        written.wait_for_more();
        nats
    })
    .await;
    log.close().await;
    drop(nats);
}

fn by_conversation(delivered: Vec<Delivery>) -> HashMap<ConversationId, Vec<u64>> {
    let mut seqs = HashMap::<ConversationId, Vec<u64>>::new();
    for delivery in delivered {
        let Delivery::Event { entry, .. } = delivery else { panic!("no event: {delivery:?}") };
        seqs.entry(entry.conversation).or_default().push(entry.position.seq);
    }
    seqs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_appended_while_a_feed_was_cut_off_comes_when_it_is_back_though_nothing_follows() {
    let made = Made::shared(2);
    let there = made.open().await;
    let mut relay = Relay::to(&made.options.servers[0]).await;
    let options = Options { servers: vec![relay.url()], ..made.options.clone() };
    let here = crate::jetstream::open(options).await.unwrap();
    let mut feed = here.feed().await.unwrap();
    let heard = [group(), group(), group()];
    for group in heard {
        feed.topics().subscribe(Topic::Group(group)).await.unwrap();
    }
    let mut stored = HashMap::<ConversationId, Vec<u64>>::new();
    for cut in 0..3 {
        for number in 0..30 {
            let conversation = heard[number % 3].into();
            let seq = append(&*there, event(conversation)).await.position.seq;
            stored.entry(conversation).or_default().push(seq);
            append(&*there, event(group())).await;
        }
        // The first events come as they are stored, all others because the feed asks for them.
        if cut > 0 {
            relay.join().await;
        }
        let mut delivered = Vec::new();
        if cut > 0 {
            delivered.extend(next_batch(&mut feed, 1).await);
            assert!(matches!(*delivered, [Delivery::Interrupted]), "notices may be missing: {delivered:?}");
            delivered.clear();
        }
        while delivered.len() < 30 {
            delivered.extend(next_batch(&mut feed, 100).await);
        }
        assert_eq!(by_conversation(delivered), std::mem::take(&mut stored));
        relay.cut().await;
    }
    there.close().await;
}

/// Waits until the log has forgotten the ids of all that is stored.
async fn forget(log: &Arc<dyn Log>, window: Duration) {
    let conversation = group();
    let stored = append(&**log, event(conversation)).await.at;
    while append(&**log, event(conversation)).await.at < stored.plus(3 * window) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_when_the_connection_was_lost_is_not_stored_when_it_is_back() {
    /// More than may be on their way, so that others wait for room.
    const MANY: usize = 12_000;
    let mut made = Made::shared(2);
    made.options.duplicate_window = Duration::from_secs(1);
    let there = made.open().await;
    let mut relay = Relay::to(&made.options.servers[0]).await;
    let options = Options { servers: vec![relay.url()], ..made.options.clone() };
    let here = crate::jetstream::open(options).await.unwrap();
    let conversations: Vec<ConversationId> = (0..8).map(|_| group().into()).collect();
    relay.holds.send_replace(true);
    let begun = Arc::new(AtomicUsize::new(0));
    let sending = (0..MANY).map(|number| {
        let (here, begun, sent) = (Arc::clone(&here), Arc::clone(&begun), event(conversations[number % 8]));
        tokio::spawn(async move {
            begun.fetch_add(1, Ordering::Release);
            let outcome = match here.append(sent.clone()).await {
                Ok(receipt) => receipt.await,
                Err(error) => Err(error),
            };
            (sent, outcome)
        })
    });
    let sending: Vec<_> = sending.collect();
    while begun.load(Ordering::Acquire) < MANY {
        tokio::task::yield_now().await;
    }
    relay.cut().await;
    let mut refused = Vec::new();
    for sent in sending {
        match patiently(sent).await.unwrap() {
            (_, Ok(_)) => {}
            (sent, Err(Error::Unavailable(_))) => refused.push(sent),
            (_, Err(error)) => panic!("{error}"),
        }
    }
    assert!(!refused.is_empty());
    // They are sent again by another way, while this one is cut.
    futures_util::future::join_all(refused.into_iter().map(|sent| insist(&there, sent))).await;
    forget(&there, made.options.duplicate_window).await;
    relay.holds.send_replace(false);
    relay.join().await;
    for conversation in conversations {
        insist(&here, event(conversation)).await;
        let stored = read_all(&there, conversation).await;
        let ids: std::collections::HashSet<_> = stored.iter().map(|entry| entry.payload.clone()).collect();
        assert_eq!(ids.len(), stored.len(), "an event was stored twice");
    }
    here.close().await;
    there.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_missed_too_much_says_so_once_and_goes_on_with_what_comes() {
    let made = Made::shared(1);
    let there = made.open().await;
    let mut relay = Relay::to(&made.options.servers[0]).await;
    let options = Options { servers: vec![relay.url()], ..made.options.clone() };
    let here = crate::jetstream::open(options).await.unwrap();
    let mut feed = here.feed().await.unwrap();
    let [one, other] = [group(), group()];
    for group in [one, other] {
        feed.topics().subscribe(Topic::Group(group)).await.unwrap();
        append(&*there, event(group)).await;
        assert!(matches!(*next_batch(&mut feed, 1).await, [Delivery::Event { .. }]));
    }
    relay.cut().await;
    for _ in 0..11 {
        join_all((0..1_000).map(|_| append(&*there, event(one)))).await;
    }
    relay.join().await;
    let mut said = next_batch(&mut feed, 10).await;
    while said.len() < 2 {
        said.extend(next_batch(&mut feed, 10).await);
    }
    assert!(matches!(*said, [Delivery::Interrupted, Delivery::Lost]), "{said:?}");
    // Whoever began anew behind what was lost gets neither that nor another loss.
    let next = [append(&*there, event(other)).await, append(&*there, event(one)).await];
    for appended in next {
        let delivered = next_batch(&mut feed, 1).await;
        let [Delivery::Event { entry, .. }] = &*delivered else { panic!("{delivered:?}") };
        assert_eq!(entry.position, appended.position);
    }
    there.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_go_on_when_the_server_was_killed() {
    let (home, folder) = folder("log-consumers");
    let mut nats = Nats::start(&home, folder.path(), NatsOptions::default()).unwrap();
    let made = std::mem::ManuallyDrop::new(Made::on(nats.url(), 1));
    let log = made.open().await;
    let conversation = group();
    let mut stored = Vec::new();
    let mut handled: Vec<u64> = Vec::new();
    for round in 0..3 {
        for _ in 0..50 {
            stored.push(insist(&log, event(conversation)).await);
        }
        let began = Instant::now();
        while handled.last() != stored.last() {
            assert!(began.elapsed() < Duration::from_secs(20), "{} of {}", handled.len(), stored.len());
            handle(&log, &mut handled).await;
        }
        if round < 2 {
            nats.kill().unwrap();
            nats.restart().unwrap();
        }
    }
    // What was acknowledged just before a kill may be given again.
    handled.dedup();
    handled.sort_unstable();
    handled.dedup();
    assert_eq!(handled, stored);
    log.close().await;
}

/// Handles some events as a worker does, which begins anew after every failure.
async fn handle(log: &Arc<dyn Log>, handled: &mut Vec<u64>) {
    let consumer = Consumer { group: "ingest", shard: 0 };
    let outcome: Result<Vec<Entry>, Error> = async {
        let entries = soon(log.fetch(consumer, 20)).await?;
        log.ack(consumer, entries.last().unwrap().position.seq).await?;
        Ok(entries)
    }
    .await;
    match outcome {
        Ok(entries) => {
            assert!(entries.windows(2).all(|pair| pair[1].prev == pair[0].position.seq));
            handled.extend(entries.iter().map(|entry| entry.position.seq));
        }
        Err(_) => log.resume(consumer).await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_cannot_be_stored_is_refused_in_time() {
    let (home, folder) = folder("log-down");
    let mut nats = Nats::start(&home, folder.path(), NatsOptions::default()).unwrap();
    let made = std::mem::ManuallyDrop::new(Made::on(nats.url(), 1));
    let log = made.open().await;
    let conversation = group();
    append(&*log, event(conversation)).await;
    // Its connections stay open, and it says nothing.
    nats.pause().unwrap();
    let stat = format!("/proc/{}/stat", nats.pid().unwrap());
    let is_stopped = || std::fs::read_to_string(&stat).unwrap().contains(") T ");
    let stopping = Instant::now();
    while !is_stopped() {
        assert!(stopping.elapsed() < PATIENCE, "it does not stop");
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let receipt = log.append(event(conversation)).await.unwrap();
    assert!(matches!(soon(receipt).await, Err(Error::Unavailable(_))));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    nats.resume().unwrap();
    nats.kill().unwrap();
    let began = Instant::now();
    let outcome = match log.append(event(conversation)).await {
        Ok(receipt) => soon(receipt).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(outcome, Err(Error::Unavailable(_))));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    nats.restart().unwrap();
    insist(&log, event(conversation)).await;
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_goes_on_when_the_leader_is_killed() {
    let (home, folder) = folder("log-cluster");
    let mut cluster = NatsCluster::start(&home, folder.path(), NatsOptions::default()).unwrap();
    let urls = cluster.urls();
    let made = std::mem::ManuallyDrop::new(Made::on(&urls[0], 1));
    let options = Options { servers: urls.clone(), replicas: 3, ..made.options.clone() };
    crate::jetstream::migrate(&options).await.unwrap();
    let log = crate::jetstream::open(options.clone()).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let cluster = survive(Arc::clone(&log), move |written| {
        for _ in 0..3 {
            written.wait_for_more();
            let leader = runtime.block_on(leader(&options, 0));
            let server = cluster.server(&leader).unwrap();
            server.kill().unwrap();
            written.wait_for_more();
            server.restart().unwrap();
            cluster.wait_until_ready().unwrap();
        }
        written.wait_for_more();
        cluster
    })
    .await;
    log.close().await;
    drop(cluster);
}

/// Who leads a shard's stream.
pub(super) async fn leader(options: &Options, shard: u16) -> String {
    let names = crate::jetstream::names::Names::new(&options.name, options.region, options.shards).unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(&options.servers).await.unwrap());
    let began = Instant::now();
    loop {
        let stream = context.get_stream(names.stream(shard)).await;
        let leader = stream.ok().and_then(|stream| stream.cached_info().cluster.clone()?.leader);
        if let Some(leader) = leader {
            return leader;
        }
        assert!(began.elapsed() < PATIENCE, "nobody leads");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
