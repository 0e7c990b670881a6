//! How connections end, and which never begin.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use types::{ConversationId, Notice};

use super::world::{PATIENCE, World, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_cut_and_told_to_resume_while_others_go_on() {
    let mut config = config();
    config.limits.outbox_bytes = 64 * 1024;
    let world = World::start_with(config).await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let mut slow = world.open_narrow(&bob).await;
    let mut quick = world.connect(&ada).await;
    let text = "x".repeat(8_000);
    let mut sent = 0;
    // The systems' own buffers fill first, then the outbox.
    while world.edge.live.hub.rooms.of_user(bob.id).iter().any(|connection| !connection.outbox.is_ending()) {
        world.say(&ada, room, &text).await;
        quick.event(room).await;
        sent += 1;
        assert!(sent < 5_000, "it was never cut");
    }
    world.say(&ada, room, "after").await;
    assert_eq!(quick.event(room).await["event"]["text"], "after");
    let (code, reason, frames) = slow.closed().await;
    assert_eq!(code, 4408);
    assert_eq!(serde_json::from_str::<Value>(&reason).unwrap()["resume"], true);
    assert!(frames.len() < sent, "{} of {sent}", frames.len());
    assert!(frames[1..].iter().all(|frame| frame["event"]["text"].as_str() == Some(&text)), "what came is whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_understood_is_told_and_in_the_end_too_much() {
    let world = World::start().await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada).await;
    for _ in 0..20 {
        client.text("{").await;
        let answer = client.next().await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("malformed")));
    }
    client.text("{").await;
    assert_eq!(client.closed().await.0, 1008);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_protocol_is_closed_with_the_code_for_it() {
    let world = World::start().await;
    let ada = world.person("ada").await;
    let raw = |opcode, is_final, rsv1, payload: &[u8]| {
        let header = FrameHeader { opcode, is_final, rsv1, ..FrameHeader::default() };
        Message::Frame(Frame::from_payload(header, payload.to_vec().into()))
    };
    let text = OpCode::Data(Data::Text);
    for (name, message, code) in [
        ("a binary message", Message::binary(vec![1, 2]), 1003),
        ("a text that is not UTF-8", raw(text, true, false, &[0xc3, 0x28]), 1007),
        ("a message of more than 64 KiB", Message::text("x".repeat(64 * 1024 + 1)), 1009),
        ("a reserved bit", raw(text, true, true, b"{}"), 1002),
        ("a fragment of nothing", raw(OpCode::Data(Data::Continue), true, false, b"{}"), 1002),
    ] {
        let mut client = world.connect(&ada).await;
        client.socket.send(message).await.unwrap();
        assert_eq!(client.closed().await.0, code, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_is_answered() {
    let world = World::start().await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada).await;
    client.socket.close(None).await.unwrap();
    assert!(matches!(client.message().await, Some(Ok(Message::Close(_))) | None));
    while client.message().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_ends_its_sockets_and_no_others() {
    let world = World::start().await;
    let ada = world.person("ada").await;
    let (mut one, mut two) = (world.connect(&ada).await, world.connect(&ada).await);
    let elsewhere = types::SessionId::generate(types::Region::default());
    let revoke = |session| Notice::SessionRevoked { user: ada.id, session }.encode();
    world.log.notify(log::Topic::Directory, revoke(elsewhere)).await.unwrap();
    assert_eq!(one.all_so_far().await, Vec::<Value>::new());
    world.log.notify(log::Topic::Directory, revoke(ada.session)).await.unwrap();
    assert_eq!((one.closed().await.0, two.closed().await.0), (4401, 4401));
    assert_eq!(refusal(&world, &[("authorization", &format!("Bearer {}", ada.token))]).await, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_only_so_many_connections() {
    let mut config = config();
    config.limits.connections_per_user = 2;
    let world = World::start_with(config).await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let (one, _two) = (world.connect(&ada).await, world.connect(&ada).await);
    assert_eq!(world.open(&ada).await.closed().await.0, 4429);
    world.connect(&bob).await;
    drop(one);
    let user = log::Topic::User(ada.id);
    let room = world.edge.live.hub.rooms.find(user).unwrap();
    tokio::time::timeout(PATIENCE, async {
        while room.each(|_| ()) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    world.connect(&ada).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_end_sends_what_waits_and_says_when_to_come_back() {
    let world = World::start().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let room = world.group(&ada, &[&bob]).await;
    let mut client = world.connect(&bob).await;
    for index in 0..20 {
        world.say(&ada, room, &index.to_string()).await;
    }
    client.event(room).await;
    client.all_so_far().await;
    world.shutdown.cancel();
    let (code, reason, _) = client.closed().await;
    let reason: Value = serde_json::from_str(&reason).unwrap();
    assert_eq!((code, &reason["resume"]), (1001, &json!(true)));
    assert!(reason["after_ms"].as_u64().unwrap() <= 5_000);
    drop(client);
    assert!(!world.edge.live.is_open());
    tokio::time::timeout(PATIENCE, async {
        while !world.served.is_finished() {
            tokio::task::yield_now().await
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_is_pinged_and_then_sent_away() {
    let mut config = config();
    config.limits.heartbeat_seconds = 1;
    let world = World::start_with(config).await;
    let ada = world.person("ada").await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(handshake(&[("authorization", &format!("Bearer {}", ada.token))]).as_bytes()).await.unwrap();
    // It only reads: nobody answers the ping.
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(has(&[0x89, 0x00]), "a ping");
    assert!(has(&1001_u16.to_be_bytes()), "a close");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_answers_pings_stays() {
    let mut config = config();
    config.limits.heartbeat_seconds = 1;
    let world = World::start_with(config).await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada).await;
    for _ in 0..3 {
        let ping = client.message().await;
        assert!(matches!(ping, Some(Ok(Message::Ping(_)))), "{ping:?}");
        // The library answers when it next reads or writes.
        client.socket.flush().await.unwrap();
    }
    assert_eq!(client.all_so_far().await, Vec::<Value>::new());
}

/// An upgrade request, with these headers beside those that it must have.
fn handshake(headers: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("host", "localhost"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    all.retain(|(name, _)| headers.iter().all(|(given, _)| given != name));
    all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
    let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET /v1/ws?token=no HTTP/1.1\r\n{lines}\r\n")
}

async fn answer(world: &World, headers: &[(&str, &str)]) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(handshake(headers).as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0);
        bytes.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn refusal(world: &World, headers: &[(&str, &str)]) -> u16 {
    answer(world, headers).await.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_good_handshake_with_a_good_token_is_a_connection() {
    let world = World::start().await;
    let ada = world.person("ada").await;
    let bearer = format!("Bearer {}", ada.token);
    let protocols = format!("rookery.v1, bearer.{}", ada.token);
    for (name, headers, status) in [
        ("a token in the header", vec![("authorization", &*bearer)], 101),
        ("a token among the sub-protocols", vec![("sec-websocket-protocol", &*protocols)], 101),
        ("no token", vec![], 401),
        ("no good token", vec![("authorization", "Bearer x")], 401),
        ("no good sub-protocol", vec![("sec-websocket-protocol", "rookery.v1, bearer.x")], 401),
        ("another scheme", vec![("authorization", "Basic YTpi")], 401),
        ("no upgrade", vec![("authorization", &*bearer), ("upgrade", "")], 400),
        ("an upgrade to something else", vec![("authorization", &*bearer), ("upgrade", "h2c")], 400),
        ("another version", vec![("authorization", &*bearer), ("sec-websocket-version", "8")], 400),
        ("no key", vec![("authorization", &*bearer), ("sec-websocket-key", "")], 400),
        ("a short key", vec![("authorization", &*bearer), ("sec-websocket-key", "eA==")], 400),
    ] {
        assert_eq!(refusal(&world, &headers).await, status, "{name}");
    }
    let accepted = answer(&world, &[("sec-websocket-protocol", &protocols)]).await;
    assert!(accepted.contains("sec-websocket-protocol: rookery.v1\r\n"), "{accepted}");
    assert!(accepted.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{accepted}");
    assert!(!accepted.contains(&ada.token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_sent_with_the_handshake_are_not_lost() {
    let world = World::start().await;
    let ada = world.person("ada").await;
    let room = ConversationId::direct(ada.id, ada.id);
    let mut bytes = handshake(&[("authorization", &format!("Bearer {}", ada.token))]).into_bytes();
    let text = json!({"type": "send", "conversation": room, "text": "early"}).to_string();
    let mut frame = Frame::message(text, OpCode::Data(Data::Text), true);
    frame.header_mut().mask = Some([1, 2, 3, 4]);
    frame.format(&mut bytes).unwrap();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut read = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), async {
        while !String::from_utf8_lossy(&read).contains(r#""type":"ack""#) {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            read.extend_from_slice(&buffer[..count]);
        }
    })
    .await
    .unwrap();
}
