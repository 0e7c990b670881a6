//! Clients that come back.

use std::collections::BTreeMap;

use proptest::test_runner::{RngAlgorithm, TestRng};
use rand::RngExt;
use serde_json::{Value, json};
use types::ConversationId;

use super::world::{Client, Person, World, assert_chained, texts};

/// What a client does with its frames: it keeps the last `seq` of each conversation and all events in order.
#[derive(Default)]
struct Memory {
    events: BTreeMap<String, Vec<Value>>,
}

impl Memory {
    /// Takes an event in, unless it has it already. What came before the replay began does not fit and is passed over;
    /// after that a hole is a failure.
    fn take(&mut self, frame: &Value, is_back: bool) {
        let events = self.events.entry(frame["conversation"].as_str().unwrap().to_owned()).or_default();
        let last = events.last().map_or(json!(0), |last| last["seq"].clone());
        if frame["seq"].as_u64() <= last.as_u64() || !is_back && frame["prev"] != last {
            return;
        }
        assert_eq!(frame["prev"], last, "a hole");
        events.push(frame.clone());
    }

    /// Whether the last messages have come.
    fn is_done(&self) -> bool {
        let is_done = |events: &Vec<Value>| events.last().is_some_and(|last| last["event"]["text"] == "end");
        self.events.len() == 2 && self.events.values().all(is_done)
    }

    fn positions(&self) -> Value {
        let position = |events: &Vec<Value>| {
            let last = events.last().unwrap();
            json!({"epoch": last["epoch"], "seq": last["seq"]})
        };
        self.events.iter().map(|(room, events)| (room.clone(), position(events))).collect()
    }
}

/// Reads until the replay is over; the frame that says so, and what came before.
async fn resumed(client: &mut Client) -> (Value, Vec<Value>) {
    let mut frames = Vec::new();
    loop {
        let frame = client.next().await;
        if frame["type"] == "resumed" {
            return (frame, frames);
        }
        frames.push(frame);
    }
}

