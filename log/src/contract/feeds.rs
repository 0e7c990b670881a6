//! Live events.

use std::sync::Arc;

use futures_util::future::join_all;
use types::ConversationId;

use super::{Open, append, event, events_until, group, next_batch, user};
use crate::{Delivery, Topic};

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
