//! What a connection is given, from when on and until when.

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use types::ConversationId;

use super::world::{Client, Person, World, assert_chained, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_added_follows_from_its_own_event_on_without_a_gap() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[]).await;
    let mut client = world.connect(&bob).await;
    // A room that this edge does not listen to yet, and then one that it does.
    for is_heard in [false, true] {
        let room = if is_heard { world.group(&ada, &[]).await } else { room };
        let listener = if is_heard { Some(world.connect(&ada).await) } else { None };
        world.count(&ada, &[room], 5).await;
        let rooms = [room];
        tokio::join!(world.count(&ada, &rooms, 50), world.add(room, &ada, &bob));
        world.say(&ada, room, "last").await;
        let frames = client.events_until(room, "last").await;
        assert_eq!(frames[0]["event"]["kind"], "member_added");
        assert_eq!(frames[0]["event"]["user"], json!(bob.id));
        assert_chained(&frames);
        assert_eq!(client.all_so_far().await, Vec::<Value>::new(), "nothing comes twice");
        drop(listener);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_is_told_and_gets_nothing_after() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    for round in 0..5 {
        let (mut one, mut two) = (world.connect(&ada).await, world.connect(&bob).await);
        let rooms = [room];
        tokio::join!(world.count(&ada, &rooms, 50), world.remove(room, &ada, &bob));
        world.say(&ada, room, "secret").await;
        // What the other sees last is behind everything that could have leaked.
        one.events_until(room, "secret").await;
        let frames = two.all_so_far().await;
        let (events, rest): (Vec<_>, Vec<_>) = frames.into_iter().partition(|frame| frame["type"] == "event");
        let is_end = |event: &Value| event["event"]["kind"] == "member_removed";
        let after = events.iter().skip_while(|event| !is_end(event)).skip(1).count();
        assert_eq!(after, 0, "round {round}");
        assert!(!texts(&events).contains(&"secret"));
        assert_chained(&events);
        assert_eq!(rest, [json!({"type": "removed", "conversation": room})]);
        let answer = two.ask(json!({"type": "send", "conversation": room, "text": "hi"})).await;
        assert_eq!(answer["code"], "not_found");
        world.add(room, &ada, &bob).await;
        world.say(&ada, room, "welcome back").await;
        two.events_until(room, "welcome back").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_comes_before_the_removal_itself_lets_nothing_through_and_hides_nothing() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let mut client = world.connect(&bob).await;
    client.all_so_far().await;
    let group = super::world::group_of(room);
    let at = types::Timestamp::now();
    let command = directory::Command::RemoveMember { group, by: ada.id, user: bob.id, at };
    let outcome = world.directory.execute(&command).await.unwrap().unwrap();
    let notice = types::Notice::MemberRemoved { group, user: bob.id };
    world.log.notify(log::Topic::Directory, notice.encode()).await.unwrap();
    world.say(&ada, room, "before the removal stands in the log").await;
    for row in outcome.events {
        let append = log::Append { conversation: row.conversation, id: row.id, payload: row.payload, trace: None };
        world.log.append(append).await.unwrap().await.unwrap();
    }
    world.say(&ada, room, "secret").await;
    let (mut frames, mut is_over) = (Vec::new(), false);
    while !is_over {
        frames.push(client.next().await);
        is_over = frames.last().unwrap()["type"] == "removed";
    }
    assert_eq!(texts(&frames), ["before the removal stands in the log"]);
    assert_eq!(frames[1]["event"]["kind"], "member_removed");
    assert_eq!(client.all_so_far().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_of_a_removal_whose_event_never_comes_ends_access_too() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let mut client = world.connect(&bob).await;
    client.all_so_far().await;
    let group = super::world::group_of(room);
    let at = types::Timestamp::now();
    let command = directory::Command::RemoveMember { group, by: ada.id, user: bob.id, at };
    world.directory.execute(&command).await.unwrap().unwrap();
    let notice = types::Notice::MemberRemoved { group, user: bob.id };
    world.log.notify(log::Topic::Directory, notice.encode()).await.unwrap();
    world.say(&ada, room, "secret").await;
    assert_eq!(client.next().await, json!({"type": "removed", "conversation": room}));
    assert_eq!(client.all_so_far().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_notice_of_a_removal_does_not_shut_out_who_was_added_again() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let mut client = world.connect(&bob).await;
    let notice = types::Notice::MemberRemoved { group: super::world::group_of(room), user: bob.id };
    let notifying = async { world.log.notify(log::Topic::Directory, notice.encode()).await.unwrap() };
    let rooms = [room];
    tokio::join!(world.count(&ada, &rooms, 50), notifying);
    let frames = client.events_until(room, "49").await;
    let expected: Vec<String> = (0..50).map(|index| index.to_string()).collect();
    assert_eq!(texts(&frames), expected);
    assert_chained(&frames);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_reaches_the_others_and_read_marks_ones_own_devices() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let direct = ConversationId::direct(ada.id, bob.id);
    let (mut phone, mut desk, mut other) =
        (world.connect(&ada).await, world.connect(&ada).await, world.connect(&bob).await);
    for conversation in [room, direct] {
        phone.send(&json!({"type": "typing", "conversation": conversation})).await;
        let typing = json!({"type": "typing", "conversation": conversation, "user": ada.id});
        assert_eq!(other.next().await, typing);
    }
    let seq = world.say(&bob, room, "hi").await;
    assert_eq!(phone.ask(json!({"type": "read", "conversation": room, "seq": seq + 1_000})).await["type"], "ack");
    let read = desk.of_type("read").await;
    assert_eq!(read, json!({"type": "read", "conversation": room, "seq": seq}), "no further than there is");
    let frames = desk.all_so_far().await;
    assert!(frames.iter().all(|frame| frame["type"] != "typing"), "{frames:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_leaves_nothing_behind() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    world.group(&ada, &[&bob]).await;
    let hub = &world.edge.live.hub;
    assert_eq!(hub.rooms.count(), 0);
    let (one, two) = (world.connect(&ada).await, world.connect(&bob).await);
    assert_eq!(hub.rooms.count(), 3, "two users and a group");
    drop((one, two));
    world.edge.live.close(super::world::PATIENCE).await;
    assert_eq!(hub.rooms.count(), 0);
}

/// Texts of very different lengths.
fn long_text(index: usize) -> String {
    format!("{index} {}", "x".repeat(index * 7 % 700))
}

/// Sends so many long texts, quickly, but never so many that the sender itself reads too slowly.
async fn send_bursts(world: &World, sender: &Person, room: ConversationId, count: usize) {
    let mut sender = world.connect(sender).await;
    for index in 0..count {
        sender.send(&json!({"type": "send", "conversation": room, "text": long_text(index)})).await;
        let answers = if index % 50 == 49 { sender.all_so_far().await } else { Vec::new() };
        assert!(answers.iter().all(|answer| answer["type"] != "error"), "{answers:?}");
    }
}

/// Checks so many events, sends a ping after each, and waits for all pongs.
async fn answer_each(client: &mut Client, count: usize) {
    let (mut events, mut others) = (0, 0);
    while events < count || others < count {
        let message = client.message().await.unwrap().unwrap();
        others += usize::from(!message.is_text());
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["event"]["text"], json!(long_text(events)));
        events += 1;
        client.socket.send(Message::Ping(events.to_string().into())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_between_heavy_bursts_do_not_break_the_stream() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let mut client = world.connect(&bob).await;
    let count = 2_000;
    tokio::join!(Box::pin(send_bursts(&world, &ada, room, count)), Box::pin(answer_each(&mut client, count)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_seen_typing_where_it_is_not_known_whether_one_may_see_it() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (doubted, room) = (world.group(&ada, &[&bob]).await, world.group(&ada, &[&bob]).await);
    let mut client = world.connect(&bob).await;
    world.edge.live.hub.rooms.of_user(bob.id)[0].outbox.doubt(doubted);
    for conversation in [doubted, room] {
        world.edge.live.posting.typing(ada.id, conversation).await.unwrap();
    }
    assert_eq!(client.of_type("typing").await["conversation"], json!(room));
}