/// Comes back, takes a number of frames in, at least until the replay is over, and is cut again.
async fn come_back(world: &World, person: &Person, memory: &mut Memory, frames: u32) {
    let mut client = world.connect(person).await;
    // At first there are no positions, only a place before everything.
    let has_positions = memory.events.values().filter(|events| !events.is_empty()).count() == 2;
    let resume = if has_positions {
        json!({"type": "resume", "positions": memory.positions()})
    } else {
        json!({"type": "resume", "position": format!("{}.0", world.edge.live.epoch())})
    };
    client.send(&resume).await;
    let (mut left, mut is_back) = (frames, false);
    while (left > 0 || !is_back) && !memory.is_done() {
        let frame = client.next().await;
        left = left.saturating_sub(1);
        if frame["type"] == "event" {
            memory.take(&frame, is_back);
            continue;
        }
        assert_eq!(frame["type"], "resumed");
        // While ingest stands still it is not known who else wrote.
        assert!(frame["complete"] == json!(true) || !has_positions, "{frame}");
        is_back = true;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_cut_again_and_again_misses_nothing() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (group, direct) = (world.group(&ada, &[&bob]).await, ConversationId::direct(ada.id, bob.id));
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let talking = async {
        for round in 0..15 {
            world.set_ingesting(round % 2 == 0);
            world.count(&ada, &[direct, group, group], 100).await;
        }
        world.say(&ada, group, "end").await;
        world.say(&ada, direct, "end").await;
    };
    let following = async {
        let mut memory = Memory::default();
        while !memory.is_done() {
            Box::pin(come_back(&world, &bob, &mut memory, random.random_range(1..200))).await;
        }
        memory
    };
    let ((), memory) = tokio::join!(Box::pin(talking), Box::pin(following));
    let direct = memory.events[&direct.to_string()].clone();
    let expected = (0..15).flat_map(|_| (0..100).step_by(3)).map(|index| index.to_string());
    assert_eq!(texts(&direct), expected.chain(["end".to_owned()]).collect::<Vec<_>>());
    assert_eq!(texts(&memory.events[&group.to_string()]).len(), 15 * 66 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_told_from_a_place_in_all_conversations() {
    let world = World::start().await;
    let (ada, bob, eve) = (world.person("ada").await, world.person("bob").await, world.person("eve").await);
    let (room, other) = (world.group(&ada, &[&bob]).await, world.group(&ada, &[&eve]).await);
    let mut client = world.connect(&bob).await;
    world.say(&ada, room, "seen").await;
    client.event(room).await;
    let place = client.ask(json!({"type": "ping"})).await["resume"].clone();
    drop(client);
    world.say(&ada, room, "missed").await;
    world.say(&ada, other, "not for bob").await;
    world.say(&eve, ConversationId::direct(eve.id, bob.id), "first words").await;
    let mut client = world.connect(&bob).await;
    client.send(&json!({"type": "resume", "ref": "r", "position": place})).await;
    let (end, mut frames) = resumed(&mut client).await;
    frames.sort_by_key(|frame| frame["seq"].as_u64());
    assert_eq!(texts(&frames), ["missed", "first words"]);
    assert_eq!((&end["complete"], &end["ref"]), (&json!(true), &json!("r")), "{end}");
    let again = json!({"type": "resume", "position": end["position"]});
    client.send(&again).await;
    assert_eq!(resumed(&mut client).await.1, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_whole_is_named() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (room, other, secret) =
        (world.group(&ada, &[&bob]).await, world.group(&ada, &[&bob]).await, world.group(&ada, &[]).await);
    world.say(&ada, secret, "secret").await;
    world.say(&ada, room, "hi").await;
    world.say(&ada, other, "hi").await;
    let mut client = world.connect(&bob).await;
    let epoch = world.edge.live.epoch();
    let strange = ConversationId::direct(ada.id, ada.id);
    let positions = json!({
        room.to_string(): {"epoch": epoch, "seq": 0},
        other.to_string(): {"epoch": "00000000", "seq": 0},
        secret.to_string(): {"epoch": epoch, "seq": 0},
        strange.to_string(): {"epoch": epoch, "seq": 0},
    });
    client.send(&json!({"type": "resume", "positions": positions})).await;
    let (end, frames) = resumed(&mut client).await;
    assert_eq!(texts(&frames), ["hi"]);
    assert!(frames.iter().all(|frame| frame["conversation"] == json!(room)));
    assert_eq!(end["complete"], false);
    let mut named: Vec<(String, String)> = end["incomplete"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["conversation"].as_str().unwrap().to_owned(), item["reason"].as_str().unwrap().to_owned()))
        .collect();
    named.sort();
    let mut expected = vec![
        (other.to_string(), "other_epoch".to_owned()),
        (secret.to_string(), "not_found".to_owned()),
        (strange.to_string(), "not_found".to_owned()),
    ];
    expected.sort();
    assert_eq!(named, expected);
    client.send(&json!({"type": "resume", "position": "00000000.0"})).await;
    let (end, frames) = resumed(&mut client).await;
    assert_eq!((end["complete"].clone(), frames), (json!(false), vec![]));
    assert_eq!(end["incomplete"], json!([{"reason": "other_epoch"}]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_replay_is_paced_and_does_not_count_as_reading_slowly() {
    let mut config = super::world::config();
    config.limits.outbox_bytes = 64 * 1024;
    let world = World::start_with(config).await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let text = "x".repeat(4_000);
    let senders: Vec<_> = (0..500).map(|_| world.say(&ada, room, &text)).collect();
    futures_util::future::join_all(senders).await;
    let mut client = world.connect(&bob).await;
    let positions = json!({room.to_string(): {"epoch": world.edge.live.epoch(), "seq": 0}});
    client.send(&json!({"type": "resume", "positions": positions})).await;
    let (end, frames) = resumed(&mut client).await;
    assert_eq!((end["complete"].clone(), texts(&frames).len()), (json!(true), 500));
    assert_chained(&frames);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_place_is_told_that_lies_behind_a_replay_that_is_not_over() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    // Somebody listens, so that the edge itself is ahead. While ingest stands still, a replay waits for it.
    let mut listener = world.connect(&ada).await;
    world.set_ingesting(false);
    world.say(&ada, room, "missed").await;
    listener.events_until(room, "missed").await;
    let mut client = world.connect(&bob).await;
    client.send(&json!({"type": "resume", "position": format!("{}.0", world.edge.live.epoch())})).await;
    let early = client.ask(json!({"type": "ping"})).await;
    assert_eq!(early, json!({"type": "pong", "ref": early["ref"]}), "what was missed has not come");
    client.of_type("resumed").await;
    let pong = client.ask(json!({"type": "ping"})).await;
    assert!(pong["resume"].is_string(), "{pong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_events_wait_for_a_replay_however_long_it_is_prepared() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let place = world.connect(&bob).await.ask(json!({"type": "ping"})).await["resume"].clone();
    // While ingest stands still, a replay waits for it as long as it may: for longer than a silent client has.
    world.set_ingesting(false);
    world.say(&ada, room, "missed").await;
    let mut client = world.connect(&bob).await;
    client.send(&json!({"type": "resume", "position": place})).await;
    world.say(&ada, room, "live").await;
    let (answer, mut frames) = resumed(&mut client).await;
    assert_eq!(answer["complete"], json!(false), "it did not wait: {answer}");
    if !texts(&frames).contains(&"live") {
        frames.extend(client.events_until(room, "live").await);
    }
    frames.retain(|frame| frame["event"]["text"].is_string());
    assert_eq!(texts(&frames), ["missed", "live"]);
    assert_chained(&frames);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_goes_on_however_much_comes_meanwhile() {
    let mut config = super::world::config();
    config.limits.outbox_bytes = 64 * 1024;
    let world = World::start_with(config).await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (room, busy) = (world.group(&ada, &[&bob]).await, world.group(&ada, &[&bob]).await);
    world.say(&ada, room, "missed").await;
    let mut client = world.connect(&bob).await;
    // As while another conversation is replayed: more comes than may wait to be written before a replay goes on.
    world.edge.live.hub.rooms.of_user(bob.id)[0].outbox.gate(busy);
    let text = "x".repeat(4_000);
    for _ in 0..5 {
        let seq = world.say(&ada, busy, &text).await;
        while !world.edge.live.hub.progress.has_passed(busy, seq) {
            tokio::task::yield_now().await;
        }
    }
    let start = json!({"epoch": world.edge.live.epoch(), "seq": 0});
    client.send(&json!({"type": "resume", "positions": {room.to_string(): start, busy.to_string(): start}})).await;
    let (end, frames) = resumed(&mut client).await;
    assert_eq!((end["complete"].clone(), texts(&frames).len()), (json!(true), 6), "{end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_a_group_in_doubt_gives_everything_once_and_in_order() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    world.say(&ada, room, "missed").await;
    let mut client = world.connect(&bob).await;
    // As when an old notice of a removal comes.
    world.edge.live.hub.rooms.of_user(bob.id)[0].outbox.doubt(room);
    let seq = world.say(&ada, room, "live").await;
    while !world.edge.live.hub.progress.has_passed(room, seq) {
        tokio::task::yield_now().await;
    }
    let start = json!({"epoch": world.edge.live.epoch(), "seq": 0});
    client.send(&json!({"type": "resume", "positions": {room.to_string(): start}})).await;
    let (end, frames) = resumed(&mut client).await;
    assert_eq!((end["complete"].clone(), texts(&frames)), (json!(true), vec!["missed", "live"]), "{end}");
}
