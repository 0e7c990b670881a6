//! Messages that clients send, and what they are answered.

use serde_json::{Value, json};
use types::{ConversationId, EventId, Region};

use super::world::{World, assert_chained, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_the_same_events_in_the_same_order() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let (mut one, mut two) = (world.connect(&ada).await, world.connect(&bob).await);
    for index in 0..100 {
        one.send(&json!({"type": "send", "conversation": room, "text": format!("a{index}")})).await;
        two.send(&json!({"type": "send", "conversation": room, "text": format!("b{index}")})).await;
    }
    let (mut seen_by_one, mut seen_by_two) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        seen_by_one.push(one.event(room).await);
        seen_by_two.push(two.event(room).await);
    }
    assert_eq!(seen_by_one, seen_by_two);
    assert_chained(&seen_by_one);
    for sender in ["a", "b"] {
        let said: Vec<&str> = texts(&seen_by_one).into_iter().filter(|text| text.starts_with(sender)).collect();
        let expected: Vec<String> = (0..100).map(|index| format!("{sender}{index}")).collect();
        assert_eq!(said, expected, "what one connection sends stays in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_tells_where_the_event_stands() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = ConversationId::direct(ada.id, bob.id);
    let (mut one, mut two) = (world.connect(&ada).await, world.connect(&bob).await);
    let id = EventId::generate(Region::default());
    one.send(&json!({"type": "send", "ref": "r", "conversation": room, "id": id, "text": "hi"})).await;
    let frames = [one.next().await, one.next().await];
    let ack = frames.iter().find(|frame| frame["type"] == "ack").unwrap();
    let event = frames.iter().find(|frame| frame["type"] == "event").unwrap();
    assert_eq!(two.next().await, *event);
    assert_eq!(event["event"], json!({"id": id, "kind": "message", "sender": ada.id, "text": "hi"}));
    let expected = json!({"type": "ack", "ref": "r", "id": id, "conversation": room, "epoch": event["epoch"],
        "seq": event["seq"], "at": event["at"], "duplicate": false});
    assert_eq!(*ack, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_messages_are_acknowledged_in_order() {
    let world = World::start().await;
    let ada = world.person("ada").await;
    let room = world.group(&ada, &[]).await;
    let mut client = world.connect(&ada).await;
    let count = 500;
    for index in 0..count {
        let text = format!("{index}");
        client.send(&json!({"type": "send", "ref": text, "conversation": room, "text": text})).await;
    }
    let (mut acks, mut events) = (Vec::new(), Vec::new());
    while acks.len() < count || events.len() < count {
        let frame = client.next().await;
        if frame["type"] == "ack" { acks.push(frame) } else { events.push(frame) }
    }
    let expected: Vec<String> = (0..count).map(|index| index.to_string()).collect();
    assert_eq!(acks.iter().map(|ack| ack["ref"].as_str().unwrap()).collect::<Vec<_>>(), expected);
    assert_eq!(texts(&events), expected);
    let seqs = |frames: &[Value]| frames.iter().map(|frame| frame["seq"].clone()).collect::<Vec<_>>();
    assert_eq!(seqs(&acks), seqs(&events));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_sent_again_is_stored_once() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (room, other) = (world.group(&ada, &[&bob]).await, world.group(&ada, &[&bob]).await);
    let (mut one, mut two) = (world.connect(&ada).await, world.connect(&bob).await);
    let id = EventId::generate(Region::default());
    let send = |room: ConversationId, text: &str| json!({"type": "send", "conversation": room, "id": id, "text": text});
    let mut first = one.ask(send(room, "hi")).await;
    let mut again = one.ask(send(room, "hi")).await;
    assert_eq!((first["duplicate"].take(), again["duplicate"].take()), (json!(false), json!(true)));
    assert_eq!((&first["seq"], &first["at"]), (&again["seq"], &again["at"]));
    assert_eq!(one.ask(send(room, "ho")).await["code"], "id_taken", "another text");
    assert_eq!(one.ask(send(other, "hi")).await["code"], "id_taken", "another conversation");
    assert_eq!(two.ask(send(room, "hi")).await["code"], "id_taken", "another sender");
    let events = world.edge.timeline.events(room, 0, 100).await.unwrap();
    let count = events.iter().filter(|entry| entry.payload.windows(2).any(|pair| pair == b"hi")).count();
    assert_eq!(count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_edited_and_deleted_by_its_sender() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let (mut one, mut two) = (world.connect(&ada).await, world.connect(&bob).await);
    let id = EventId::generate(Region::default());
    // The edit follows the message at once: it must find it.
    two.send(&json!({"type": "send", "conversation": room, "id": id, "text": "hi"})).await;
    let edit = json!({"type": "edit", "conversation": room, "message": id, "text": "ho"});
    assert_eq!(two.ask(edit.clone()).await["type"], "ack");
    assert_eq!(one.ask(edit.clone()).await["code"], "forbidden");
    let delete = json!({"type": "delete", "conversation": room, "message": id});
    assert_eq!(one.ask(delete.clone()).await["type"], "ack", "the group's owner may");
    assert_eq!(two.ask(delete).await["type"], "ack", "deleting again is no error");
    assert_eq!(two.ask(edit).await["code"], "message_deleted");
    let unknown = json!({"type": "delete", "conversation": room, "message": EventId::generate(Region::default())});
    assert_eq!(two.ask(unknown).await["code"], "not_found");
    let mut watcher = world.connect(&ada).await;
    let position = json!({room.to_string(): {"epoch": world.edge.live.epoch(), "seq": 0}});
    watcher.send(&json!({"type": "resume", "positions": position})).await;
    let mut kinds = Vec::new();
    loop {
        let frame = watcher.next().await;
        if frame["type"] == "resumed" {
            break;
        }
        kinds.push(frame["event"]["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds[kinds.len() - 3..], ["message", "edit", "delete"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stranger_or_a_bad_frame_asks_for_is_an_error_and_not_the_end() {
    let world = World::start().await;
    let (ada, eve) = (world.person("ada").await, world.person("eve").await);
    let room = world.group(&ada, &[]).await;
    let mut client = world.connect(&eve).await;
    let nobody = ConversationId::direct(ada.id, ada.id);
    let message = EventId::generate(Region::default());
    let future = types::Timestamp::now().plus(std::time::Duration::from_secs(120)).as_millis().to_be_bytes();
    let mut from_the_future = *message.as_bytes();
    from_the_future[..6].copy_from_slice(&future[2..]);
    let from_the_future = EventId::from_bytes(from_the_future).unwrap();
    let mine = ConversationId::direct(eve.id, ada.id);
    for (frame, code) in [
        (json!({"type": "send", "conversation": room, "text": "hi"}), "not_found"),
        (json!({"type": "send", "conversation": nobody, "text": "hi"}), "not_found"),
        (json!({"type": "edit", "conversation": room, "message": message, "text": "hi"}), "not_found"),
        (json!({"type": "delete", "conversation": room, "message": message}), "not_found"),
        (json!({"type": "read", "conversation": room, "seq": 1}), "not_found"),
        (json!({"type": "typing", "conversation": room}), "not_found"),
        (json!({"type": "delivered", "conversation": room, "seq": 1}), "not_found"),
        (json!({"type": "watch", "users": vec![ada.id; 101]}), "invalid"),
        (json!({"type": "watch"}), "malformed"),
        (json!({"type": "fly"}), "unknown_type"),
        (json!({"type": "send", "conversation": mine, "text": ""}), "invalid"),
        (json!({"type": "send", "conversation": mine, "text": "x".repeat(8_001)}), "invalid"),
        (json!({"type": "send", "conversation": mine, "text": "a\u{0}b"}), "invalid"),
        (json!({"type": "send", "conversation": mine, "text": "hi", "id": from_the_future}), "invalid"),
        (json!({"type": "send", "conversation": mine, "text": "hi", "id": "7"}), "malformed"),
        (json!({"type": "send", "conversation": mine, "text": "hi", "color": "red"}), "malformed"),
    ] {
        let answer = client.ask(frame.clone()).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{frame}: {answer}");
    }
    let kept = client.ask(json!({"type": "send", "conversation": mine, "text": "ä".repeat(8_000)})).await;
    assert_eq!(kept["type"], "ack", "a text is measured in characters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_frames_are_told_to_wait() {
    let mut config = super::world::config();
    config.limits.requests_per_second_per_user = 1;
    config.limits.request_burst_per_user = 5;
    let world = World::start_with(config).await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada).await;
    let room = ConversationId::direct(ada.id, ada.id);
    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(client.ask(json!({"type": "send", "conversation": room, "text": "note"})).await);
    }
    let refused = codes.iter().find(|answer| answer["type"] == "error").unwrap();
    assert_eq!((&refused["code"], &refused["retry_after_ms"]), (&json!("too_many_requests"), &json!(1000)));
}
