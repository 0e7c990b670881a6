//! What is stored, and how it is read.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use types::{ConversationId, Entry, GroupId, TraceContext};

use super::{INGEST, Open, append, event, group, hand_over, is_unavailable, next_batch, seqs, soon, user};
use crate::{Append, Appended, Delivery, Error, Head, MAX_PAYLOAD_BYTES, Topic};

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

pub(crate) async fn a_trace_context_is_carried_to_all_who_read(open: &Open) {
    let log = open().await;
    let conversation = group();
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(Topic::Group(conversation)).await.unwrap();
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let traces = [Some(context), None, Some(context)];
    for trace in traces {
        append(&*log, Append { trace, ..event(conversation) }).await;
    }
    let mut delivered = Vec::new();
    while delivered.len() < traces.len() {
        let batch = next_batch(&mut feed, 10).await.into_iter();
        delivered.extend(batch.filter_map(|delivery| match delivery {
            Delivery::Event { entry, .. } => Some(entry.trace),
            _ => None,
        }));
    }
    assert_eq!(delivered, traces);
    assert_eq!(traces_of(&soon(log.fetch(INGEST, 10)).await.unwrap()), traces);
    log.close().await;
    drop((log, feed));
    let log = open().await;
    assert_eq!(traces_of(&log.read(conversation.into(), 0, 10).await.unwrap()), traces);
}

fn traces_of(entries: &[Entry]) -> Vec<Option<TraceContext>> {
    entries.iter().map(|entry| entry.trace).collect()
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

pub(crate) async fn ends_are_those_of_the_shards(open: &Open) {
    let log = open().await;
    let mut ends = log.ends().await.unwrap();
    assert_eq!(ends.len(), usize::from(log.layout().shards));
    for _ in 0..20 {
        let conversation = ConversationId::Group(group());
        let seq = append(&*log, event(conversation)).await.position.seq;
        let end = &mut ends[usize::from(conversation.shard(log.layout().shards))];
        assert_eq!(seq, *end + 1);
        *end = seq;
        assert_eq!(log.ends().await.unwrap(), ends);
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
