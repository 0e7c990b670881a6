use proptest::prelude::{any, proptest};
use tungstenite::protocol::{Message, Role, WebSocket};
use types::{Epoch, GroupId, Position, Region};

use super::*;

/// What a client reads out of these bytes.
fn read(bytes: &[u8]) -> Vec<Message> {
    let stream = std::io::Cursor::new(bytes.to_vec());
    let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
    std::iter::from_fn(|| socket.read().ok()).collect()
}

fn entry(conversation: ConversationId, seq: u64, payload: String) -> Entry {
    Entry {
        conversation,
        position: Position { epoch: Epoch::new(0x5f3a_9c01), seq },
        prev: seq - 1,
        at: Timestamp::from_millis(1_769_852_000_125 + i64::try_from(seq).unwrap() / 3),
        payload: payload.into(),
        trace: None,
    }
}

fn group() -> ConversationId {
    GroupId::generate(Region::default()).into()
}

fn json(message: &Message) -> serde_json::Value {
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

#[test]
fn an_event_is_spliced_with_its_place() {
    let conversation = ConversationId::direct(UserId::generate(Region::default()), UserId::generate(Region::default()));
    let entry = entry(conversation, 42, r#"{"id":"x","kind":"later","more":[1, 2]}"#.into());
    let burst = Burst::of([&entry].into_iter());
    let expected = serde_json::json!({
        "type": "event", "conversation": conversation, "epoch": "5f3a9c01", "seq": 42, "prev": 41,
        "at": "2026-01-31T09:33:20.139Z", "event": {"id": "x", "kind": "later", "more": [1, 2]},
    });
    let frames = read(&burst.bytes);
    assert_eq!(frames.len(), 1);
    assert_eq!(json(&frames[0]), expected);
    assert!(frames[0].to_text().unwrap().ends_with(r#""event":{"id":"x","kind":"later","more":[1, 2]}}"#));
}

proptest! {
    #[test]
    fn a_burst_is_read_frame_by_frame_from_any_seq(
        lengths in proptest::collection::vec(0..70_000_usize, 1..12),
        cut in 0..14_u64,
    ) {
        let conversation = group();
        let entries: Vec<Entry> = (1..).zip(&lengths)
            .map(|(seq, length)| entry(conversation, seq, format!("\"{}\"", "x".repeat(*length))))
            .collect();
        let burst = Burst::of(entries.iter());
        assert_eq!(burst.last_seq(), lengths.len() as u64);
        let frames = read(&burst.after(cut));
        let seqs: Vec<u64> = frames.iter().map(|frame| json(frame)["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (cut + 1..=lengths.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_text_of_any_length_is_one_frame(length in 0..200_000_usize, before in 0..3_usize) {
        let mut frames = Vec::new();
        for _ in 0..before {
            text(&mut frames, |json| json.push(b'-'));
        }
        text(&mut frames, |json| json.resize(json.len() + length, b'x'));
        let read = read(&frames);
        assert_eq!(read.len(), before + 1);
        assert_eq!(read[before].to_text().unwrap(), "x".repeat(length));
    }

    #[test]
    fn an_epoch_is_written_as_it_prints(number in any::<u32>()) {
        let mut json = Vec::new();
        epoch(&mut json, number);
        assert_eq!(json, Epoch::new(number).to_string().into_bytes());
    }
}

#[test]
fn a_conversation_is_written_as_it_prints() {
    let users = (UserId::generate(Region::default()), UserId::generate(Region::default()));
    for id in [group(), ConversationId::direct(users.0, users.1)] {
        let mut json = Vec::new();
        conversation(&mut json, id);
        assert_eq!(json, id.to_string().into_bytes());
    }
}

#[test]
fn control_frames_are_read() {
    let reason = "ä".repeat(100);
    let frames = [ping(), pong(b"abc"), close(4408, &reason)].concat();
    let read = read(&frames);
    assert_eq!(read[..2], [Message::Ping(Bytes::new()), Message::Pong(Bytes::from_static(b"abc"))]);
    let Message::Close(Some(closed)) = &read[2] else { panic!("{read:?}") };
    assert_eq!((u16::from(closed.code), closed.reason.as_str()), (4408, &*"ä".repeat(61)));
}

#[test]
fn typing_and_read_marks_are_frames() {
    let (conversation, user) = (group(), UserId::generate(Region::default()));
    let frames = read(&[typing(conversation, user), read_frame(conversation), removed(conversation)].concat());
    let frames: Vec<_> = frames.iter().map(json).collect();
    assert_eq!(frames[0], serde_json::json!({"type": "typing", "conversation": conversation, "user": user}));
    assert_eq!(frames[1], serde_json::json!({"type": "read", "conversation": conversation, "seq": 9}));
    assert_eq!(frames[2], serde_json::json!({"type": "removed", "conversation": conversation}));
}

fn read_frame(conversation: ConversationId) -> Bytes {
    super::read(conversation, 9)
}

#[test]
fn the_room_that_is_reserved_for_a_frame_suffices() {
    let (one, other) = (UserId::generate(Region::default()), UserId::generate(Region::default()));
    let largest = Entry {
        conversation: ConversationId::direct(one, other),
        position: Position { epoch: Epoch::new(u32::MAX), seq: (1 << 53) - 1 },
        prev: (1 << 53) - 2,
        at: Timestamp::MAX,
        payload: Bytes::from(vec![b'1'; 70_000]),
        trace: None,
    };
    let burst = Burst::of([&largest].into_iter());
    assert!(burst.bytes.len() <= AROUND + 70_000, "{}", burst.bytes.len() - 70_000);
}
