//! What every log must keep to, as tests. An implementation runs them all with [`suite`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use types::{ConversationId, Entry, EventId, GroupId, Region, UserId};

use crate::{
    Append, Appended, Consumer, Delivery, Error, Feed, Head, Lag, Log, MAX_PAYLOAD_BYTES, Receipt, Requests, Topic,
};

/// Opens the log under test; called again, opens the same log anew. One log, empty at first, per test.
pub(crate) type Open = dyn Fn() -> BoxFuture<'static, Arc<dyn Log>>;

/// Makes each check a test of its own. `$fixture()` gives a closure that is an [`Open`].
macro_rules! suite {
    ($fixture:path) => {
        $crate::contract::suite! { $fixture:
            every_event_has_a_later_position_than_the_one_before
            events_handed_over_one_after_the_other_stay_in_order
            prev_is_the_event_before_in_the_same_conversation
            moments_do_not_decrease
            a_payload_comes_back_byte_for_byte
            a_payload_that_is_too_large_is_refused
            a_resent_event_is_stored_once
            an_event_sent_many_times_at_once_is_stored_once
            repetitions_handed_over_without_waiting_are_stored_once
            a_receipt_that_nobody_awaits_does_not_take_the_event_back
            an_event_is_in_the_next_read_once_its_receipt_resolved
            heads_are_answered_in_the_order_of_the_question
            pages_of_a_conversation_make_the_whole
            a_feed_delivers_what_is_stored_after_subscribing_once_and_in_order
            a_direct_event_comes_once_for_each_user_listened_to
            a_feed_delivers_nothing_it_is_not_subscribed_to
            an_unsubscribed_topic_falls_silent
            a_batch_is_no_larger_than_asked_for
            giving_up_on_a_batch_loses_nothing
            every_feed_gets_every_event
            a_notice_reaches_those_who_listen_and_nobody_else
            each_request_goes_to_one_of_those_who_serve
            a_request_that_nobody_serves_is_unavailable
            a_request_that_is_dropped_or_late_is_unavailable
            a_server_that_ends_is_not_asked_again
            a_consumer_reads_everything_in_order
            a_fetch_waits_for_the_next_event
            what_was_given_is_given_again_unless_acknowledged
            a_waiting_fetch_learns_of_a_resume
            giving_up_on_a_fetch_loses_nothing
            consumers_do_not_disturb_each_other
            progress_survives_the_process
            lag_counts_what_is_not_acknowledged
            what_cannot_be_is_refused
            closing_stores_what_was_handed_over_and_refuses_more
        }
    };
    ($fixture:path: $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let open = $fixture();
                $crate::contract::$name(&open).await;
            }
        )*
    };
}
pub(crate) use suite;

/// The consumer of most checks.
const INGEST: Consumer = Consumer { group: "ingest", shard: 0 };
/// Longer than anything takes that is expected to come.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn group() -> GroupId {
    GroupId::generate(Region::default())
}

pub(crate) fn user() -> UserId {
    UserId::generate(Region::default())
}

/// A new event in the conversation. Its payload names its id.
pub(crate) fn event(conversation: impl Into<ConversationId>) -> Append {
    let id = EventId::generate(Region::default());
    Append { conversation: conversation.into(), id, payload: format!(r#"{{"id":"{id}"}}"#).into() }
}

pub(crate) async fn append(log: &dyn Log, append: Append) -> Appended {
    hand_over(log, append).await.await.unwrap()
}

async fn hand_over(log: &dyn Log, append: Append) -> Receipt {
    log.append(append).await.unwrap()
}

pub(crate) fn seqs(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.position.seq).collect()
}

/// Fails the test instead of hanging it.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

pub(crate) async fn next_batch(feed: &mut Feed, limit: usize) -> Vec<Delivery> {
    let mut batch = Vec::new();
    soon(feed.next_batch(&mut batch, limit)).await.unwrap();
    batch
}

/// Reads the feed up to and with the event at `seq`, as topic and `seq` of each event.
pub(crate) async fn events_until(feed: &mut Feed, seq: u64) -> Vec<(Topic, u64)> {
    let mut events = Vec::new();
    while events.last().is_none_or(|(_, last)| *last < seq) {
        for delivery in next_batch(feed, 100).await {
            let Delivery::Event { topic, entry } = delivery else { panic!("no event: {delivery:?}") };
            events.push((topic, entry.position.seq));
        }
    }
    events
}

fn is_unavailable<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unavailable(_)))
}

