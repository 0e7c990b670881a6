//! Durable readers.

use std::sync::Arc;

use super::{INGEST, Open, append, event, group, seqs, soon};
use crate::{Consumer, Error, Lag};

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
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag { events: 3, acked_seq: stored[1], end_seq: stored[4] });
    assert_eq!(seqs(&soon(log.fetch(INGEST, 10)).await.unwrap()), stored[2..]);
}

pub(crate) async fn lag_counts_what_is_not_acknowledged(open: &Open) {
    let log = open().await;
    let end_seq = log.ends().await.unwrap()[0];
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag { events: 0, acked_seq: 0, end_seq });
    let mut stored = Vec::new();
    for _ in 0..5 {
        stored.push(append(&*log, event(group())).await.position.seq);
    }
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag { events: 5, acked_seq: 0, end_seq: stored[4] });
    assert_eq!(soon(log.fetch(INGEST, 3)).await.unwrap().len(), 3);
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag { events: 5, acked_seq: 0, end_seq: stored[4] });
    log.ack(INGEST, stored[2]).await.unwrap();
    assert_eq!(log.lag(INGEST).await.unwrap(), Lag { events: 2, acked_seq: stored[2], end_seq: stored[4] });
}

pub(crate) async fn what_cannot_be_is_refused(open: &Open) {
    let log = open().await;
    let nowhere = Consumer { shard: log.layout().shards, ..INGEST };
    assert!(matches!(log.fetch(nowhere, 1).await, Err(Error::Refused(_))));
    assert!(matches!(log.lag(nowhere).await, Err(Error::Refused(_))));
    assert!(matches!(log.ack(INGEST, 1).await, Err(Error::Refused(_))));
}
