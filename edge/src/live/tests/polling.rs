//! Events without a WebSocket.

use serde_json::{Value, json};
use types::ConversationId;

use super::racing::Race;
use super::world::{PATIENCE, Person, World, assert_chained, group_of, texts};

fn items(answer: &Value) -> Vec<Value> {
    answer["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polling_gives_every_event_once() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (group, direct) = (world.group(&ada, &[&bob]).await, ConversationId::direct(ada.id, bob.id));
    let begin = world.get(&bob, "/v1/events").await.1;
    assert_eq!((items(&begin), &begin["complete"]), (vec![], &json!(true)));
    let count = 400;
    let polling = async {
        let mut position = begin["position"].as_str().unwrap().to_owned();
        let mut seen = Vec::new();
        while seen.len() < count {
            let (status, answer) = world.get(&bob, &format!("/v1/events?position={position}&timeout=20")).await;
            assert_eq!((status, &answer["complete"]), (200, &json!(true)), "{answer}");
            seen.extend(items(&answer));
            answer["position"].as_str().unwrap().clone_into(&mut position);
        }
        seen
    };
    let rooms = [direct, group, group];
    let ((), seen) = tokio::join!(Box::pin(world.count(&ada, &rooms, count)), Box::pin(polling));
    let mut said: Vec<usize> = texts(&seen).iter().map(|text| text.parse().unwrap()).collect();
    said.sort_unstable();
    assert_eq!(said, (0..count).collect::<Vec<_>>());
    for room in [group, direct] {
        let of_room: Vec<Value> = seen.iter().filter(|frame| frame["conversation"] == json!(room)).cloned().collect();
        assert_chained(&of_room);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_waits_for_the_next_event_and_no_longer_than_it_said() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let begin = world.get(&bob, "/v1/events").await.1;
    let path = format!("/v1/events?position={}&timeout=", begin["position"].as_str().unwrap());
    let (status, answer) = world.get(&bob, &format!("{path}0")).await;
    assert_eq!((status, items(&answer), &answer["position"]), (200, vec![], &begin["position"]));
    // Somebody writes for the first time while the poll waits.
    let direct = ConversationId::direct(ada.id, bob.id);
    let path = format!("{path}60");
    let waiting = world.get(&bob, &path);
    let writing = async {
        while world.edge.live.hub.rooms.of_user(bob.id).is_empty() {
            tokio::task::yield_now().await;
        }
        world.say(&ada, direct, "first words").await;
    };
    let ((status, answer), ()) = tokio::join!(waiting, writing);
    assert_eq!((status, texts(&items(&answer))), (200, vec!["first words"]));
    assert!(world.edge.live.hub.rooms.of_user(bob.id).is_empty(), "a poll that is over leaves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_of_a_place_that_is_not_ours_says_so() {
    let world = World::start().await;
    let ada = world.person("ada").await;
    let (status, answer) = world.get(&ada, "/v1/events?position=00000000.0").await;
    assert_eq!((status, &answer["complete"], items(&answer)), (200, &json!(false), vec![]));
    for query in ["position=x", "timeout=61", "timeout=-1", "since=1"] {
        assert_eq!(world.get(&ada, &format!("/v1/events?{query}")).await.0, 422, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_conversation_are_read_in_steps() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[]).await;
    for index in 0..7 {
        world.say(&ada, room, &index.to_string()).await;
    }
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let path =
            format!("/v1/conversations/{room}/events?after_seq={after}&epoch={}&limit=3", world.edge.live.epoch());
        let (status, answer) = world.get(&ada, &path).await;
        assert_eq!((status, &answer["complete"]), (200, &json!(true)), "{answer}");
        if items(&answer).is_empty() {
            break;
        }
        seen.extend(items(&answer));
        after = answer["position"]["seq"].as_u64().unwrap();
    }
    assert_eq!(texts(&seen), ["0", "1", "2", "3", "4", "5", "6"]);
    assert_chained(&seen);
    let (_, other) = world.get(&ada, &format!("/v1/conversations/{room}/events?after_seq=2&epoch=00000000")).await;
    let position = json!({"epoch": world.edge.live.epoch(), "seq": after});
    assert_eq!(other, json!({"items": [], "complete": false, "position": position}));
    assert_eq!(world.get(&bob, &format!("/v1/conversations/{room}/events")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_waits_hears_that_its_user_was_added_to_a_group() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[]).await;
    let begin = world.get(&bob, "/v1/events").await.1;
    let path = format!("/v1/events?position={}&timeout=60", begin["position"].as_str().unwrap());
    let adding = async {
        while world.edge.live.hub.rooms.of_user(bob.id).is_empty() {
            tokio::task::yield_now().await;
        }
        world.add(room, &ada, &bob).await;
    };
    // Far less than it may wait.
    let both = async { tokio::join!(world.get(&bob, &path), adding).0 };
    let (status, answer) = tokio::time::timeout(PATIENCE, both).await.expect("the poll sleeps on");
    let kinds: Vec<&str> =
        answer["items"].as_array().unwrap().iter().map(|item| item["event"]["kind"].as_str().unwrap()).collect();
    assert_eq!((status, kinds.last()), (200, Some(&"member_added")), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_waits_ends_with_the_removal_of_its_user() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let begin = world.get(&bob, "/v1/events").await.1;
    let path = format!("/v1/events?position={}&timeout=60", begin["position"].as_str().unwrap());
    let removing = async {
        // Once it listens, it hears of the removal, and then waits for ingest: meanwhile others go on.
        while world.edge.live.hub.rooms.within(log::Topic::Group(group_of(room))).is_empty() {
            tokio::task::yield_now().await;
        }
        world.set_ingesting(false);
        world.remove(room, &ada, &bob).await;
        world.say(&ada, room, "secret").await;
        world.set_ingesting(true);
    };
    let ((status, answer), ()) = tokio::join!(world.get(&bob, &path), removing);
    let kinds: Vec<Value> = items(&answer).iter().map(|item| item["event"]["kind"].clone()).collect();
    assert_eq!((status, kinds), (200, vec![json!("member_removed")]), "{answer}");
}

/// The events of a poll after which there is nothing more, and of the next one.
async fn poll_twice(world: &World, person: &Person, begin: &Value) -> Vec<Value> {
    let (mut position, mut seen) = (begin["position"].clone(), Vec::new());
    for timeout in [20, 0] {
        let path = format!("/v1/events?position={}&timeout={timeout}", position.as_str().unwrap());
        let (status, answer) = world.get(person, &path).await;
        assert_eq!((status, &answer["complete"]), (200, &json!(true)), "{answer}");
        seen.extend(items(&answer));
        position = answer["position"].clone();
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_while_a_poll_looks_is_given_by_it_or_by_the_next() {
    let (world, log) = World::start_racing().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (one, other) = (world.group(&ada, &[&bob]).await, world.group(&ada, &[&bob]).await);
    let begin = world.get(&bob, "/v1/events").await.1;
    let (speaking, speaker) = (world.clone(), ada.clone());
    let happens = Box::pin(async move {
        speaking.say(&speaker, one, "1").await;
        speaking.say(&speaker, other, "2").await;
    });
    log.set(Race { seen_before: Some(one), happens });
    let seen = poll_twice(&world, &bob, &begin).await;
    assert_eq!(texts(&seen), ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_its_user_enters_while_a_poll_looks_is_given_by_it_or_by_the_next() {
    let (world, log) = World::start_racing().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (new, old) = (world.group(&ada, &[]).await, world.group(&ada, &[&bob]).await);
    let begin = world.get(&bob, "/v1/events").await.1;
    let (speaking, speaker, added) = (world.clone(), ada.clone(), bob.clone());
    let happens = Box::pin(async move {
        speaking.add(new, &speaker, &added).await;
        speaking.say(&speaker, old, "2").await;
    });
    log.set(Race { seen_before: None, happens });
    let seen = poll_twice(&world, &bob, &begin).await;
    let kinds: Vec<&str> = seen.iter().map(|frame| frame["event"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["member_added", "message"]);
}