pub(crate) async fn every_event_has_a_later_position_than_the_one_before(open: &Open) {
    let log = open().await;
    let (one, other) = (group(), group());
    let mut last = 0;
    for conversation in [one, other, one, one, other] {
        let Appended { position, duplicate, .. } = append(&*log, event(conversation)).await;
        assert!(!duplicate);
        assert_eq!(position.epoch, log.layout().epoch);
        assert!(position.seq > last);
        last = position.seq;
    }
}

pub(crate) async fn events_handed_over_one_after_the_other_stay_in_order(open: &Open) {
    let log = open().await;
    let writer = async |conversation: GroupId| {
        let mut receipts = Vec::new();
        for _ in 0..300 {
            receipts.push(hand_over(&*log, event(conversation)).await);
        }
        let stored: Vec<u64> =
            join_all(receipts).await.into_iter().map(|stored| stored.unwrap().position.seq).collect();
        assert!(stored.is_sorted_by(|one, next| one < next));
        assert_eq!(seqs(&log.read(conversation.into(), 0, 1_000).await.unwrap()), stored);
    };
    join_all([group(), group(), group()].map(writer)).await;
}

pub(crate) async fn prev_is_the_event_before_in_the_same_conversation(open: &Open) {
    let log = open().await;
    let me = user();
    let conversations = [group().into(), ConversationId::direct(me, user()), ConversationId::direct(me, me)];
    let mut receipts = Vec::new();
    for _ in 0..50 {
        for conversation in conversations {
            receipts.push(hand_over(&*log, event(conversation)).await);
        }
    }
    join_all(receipts).await;
    for conversation in conversations {
        let entries = log.read(conversation, 0, 100).await.unwrap();
        assert_eq!(entries.len(), 50);
        let mut prev = 0;
        for entry in entries {
            assert_eq!((entry.conversation, entry.prev), (conversation, prev));
            prev = entry.position.seq;
        }
    }
}

pub(crate) async fn moments_do_not_decrease(open: &Open) {
    let log = open().await;
    let conversation = group();
    for _ in 0..20 {
        append(&*log, event(conversation)).await;
    }
    let entries = log.read(conversation.into(), 0, 20).await.unwrap();
    assert!(entries.is_sorted_by_key(|entry| entry.at));
}

pub(crate) async fn a_payload_comes_back_byte_for_byte(open: &Open) {
    let log = open().await;
    let conversation = group();
    let payloads = [
        Bytes::new(),
        Bytes::from_static(br#"{ "b":1,"a" : "\u0000", "emoji":"\ud83d\ude00" }"#),
        Bytes::from_static(&[0, 255, 10, 13, 0]),
        vec![b'x'; MAX_PAYLOAD_BYTES].into(),
    ];
    for payload in &payloads {
        append(&*log, Append { payload: payload.clone(), ..event(conversation) }).await;
    }
    let entries = log.read(conversation.into(), 0, 10).await.unwrap();
    let stored: Vec<Bytes> = entries.into_iter().map(|entry| entry.payload).collect();
    assert_eq!(stored, payloads);
}

pub(crate) async fn a_payload_that_is_too_large_is_refused(open: &Open) {
    let log = open().await;
    let conversation = group();
    let payload = vec![b'x'; MAX_PAYLOAD_BYTES + 1].into();
    let refused = match log.append(Append { payload, ..event(conversation) }).await {
        Ok(receipt) => receipt.await.map(drop),
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(Error::Refused(_))));
    assert_eq!(log.read(conversation.into(), 0, 10).await.unwrap(), []);
}

pub(crate) async fn a_resent_event_is_stored_once(open: &Open) {
    let log = open().await;
    let conversation = group();
    let sent = event(conversation);
    let first = append(&*log, sent.clone()).await;
    let other = append(&*log, event(conversation)).await;
    let again = append(&*log, sent.clone()).await;
    assert_eq!(again, Appended { duplicate: true, ..first });
    let entries = log.read(conversation.into(), 0, 10).await.unwrap();
    assert_eq!(seqs(&entries), [first.position.seq, other.position.seq]);
}

