//! Clusters of three whose leaders change or are not there.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config, Republish};
use servers::{Home, NatsCluster, NatsOptions};
use tempfile::TempDir;
use types::{ConversationId, GroupId};

use super::Made;
use super::faults::{folder, insist, leader, patiently};
use super::relay::Relay;
use crate::contract::{event, group};
use crate::jetstream::Options;
use crate::jetstream::names::Names;
use crate::{Delivery, Feed, Log, Topic};

/// A cluster, and a log on it.
struct Three {
    cluster: NatsCluster,
    options: Options,
    _folder: TempDir,
    _home: Home,
}

impl Three {
    async fn start(name: &str, shards: u16, settings: impl FnOnce(&mut Options)) -> Self {
        let (home, folder) = folder(name);
        let cluster = NatsCluster::start(&home, folder.path(), NatsOptions::default()).unwrap();
        // It goes with the cluster.
        let made = std::mem::ManuallyDrop::new(Made::on(&cluster.urls()[0], shards));
        let mut options = Options { servers: cluster.urls(), replicas: 3, ..made.options.clone() };
        settings(&mut options);
        crate::jetstream::migrate(&options).await.unwrap();
        Self { cluster, options, _folder: folder, _home: home }
    }

    async fn client(&self) -> async_nats::Client {
        async_nats::connect(&self.options.servers).await.unwrap()
    }

    fn stream(&self) -> String {
        self.names().stream(0)
    }

    fn names(&self) -> Names {
        Names::new(&self.options.name, self.options.region, self.options.shards).unwrap()
    }

    /// Has the first stream's leader step down.
    async fn elect(&self) {
        let stepping_down = format!("$JS.API.STREAM.LEADER.STEPDOWN.{}", self.stream());
        self.client().await.request(stepping_down, "".into()).await.unwrap();
    }

    /// Has the first stream's leader store events and send no live copies of them, or send them again.
    async fn tell(&self, is_told: bool) {
        let context = jetstream::new(self.client().await);
        let republish = is_told.then(|| Republish {
            source: self.names().events_of_shard(0),
            destination: self.names().copies_of_shard(0),
            headers_only: false,
        });
        // Nobody answers while there is no leader.
        patiently(async { while self.update(&context, republish.clone()).await.is_err() {} }).await;
    }

    async fn update(&self, context: &Context, republish: Option<Republish>) -> Result<(), async_nats::Error> {
        let config = context.get_stream(self.stream()).await?.cached_info().config.clone();
        context.update_stream(Config { republish, ..config }).await?;
        Ok(())
    }
}

/// The next events, by conversation and place, and nothing else but interruptions.
async fn delivered(feed: &mut Feed, count: usize) -> Vec<(ConversationId, u64)> {
    let mut events = Vec::new();
    while events.len() < count {
        let mut batch = Vec::new();
        patiently(feed.next_batch(&mut batch, 100)).await.unwrap();
        events.extend(batch.into_iter().filter_map(|delivery| match delivery {
            Delivery::Event { entry, .. } => Some((entry.conversation, entry.position.seq)),
            Delivery::Interrupted => None,
            other => panic!("{other:?}"),
        }));
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_stored_and_did_not_tell_comes_when_there_is_another() {
    let three = Three::start("log-untold", 1, |_| {}).await;
    let log = crate::jetstream::open(three.options.clone()).await.unwrap();
    let [quiet, other, late]: [GroupId; 3] = [group(), group(), group()];
    let mut feed = log.feed().await.unwrap();
    for group in [quiet, other] {
        feed.topics().subscribe(Topic::Group(group)).await.unwrap();
    }
    let place = async |group: GroupId| (group.into(), insist(&log, event(group)).await);
    let told = place(quiet).await;
    assert_eq!(delivered(&mut feed, 1).await, [told]);

    three.tell(false).await;
    place(late).await;
    feed.topics().subscribe(Topic::Group(late)).await.unwrap();
    let untold = [place(quiet).await, place(quiet).await];
    three.elect().await;
    assert_eq!(delivered(&mut feed, 2).await, untold, "not what was told, nor what came before it was listened to");

    let untold = [place(quiet).await, place(other).await];
    three.elect().await;
    three.tell(true).await;
    let next = [place(other).await, place(late).await, place(quiet).await];
    assert_eq!(delivered(&mut feed, 5).await, [&untold[..], &next].concat(), "each comes once, and all in order");
    log.close().await;
}

/// Waits until nothing of a conversation is in the log.
async fn until_gone(log: &Arc<dyn Log>, conversation: ConversationId) {
    while log.heads(&[conversation]).await.unwrap() != [None] {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_election_nothing_is_called_lost_that_was_told_before_it_left_the_log() {
    let lifetime = Duration::from_secs(2);
    let three = Three::start("log-aged", 1, |options| {
        (options.retention, options.duplicate_window) = (lifetime, Duration::from_secs(1));
    })
    .await;
    let log = crate::jetstream::open(three.options.clone()).await.unwrap();
    let heard = group();
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(Topic::Group(heard)).await.unwrap();
    let place = async || (heard.into(), insist(&log, event(heard)).await);
    // All of it has left the log when there is another leader; then only the first half.
    for is_followed in [false, true] {
        let told = [place().await, place().await];
        assert_eq!(delivered(&mut feed, 2).await, told);
        patiently(until_gone(&log, heard.into())).await;
        if is_followed {
            let told = [place().await];
            assert_eq!(delivered(&mut feed, 1).await, told);
        }
        three.elect().await;
        let next = [place().await];
        assert_eq!(delivered(&mut feed, 1).await, next);
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_without_a_leader_keeps_nobody_from_the_others() {
    const SHARDS: u16 = 8;
    let mut three = Three::start("log-dead-shard", SHARDS, |options| options.replicas = 1).await;
    let there = crate::jetstream::open(three.options.clone()).await.unwrap();
    let mut relay = Relay::to(&three.options.servers[0]).await;
    let options = Options { servers: vec![relay.url()], ..three.options.clone() };
    let here = crate::jetstream::open(options).await.unwrap();
    let mut leaders = Vec::new();
    for shard in 0..SHARDS {
        leaders.push(leader(&three.options, shard).await);
    }
    let dead = leaders.iter().find(|leader| *leader != "n1").expect("all shards on one server").clone();
    let in_shard = |is_dead: bool| {
        let is_so =
            |group: &GroupId| (leaders[usize::from(ConversationId::from(*group).shard(SHARDS))] == dead) == is_dead;
        std::iter::repeat_with(group).find(is_so).unwrap()
    };
    let [living, new, mute] = [in_shard(false), in_shard(false), in_shard(true)];
    let mut feed = here.feed().await.unwrap();
    for group in [living, mute] {
        feed.topics().subscribe(Topic::Group(group)).await.unwrap();
    }

    relay.cut().await;
    three.cluster.server(&dead).unwrap().kill().unwrap();
    let missed = (living.into(), insist(&there, event(living)).await);
    relay.join().await;
    assert_eq!(delivered(&mut feed, 1).await, [missed]);
    patiently(feed.topics().subscribe(Topic::Group(new))).await.unwrap();
    for group in [living, new] {
        let next = (group.into(), insist(&there, event(group)).await);
        assert_eq!(delivered(&mut feed, 1).await, [next]);
    }

    three.cluster.server(&dead).unwrap().restart().unwrap();
    three.cluster.wait_until_ready().unwrap();
    let back = (mute.into(), insist(&there, event(mute)).await);
    assert_eq!(delivered(&mut feed, 1).await, [back]);
    here.close().await;
    there.close().await;
}
