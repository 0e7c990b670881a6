//! Making a log, and opening one that is not as it should be.

use std::collections::HashMap;
use std::time::Duration;

use types::ConversationId;

use crate::contract::{append, event, group, seqs, soon};
use crate::jetstream::names::Names;
use crate::jetstream::{Options, migrate, open};
use crate::{Consumer, Error, Lag};

use super::{Made, remove};

fn refusal<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Refused(why)) => why,
        Err(other) => panic!("not refused: {other}"),
        Ok(_) => panic!("accepted"),
    }
}

/// Changes what stands in the metadata of the first stream.
async fn mark(options: &Options, marks: &[(&str, &str)]) {
    let names = Names::new(&options.name, options.region, options.shards).unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(&options.servers[0]).await.unwrap());
    let mut config = context.get_stream(names.stream(0)).await.unwrap().cached_info().config.clone();
    let marks = marks.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    config.metadata.extend(marks.collect::<HashMap<_, _>>());
    context.update_stream(config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_not_made_is_not_opened() {
    let made = Made::shared(2);
    assert!(refusal(open(made.options.clone()).await).contains("rookery migrate"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_made_once_however_many_make_it() {
    let made = Made::shared(4);
    let makers = (0..4).map(|_| migrate(&made.options));
    for outcome in futures_util::future::join_all(makers).await {
        outcome.unwrap();
    }
    let epoch = open(made.options.clone()).await.unwrap().layout().epoch;
    migrate(&made.options).await.unwrap();
    let log = open(made.options.clone()).await.unwrap();
    assert_eq!((log.layout().epoch, log.layout().shards), (epoch, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_shards_stays_for_good() {
    let made = Made::shared(2);
    migrate(&made.options).await.unwrap();
    let other = Options { shards: 3, ..made.options.clone() };
    for why in [refusal(open(other.clone()).await), refusal(migrate(&other).await)] {
        assert!(why.contains("2 shards") && why.contains('3'), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_go_forwards_only() {
    let made = Made::shared(2);
    migrate(&made.options).await.unwrap();
    mark(&made.options, &[("rookery_version", "9")]).await;
    open(made.options.clone()).await.unwrap().close().await;
    assert!(refusal(migrate(&made.options).await).contains("version 9"));
    mark(&made.options, &[("rookery_version", "0")]).await;
    assert!(refusal(open(made.options.clone()).await).contains("rookery migrate"));
    migrate(&made.options).await.unwrap();
    open(made.options.clone()).await.unwrap().close().await;
}

/// How long a log says that it keeps events and remembers ids, in seconds.
async fn kept(options: &Options) -> (u64, u64) {
    let log = open(options.clone()).await.unwrap();
    (log.retention().as_secs(), log.duplicate_window().as_secs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_relied_on_than_the_streams_keep() {
    let made = Made::shared(2);
    migrate(&made.options).await.unwrap();
    let with = |retention, duplicate_window| Options {
        retention: Duration::from_secs(retention),
        duplicate_window: Duration::from_secs(duplicate_window),
        ..made.options.clone()
    };
    assert_eq!(kept(&with(3_600, 120)).await, (3_600, 120));
    let more = with(7_200, 240);
    assert_eq!(kept(&more).await, (3_600, 120));
    let less = with(1_800, 60);
    assert_eq!(kept(&less).await, (1_800, 60));
    // One stream of several is behind.
    migrate(&less).await.unwrap();
    let names = Names::new(&made.options.name, made.options.region, 2).unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(&made.options.servers[0]).await.unwrap());
    let mut config = context.get_stream(names.stream(0)).await.unwrap().cached_info().config.clone();
    (config.max_age, config.duplicate_window) = (more.retention, more.duplicate_window);
    context.update_stream(config).await.unwrap();
    assert_eq!(kept(&more).await, (1_800, 60));
    migrate(&more).await.unwrap();
    assert_eq!(kept(&more).await, (7_200, 240));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_was_lost_is_not_made_again_in_silence() {
    let made = Made::shared(3);
    migrate(&made.options).await.unwrap();
    let names = Names::new(&made.options.name, made.options.region, 3).unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(&made.options.servers[0]).await.unwrap());
    context.delete_stream(names.stream(1)).await.unwrap();
    assert!(matches!(migrate(&made.options).await, Err(Error::Damaged(_))));
    assert!(matches!(open(made.options.clone()).await, Err(Error::Damaged(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_made_anew_goes_on_above_the_places_of_the_one_before_it() {
    let made = Made::shared(2);
    let (mut ended, mut epochs) = (vec![0, 0], Vec::new());
    for _ in 0..2 {
        let log = made.open().await;
        let consumers = [0, 1].map(|shard| Consumer { group: "ingest", shard });
        for (consumer, end_seq) in consumers.into_iter().zip(log.ends().await.unwrap()) {
            assert!(end_seq >= ended[usize::from(consumer.shard)]);
            assert_eq!(log.lag(consumer).await.unwrap(), Lag { events: 0, acked_seq: 0, end_seq });
            assert!(matches!(log.ack(consumer, 1).await, Err(Error::Refused(_))));
        }
        // So many that each shard has some.
        let mut stored = vec![Vec::new(), Vec::new()];
        for _ in 0..20 {
            let conversation = ConversationId::from(group());
            let seq = append(&*log, event(conversation)).await.position.seq;
            stored[usize::from(conversation.shard(2))].push(seq);
        }
        for (consumer, stored) in consumers.into_iter().zip(&stored) {
            let given = soon(log.fetch(consumer, 100)).await.unwrap();
            assert_eq!(seqs(&given), *stored);
            let lag = Lag { events: stored.len() as u64, acked_seq: 0, end_seq: *stored.last().unwrap() };
            assert_eq!(log.lag(consumer).await.unwrap(), lag);
            log.ack(consumer, lag.end_seq).await.unwrap();
            assert_eq!(log.lag(consumer).await.unwrap(), Lag { events: 0, acked_seq: lag.end_seq, ..lag });
        }
        ended = log.ends().await.unwrap();
        epochs.push(log.layout().epoch);
        migrate(&made.options).await.unwrap();
        log.close().await;
        remove(&made.options).await;
    }
    assert_ne!(epochs[0], epochs[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_cannot_be_are_refused() {
    let made = Made::shared(1);
    for options in [
        Options { shards: 0, ..made.options.clone() },
        Options { replicas: 0, ..made.options.clone() },
        Options { name: "a.b".into(), ..made.options.clone() },
        Options { servers: Vec::new(), ..made.options.clone() },
        Options { duplicate_window: made.options.retention * 2, ..made.options.clone() },
    ] {
        refusal(migrate(&options).await);
    }
}