pub(crate) async fn an_event_sent_many_times_at_once_is_stored_once(open: &Open) {
    let log = open().await;
    let conversation = group();
    let sent = event(conversation);
    let send = || {
        let (log, sent) = (Arc::clone(&log), sent.clone());
        tokio::spawn(async move { append(&*log, sent).await })
    };
    let stored: Vec<Appended> =
        join_all(std::iter::repeat_with(send).take(100)).await.into_iter().map(Result::unwrap).collect();
    let entries = log.read(conversation.into(), 0, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert!(stored.iter().all(|stored| stored.position == entries[0].position && stored.at == entries[0].at));
    assert_eq!(stored.iter().filter(|stored| !stored.duplicate).count(), 1);
}

pub(crate) async fn repetitions_handed_over_without_waiting_are_stored_once(open: &Open) {
    let log = open().await;
    let conversation = group();
    let events: Vec<Append> = (0..20).map(|_| event(conversation)).collect();
    let mut receipts = Vec::new();
    for _ in 0..3 {
        for event in &events {
            receipts.push(hand_over(&*log, event.clone()).await);
        }
    }
    let stored: Vec<Appended> = join_all(receipts).await.into_iter().map(Result::unwrap).collect();
    let (first, repeated) = stored.split_at(20);
    assert!(first.iter().all(|stored| !stored.duplicate));
    for (index, repeated) in repeated.iter().enumerate() {
        assert_eq!(*repeated, Appended { duplicate: true, ..first[index % 20] });
    }
    assert_eq!(log.read(conversation.into(), 0, 100).await.unwrap().len(), 20);
}

pub(crate) async fn a_receipt_that_nobody_awaits_does_not_take_the_event_back(open: &Open) {
    let log = open().await;
    let conversation = group();
    drop(hand_over(&*log, event(conversation)).await);
    let last = append(&*log, event(conversation)).await;
    let entries = log.read(conversation.into(), 0, 10).await.unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].position, last.position);
}

pub(crate) async fn an_event_is_in_the_next_read_once_its_receipt_resolved(open: &Open) {
    let log = open().await;
    let conversation: ConversationId = group().into();
    let writer = |_| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for _ in 0..50 {
                let sent = event(conversation);
                let Appended { position, at, .. } = append(&*log, sent.clone()).await;
                let read = log.read(conversation, position.seq - 1, 1).await.unwrap();
                assert_eq!((read[0].position, read[0].at, &read[0].payload), (position, at, &sent.payload));
                let head = log.heads(&[conversation]).await.unwrap()[0].unwrap();
                assert!(head.position.seq >= position.seq);
            }
        })
    };
    for writer in join_all((0..8).map(writer)).await {
        writer.unwrap();
    }
}

pub(crate) async fn heads_are_answered_in_the_order_of_the_question(open: &Open) {
    let log = open().await;
    let conversations: Vec<ConversationId> = (0..100).map(|_| group().into()).collect();
    let mut heads = HashMap::new();
    for conversation in conversations.iter().step_by(2).chain(conversations.iter().step_by(4)) {
        let Appended { position, at, .. } = append(&*log, event(*conversation)).await;
        heads.insert(*conversation, Head { position, at });
    }
    let expected: Vec<Option<Head>> = conversations.iter().map(|id| heads.get(id).copied()).collect();
    assert_eq!(log.heads(&conversations).await.unwrap(), expected);
    assert_eq!(log.heads(&[]).await.unwrap(), []);
}

pub(crate) async fn pages_of_a_conversation_make_the_whole(open: &Open) {
    let log = open().await;
    let (conversation, other) = (group(), group());
    let mut stored = Vec::new();
    for _ in 0..25 {
        stored.push(append(&*log, event(conversation)).await.position.seq);
        append(&*log, event(other)).await;
    }
    let mut paged = Vec::new();
    loop {
        let after = paged.last().copied().unwrap_or(0);
        let page = seqs(&log.read(conversation.into(), after, 10).await.unwrap());
        paged.extend_from_slice(&page);
        if page.len() < 10 {
            break;
        }
    }
    assert_eq!(paged, stored);
    assert_eq!(log.read(conversation.into(), 0, 0).await.unwrap(), []);
    assert_eq!(log.read(conversation.into(), u64::MAX, 10).await.unwrap(), []);
}

