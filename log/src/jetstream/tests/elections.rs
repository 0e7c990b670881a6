//! What a stream's leader has stored and never told of, because it ended.

use servers::{NatsCluster, NatsOptions};
use types::{ConversationId, GroupId};

use super::Made;
use super::faults::{folder, patiently};
use crate::contract::{append, event, group};
use crate::jetstream::Options;
use crate::jetstream::names::Names;
use crate::{Delivery, Feed, Topic};

/// Has the stream's leader store events and send no live copies of them, or send them again.
async fn tell(context: &async_nats::jetstream::Context, stream: &str, republish: bool, names: &Names) {
    let mut config = context.get_stream(stream).await.unwrap().cached_info().config.clone();
    config.republish = republish.then(|| async_nats::jetstream::stream::Republish {
        source: names.events_of_shard(0),
        destination: names.copies_of_shard(0),
        headers_only: false,
    });
    context.update_stream(config).await.unwrap();
}

/// The next events, by conversation and place.
async fn delivered(feed: &mut Feed, count: usize) -> Vec<(ConversationId, u64)> {
    let mut events = Vec::new();
    while events.len() < count {
        let mut batch = Vec::new();
        patiently(feed.next_batch(&mut batch, 100)).await.unwrap();
        events.extend(batch.into_iter().map(|delivery| match delivery {
            Delivery::Event { entry, .. } => (entry.conversation, entry.position.seq),
            other => panic!("{other:?}"),
        }));
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_stored_and_did_not_tell_comes_when_there_is_another() {
    let (home, folder) = folder("log-elections");
    let cluster = NatsCluster::start(&home, folder.path(), NatsOptions::default()).unwrap();
    let made = std::mem::ManuallyDrop::new(Made::on(&cluster.urls()[0], 1));
    let options = Options { servers: cluster.urls(), replicas: 3, ..made.options.clone() };
    crate::jetstream::migrate(&options).await.unwrap();
    let log = crate::jetstream::open(options.clone()).await.unwrap();
    let names = Names::new(&options.name, options.region, options.shards).unwrap();
    let stream = names.stream(0);
    let client = async_nats::connect(&options.servers).await.unwrap();
    let context = async_nats::jetstream::new(client.clone());
    let [quiet, late]: [GroupId; 2] = [group(), group()];
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(Topic::Group(quiet)).await.unwrap();
    let place = async |group: GroupId| (group.into(), append(&*log, event(group)).await.position.seq);
    let told = place(quiet).await;
    assert_eq!(delivered(&mut feed, 1).await, [told]);

    tell(&context, &stream, false, &names).await;
    place(late).await;
    feed.topics().subscribe(Topic::Group(late)).await.unwrap();
    let untold = [place(quiet).await, place(quiet).await];
    client.request(format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}"), "".into()).await.unwrap();
    assert_eq!(delivered(&mut feed, 2).await, untold, "not what was told, nor what came before it was listened to");

    tell(&context, &stream, true, &names).await;
    let next = [place(quiet).await, place(late).await];
    assert_eq!(delivered(&mut feed, 2).await, next, "each comes once");
    log.close().await;
    drop(cluster);
}
