//! Recorders that are in each other's way, or are given up.

use std::sync::Arc;

use types::{Region, Timestamp, UserId};

use super::model::{Draw, HOUR_MS};
use super::{Opener, everything, facts_at};
use crate::{Analytics, Bucket, Error, Fact, Range};

/// Facts with holes between their `seq`, of three senders, and the last `seq` of all.
fn sparse_facts(count: u64) -> Arc<[Fact]> {
    let fact = facts_at(&[0])[0];
    let senders: Vec<_> = (0..3).map(|_| UserId::generate(Region::default())).collect();
    let sparse = |number: u64| Fact {
        // Stretches of some thirty without any fact, which some ranges then lie in.
        seq: number + number / 20 * 30,
        at: Timestamp::from_millis(i64::try_from(number).unwrap() * HOUR_MS),
        sender: senders[usize::try_from(number % 3).unwrap()],
        ..fact
    };
    (1..=count).map(sparse).collect()
}

/// Records a stretch of facts from where the store is, as a worker would, and says whether there is more to do.
async fn record_some(store: &dyn Analytics, facts: &[Fact], length: u64) -> crate::Result<bool> {
    let last_seq = facts[facts.len() - 1].seq;
    let after_seq = store.recorded_seq(0).await?;
    let through_seq = (after_seq + length).min(last_seq);
    let from = facts.partition_point(|fact| fact.seq <= after_seq);
    let to = facts.partition_point(|fact| fact.seq <= through_seq);
    if after_seq < last_seq {
        store.record(Range { shard: 0, after_seq, through_seq, facts: &facts[from..to] }).await?;
    }
    Ok(through_seq < last_seq)
}

async fn assert_counted_once(store: &dyn Analytics, facts: &[Fact]) {
    assert_eq!(store.recorded_seq(0).await.unwrap(), facts[facts.len() - 1].seq);
    assert_eq!(store.total(&everything()).await.unwrap(), facts.len() as u64);
    for ranked in store.top_users(&everything(), 0, 10).await.unwrap() {
        let sent = facts.iter().filter(|fact| fact.sender == ranked.key).count();
        assert_eq!(ranked.messages, sent as u64);
    }
    let steps = store.activity(&everything(), Bucket::Hour, facts.len() + 1).await.unwrap();
    assert!(steps.iter().all(|step| step.messages == 1), "each fact has an hour of its own");
    assert_eq!(steps.len(), facts.len());
}

/// Records with cuts of its own until everything is recorded, by whomever.
async fn race(store: Arc<dyn Analytics>, facts: Arc<[Fact]>, mut draw: Draw) {
    loop {
        match record_some(&*store, &facts, draw.length(40)).await {
            Ok(true) | Err(Error::OutOfStep { .. }) => {}
            Ok(false) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) async fn recorders_with_other_cuts_race_and_count_each_fact_once(opener: Opener<'_>) {
    let facts = sparse_facts(400);
    let mut recorders = Vec::new();
    for seed in 0..4 {
        recorders.push(tokio::spawn(race(opener.open().await, facts.clone(), Draw::seeded(seed))));
    }
    for recorder in recorders {
        recorder.await.unwrap();
    }
    assert_counted_once(&*opener.open().await, &facts).await;
}

pub(crate) async fn a_call_that_was_given_up_counts_once_or_not_at_all(opener: Opener<'_>) {
    let facts = sparse_facts(300);
    let store = opener.open().await;
    let mut draw = Draw::seeded(7);
    let (mut given_up, mut goes_on, mut calls) = (0, true, 0);
    while goes_on {
        // From none at all, before the first step of a call, to behind its last one. Of a fast store each third call is
        // given up at its first step, so that some are.
        let micros = if calls % 3 == 0 { 0 } else { (draw.length(12) - 1) * draw.length(12) * 150 };
        let patience = std::time::Duration::from_micros(micros);
        calls += 1;
        match tokio::time::timeout(patience, record_some(&*store, &facts, draw.length(40))).await {
            Ok(Ok(more)) => goes_on = more,
            Ok(Err(Error::OutOfStep { .. })) => {}
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => given_up += 1,
        }
    }
    assert!(given_up > 0);
    assert_counted_once(&*store, &facts).await;
}