pub(crate) async fn a_feed_delivers_what_is_stored_after_subscribing_once_and_in_order(open: &Open) {
    let log = open().await;
    let mut feed = log.feed().await.unwrap();
    let writer = |_| {
        let (log, topics) = (Arc::clone(&log), feed.topics());
        tokio::spawn(async move {
            let group = group();
            for _ in 0..20 {
                append(&*log, event(group)).await;
            }
            topics.subscribe(Topic::Group(group)).await.unwrap();
            let mut stored = Vec::new();
            for _ in 0..100 {
                stored.push(append(&*log, event(group)).await.position.seq);
            }
            (Topic::Group(group), stored)
        })
    };
    let writers = tokio::spawn(join_all((0..6).map(writer)));
    let mut delivered = Vec::new();
    while delivered.len() < 6 * 100 {
        for delivery in next_batch(&mut feed, 50).await {
            let Delivery::Event { topic, entry } = delivery else { panic!("no event: {delivery:?}") };
            delivered.push((topic, entry.position.seq));
        }
    }
    assert!(delivered.is_sorted_by_key(|(_, seq)| *seq));
    for writer in writers.await.unwrap() {
        let (topic, stored) = writer.unwrap();
        let of_topic: Vec<u64> = delivered.iter().filter(|(of, _)| *of == topic).map(|(_, seq)| *seq).collect();
        assert_eq!(of_topic, stored);
    }
}

pub(crate) async fn a_direct_event_comes_once_for_each_user_listened_to(open: &Open) {
    let log = open().await;
    let [me, peer, stranger] = [user(), user(), user()];
    let mut both = log.feed().await.unwrap();
    both.topics().subscribe(Topic::User(me)).await.unwrap();
    both.topics().subscribe(Topic::User(peer)).await.unwrap();
    let mut one = log.feed().await.unwrap();
    one.topics().subscribe(Topic::User(peer)).await.unwrap();

    let shared = append(&*log, event(ConversationId::direct(me, peer))).await.position.seq;
    let own = append(&*log, event(ConversationId::direct(me, me))).await.position.seq;
    let half = append(&*log, event(ConversationId::direct(stranger, peer))).await.position.seq;
    let mut events = events_until(&mut both, half).await;
    events[..2].sort_by_key(|(topic, _)| *topic != Topic::User(me));
    let of = |user, seq| (Topic::User(user), seq);
    assert_eq!(events, [of(me, shared), of(peer, shared), of(me, own), of(peer, half)]);
    assert_eq!(events_until(&mut one, half).await, [of(peer, shared), of(peer, half)]);
}

pub(crate) async fn a_feed_delivers_nothing_it_is_not_subscribed_to(open: &Open) {
    let log = open().await;
    let mut feed = log.feed().await.unwrap();
    let (mine, other, me) = (group(), group(), user());
    append(&*log, event(mine)).await;
    feed.topics().subscribe(Topic::Group(mine)).await.unwrap();
    feed.topics().subscribe(Topic::Directory).await.unwrap();
    append(&*log, event(other)).await;
    append(&*log, event(ConversationId::direct(me, user()))).await;
    let last = append(&*log, event(mine)).await.position.seq;
    assert_eq!(events_until(&mut feed, last).await, [(Topic::Group(mine), last)]);
}

pub(crate) async fn an_unsubscribed_topic_falls_silent(open: &Open) {
    let log = open().await;
    let mut feed = log.feed().await.unwrap();
    let topics = feed.topics();
    let (left, kept) = (group(), group());
    for group in [left, kept, left] {
        topics.subscribe(Topic::Group(group)).await.unwrap();
    }
    let before = append(&*log, event(left)).await.position.seq;
    assert_eq!(events_until(&mut feed, before).await, [(Topic::Group(left), before)]);
    topics.unsubscribe(Topic::Group(left));
    append(&*log, event(left)).await;
    let last = append(&*log, event(kept)).await.position.seq;
    assert_eq!(events_until(&mut feed, last).await, [(Topic::Group(kept), last)]);
}

pub(crate) async fn a_batch_is_no_larger_than_asked_for(open: &Open) {
    let log = open().await;
    let mut feed = log.feed().await.unwrap();
    let (me, peer) = (user(), user());
    for user in [me, peer] {
        feed.topics().subscribe(Topic::User(user)).await.unwrap();
    }
    let mut stored = Vec::new();
    for _ in 0..5 {
        stored.push(append(&*log, event(ConversationId::direct(me, peer))).await.position.seq);
    }
    let mut delivered = Vec::new();
    for limit in [1, 3, 2, 1, 3] {
        let mut wanted = limit;
        while wanted > 0 {
            let batch = next_batch(&mut feed, wanted).await;
            assert!((1..=wanted).contains(&batch.len()));
            wanted -= batch.len();
            delivered.extend(batch);
        }
    }
    let delivered = delivered.into_iter().map(|delivery| match delivery {
        Delivery::Event { entry, .. } => entry.position.seq,
        other => panic!("no event: {other:?}"),
    });
    assert_eq!(delivered.collect::<Vec<_>>(), stored.iter().flat_map(|seq| [*seq, *seq]).collect::<Vec<_>>());
}

pub(crate) async fn giving_up_on_a_batch_loses_nothing(open: &Open) {
    let log = open().await;
    let mut feed = log.feed().await.unwrap();
    let group = group();
    feed.topics().subscribe(Topic::Group(group)).await.unwrap();
    let mut delivered = Vec::new();
    let mut stored = Vec::new();
    while stored.len() < 200 {
        let mut batch = Vec::new();
        // Whichever comes first: sometimes the batch is broken off, sometimes the append goes on without it.
        let append = tokio::spawn({
            let log = Arc::clone(&log);
            async move { append(&*log, event(group)).await.position.seq }
        });
        tokio::select! {
            result = feed.next_batch(&mut batch, 10) => {
                result.unwrap();
                stored.push(append.await.unwrap());
            }
            () = tokio::task::yield_now() => stored.push(append.await.unwrap()),
        }
        delivered.extend(batch);
    }
    while delivered.len() < stored.len() {
        delivered.extend(next_batch(&mut feed, 10).await);
    }
    let delivered = delivered.into_iter().map(|delivery| match delivery {
        Delivery::Event { entry, .. } => entry.position.seq,
        other => panic!("no event: {other:?}"),
    });
    assert_eq!(delivered.collect::<Vec<_>>(), stored);
}

pub(crate) async fn every_feed_gets_every_event(open: &Open) {
    let log = open().await;
    let group = group();
    let mut feeds = Vec::new();
    for _ in 0..3 {
        let feed = log.feed().await.unwrap();
        feed.topics().subscribe(Topic::Group(group)).await.unwrap();
        feeds.push(feed);
    }
    let mut stored = Vec::new();
    for _ in 0..10 {
        stored.push((Topic::Group(group), append(&*log, event(group)).await.position.seq));
    }
    drop(feeds.pop());
    for feed in &mut feeds {
        assert_eq!(events_until(feed, stored[9].1).await, stored);
    }
}

pub(crate) async fn a_notice_reaches_those_who_listen_and_nobody_else(open: &Open) {
    let log = open().await;
    let topics = [Topic::Group(group()), Topic::User(user()), Topic::Directory];
    let mut all = log.feed().await.unwrap();
    let mut one = log.feed().await.unwrap();
    for topic in topics {
        all.topics().subscribe(topic).await.unwrap();
    }
    one.topics().subscribe(Topic::Directory).await.unwrap();
    for (number, topic) in topics.into_iter().enumerate() {
        log.notify(topic, number.to_string().into()).await.unwrap();
    }
    let mut heard = HashSet::new();
    while heard.len() < 3 {
        for delivery in next_batch(&mut all, 10).await {
            let Delivery::Notice { topic, notice } = delivery else { panic!("no notice: {delivery:?}") };
            assert!(heard.insert((topic, notice)), "a notice came twice");
        }
    }
    for (number, topic) in topics.into_iter().enumerate() {
        assert!(heard.contains(&(topic, number.to_string().into())));
    }
    let heard = next_batch(&mut one, 10).await;
    assert!(matches!(&*heard, [Delivery::Notice { topic: Topic::Directory, notice }] if notice == "2"), "{heard:?}");
}

/// Answers `count` requests with the server's name and the payload.
async fn answer(mut requests: Requests, name: &str, count: usize) -> usize {
    for _ in 0..count {
        let request = soon(requests.next()).await.unwrap();
        let answer = format!("{name}:{}", String::from_utf8_lossy(&request.payload));
        request.answer(answer.into());
    }
    count
}

pub(crate) async fn each_request_goes_to_one_of_those_who_serve(open: &Open) {
    let log = open().await;
    let mut servers = Vec::new();
    for name in ["a", "b"] {
        let mut requests = log.serve("directory").await.unwrap();
        servers.push(tokio::spawn(async move {
            let mut count = 0;
            while let Some(request) = requests.next().await {
                count += 1;
                let answer = format!("{name}:{}", String::from_utf8_lossy(&request.payload));
                request.answer(answer.into());
            }
            count
        }));
    }
    for number in 0..100 {
        let answer = log.request("directory", number.to_string().into(), PATIENCE).await.unwrap();
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        assert!(answer == format!("a:{number}") || answer == format!("b:{number}"), "{answer}");
    }
    log.close().await;
    let mut counts = Vec::new();
    for server in servers {
        counts.push(soon(server).await.unwrap());
    }
    assert_eq!(counts.iter().sum::<usize>(), 100);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

pub(crate) async fn a_request_that_nobody_serves_is_unavailable(open: &Open) {
    let log = open().await;
    let _other = log.serve("directory").await.unwrap();
    assert!(is_unavailable(&soon(log.request("nobody", Bytes::new(), PATIENCE)).await));
}

pub(crate) async fn a_request_that_is_dropped_or_late_is_unavailable(open: &Open) {
    let log = open().await;
    let mut requests = log.serve("directory").await.unwrap();
    let server = tokio::spawn(async move {
        drop(soon(requests.next()).await.unwrap());
        let late = soon(requests.next()).await.unwrap();
        (requests, late)
    });
    assert!(is_unavailable(&soon(log.request("directory", "drop".into(), PATIENCE)).await));
    assert!(is_unavailable(&log.request("directory", "late".into(), Duration::from_millis(50)).await));
    let (_requests, late) = server.await.unwrap();
    assert_eq!(late.payload, "late");
    late.answer("nobody waits".into());
}

pub(crate) async fn a_server_that_ends_is_not_asked_again(open: &Open) {
    let log = open().await;
    let ending = log.serve("directory").await.unwrap();
    let staying = log.serve("directory").await.unwrap();
    drop(ending);
    let server = tokio::spawn(answer(staying, "stays", 4));
    for _ in 0..4 {
        assert_eq!(log.request("directory", "x".into(), PATIENCE).await.unwrap(), "stays:x");
    }
    assert_eq!(server.await.unwrap(), 4);
    assert!(is_unavailable(&soon(log.request("directory", "x".into(), PATIENCE)).await));
}

pub(crate) async fn a_consumer_reads_everything_in_order(open: &Open) {
    let log = open().await;
    let conversations = [group(), group()];
    let mut stored = Vec::new();
    for number in 0..25 {
        stored.push(append(&*log, event(conversations[number % 2])).await.position.seq);
    }
    let mut read = Vec::new();
    while read.len() < 25 {
        let entries = soon(log.fetch(INGEST, 10)).await.unwrap();
        assert!((1..=10).contains(&entries.len()));
        read.extend(seqs(&entries));
        log.ack(INGEST, *read.last().unwrap()).await.unwrap();
    }
    assert_eq!(read, stored);
}

pub(crate) async fn a_fetch_waits_for_the_next_event(open: &Open) {
    let log = open().await;
    for _ in 0..20 {
        let fetching = tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.fetch(INGEST, 10).await.unwrap() }
        });
        tokio::task::yield_now().await;
        let stored = append(&*log, event(group())).await.position.seq;
        assert_eq!(seqs(&soon(fetching).await.unwrap()), [stored]);
    }
}

pub(crate) async fn what_was_given_is_given_again_unless_acknowledged(open: &Open) {
    let log = open().await;
    let mut stored = Vec::new();
    for _ in 0..6 {
        stored.push(append(&*log, event(group())).await.position.seq);
    }
    assert_eq!(seqs(&soon(log.fetch(INGEST, 2)).await.unwrap()), stored[..2]);
    assert_eq!(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()), stored[2..]);
    log.ack(INGEST, stored[3]).await.unwrap();
    log.ack(INGEST, stored[1]).await.unwrap();
    log.resume(INGEST).await.unwrap();
    assert_eq!(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()), stored[4..]);
    log.resume(INGEST).await.unwrap();
    assert_eq!(seqs(&soon(log.fetch(INGEST, 1)).await.unwrap()), stored[4..5]);
}

pub(crate) async fn a_waiting_fetch_learns_of_a_resume(open: &Open) {
    let log = open().await;
    let stored = append(&*log, event(group())).await.position.seq;
    assert_eq!(seqs(&soon(log.fetch(INGEST, 1)).await.unwrap()), [stored]);
    let fetching = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.fetch(INGEST, 1).await.unwrap() }
    });
    tokio::task::yield_now().await;
    log.resume(INGEST).await.unwrap();
    assert_eq!(seqs(&soon(fetching).await.unwrap()), [stored]);
}

pub(crate) async fn giving_up_on_a_fetch_loses_nothing(open: &Open) {
    let log = open().await;
    let mut stored = Vec::new();
    let mut read = Vec::new();
    for _ in 0..100 {
        let appending = tokio::spawn({
            let log = Arc::clone(&log);
            async move { append(&*log, event(group())).await.position.seq }
        });
        tokio::select! {
            entries = log.fetch(INGEST, 10) => read.extend(seqs(&entries.unwrap())),
            () = tokio::task::yield_now() => {}
        }
        stored.push(appending.await.unwrap());
    }
    while read.len() < stored.len() {
        read.extend(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()));
    }
    assert_eq!(read, stored);
}

pub(crate) async fn consumers_do_not_disturb_each_other(open: &Open) {
    let log = open().await;
    let analytics = Consumer { group: "analytics", shard: 0 };
    let one = append(&*log, event(group())).await.position.seq;
    let two = append(&*log, event(group())).await.position.seq;
    assert_eq!(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()), [one, two]);
    log.ack(INGEST, two).await.unwrap();
    assert_eq!(seqs(&soon(log.fetch(analytics, 1)).await.unwrap()), [one]);
    log.resume(INGEST).await.unwrap();
    assert_eq!(seqs(&soon(log.fetch(analytics, 10)).await.unwrap()), [two]);
    let three = append(&*log, event(group())).await.position.seq;
    assert_eq!(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()), [three]);
}

pub(crate) async fn progress_survives_the_process(open: &Open) {
    let log = open().await;
    let mut stored = Vec::new();
    for _ in 0..5 {
        stored.push(append(&*log, event(group())).await.position.seq);
    }
    assert_eq!(soon(log.fetch(INGEST, 4)).await.unwrap().len(), 4);
    log.ack(INGEST, stored[1]).await.unwrap();
    log.close().await;
    let log = open().await;
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag { events: 3, acked_seq: stored[1] });
    assert_eq!(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()), stored[2..]);
}

pub(crate) async fn lag_counts_what_is_not_acknowledged(open: &Open) {
    let log = open().await;
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag::default());
    let mut stored = Vec::new();
    for _ in 0..5 {
        stored.push(append(&*log, event(group())).await.position.seq);
    }
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag { events: 5, acked_seq: 0 });
    assert_eq!(soon(log.fetch(INGEST, 3)).await.unwrap().len(), 3);
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag { events: 5, acked_seq: 0 });
    log.ack(INGEST, stored[2]).await.unwrap();
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag { events: 2, acked_seq: stored[2] });
}

pub(crate) async fn what_cannot_be_is_refused(open: &Open) {
    let log = open().await;
    let nowhere = Consumer { shard: log.layout().shards, ..INGEST };
    assert!(matches!(log.fetch(nowhere, 1).await, Err(Error::Refused(_))));
    assert!(matches!(log.lag(nowhere).await, Err(Error::Refused(_))));
    assert!(matches!(log.ack(INGEST, 1).await, Err(Error::Refused(_))));
}

pub(crate) async fn closing_stores_what_was_handed_over_and_refuses_more(open: &Open) {
    let log = open().await;
    let conversation = group();
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(Topic::Group(conversation)).await.unwrap();
    let mut receipts = Vec::new();
    for _ in 0..500 {
        receipts.push(hand_over(&*log, event(conversation)).await);
    }
    log.close().await;
    let stored: Vec<u64> = join_all(receipts).await.into_iter().map(|stored| stored.unwrap().position.seq).collect();
    assert!(is_unavailable(&log.append(event(conversation)).await));
    assert!(is_unavailable(&soon(log.fetch(INGEST, 1)).await));
    let mut delivered = Vec::new();
    while let Ok(()) = soon(feed.next_batch(&mut delivered, 10)).await {}
    let delivered = delivered.into_iter().map(|delivery| match delivery {
        Delivery::Event { entry, .. } => entry.position.seq,
        other => panic!("no event: {other:?}"),
    });
    assert!(stored.starts_with(&delivered.collect::<Vec<_>>()), "a feed may end early, but whole up to there");
    log.close().await;
    let log = open().await;
    assert_eq!(seqs(&log.read(conversation.into(), 0, 1_000).await.unwrap()), stored);
}
