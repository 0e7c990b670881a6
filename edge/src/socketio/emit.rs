//! Frames as Socket.IO events. A frame is spliced once for all who receive its event; here its JSON is handed on as it is,
//! under the event's name.

use bytes::Bytes;
use serde_json::value::RawValue;
use types::{Body, Event};

use crate::frame;

/// A text frame's opcode in a first byte, with the mark of a last fragment.
const TEXT: u8 = 0x81;

/// What a frame becomes.
#[derive(Debug)]
pub(super) enum Emission<'a> {
    /// An event for the client.
    Event(&'static str, &'a RawValue),
    /// The client is asked whether it is still there. The library does that itself.
    Probe,
    /// The next client that asked for a place is told it now, behind what was queued before.
    Place,
}

/// The payload of the frame that becomes [`Emission::Place`].
const PLACE: &[u8] = br#"{"type":"place"}"#;

/// The frame that becomes [`Emission::Place`]. No client sees it.
pub(super) fn place() -> Bytes {
    frame::text_frame(|json| json.extend_from_slice(PLACE))
}

/// The frames in a chunk of an outbox, which holds whole frames.
pub(super) fn emissions(chunk: &Bytes) -> impl Iterator<Item = Emission<'_>> {
    let mut rest = chunk.as_ref();
    std::iter::from_fn(move || {
        let (opcode, payload, behind) = split(rest)?;
        rest = behind;
        Some((opcode, payload))
    })
    .filter_map(|(opcode, payload)| {
        if opcode != TEXT {
            return Some(Emission::Probe);
        }
        if payload == PLACE {
            return Some(Emission::Place);
        }
        let json = serde_json::from_slice(payload).ok()?;
        Some(Emission::Event(name_of(payload), json))
    })
}

/// The first frame's first byte and payload, and what is behind it. Frames to a client have no mask.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (opcode, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        126 => rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?,
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
        length => (u64::from(*length), rest),
    };
    let (payload, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((*opcode, payload, behind))
}

/// What a frame is called among Socket.IO's events. It is read off the places where this program writes it.
fn name_of(json: &[u8]) -> &'static str {
    const EVENT: &[u8] = br#"{"type":"event","conversation":""#;
    let is_of = |name: &str| {
        let rest = json.strip_prefix(br#"{"type":""#).and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b"\""))
    };
    if let Some(rest) = json.strip_prefix(EVENT) {
        return name_of_event(rest);
    }
    let known = ["hello", "resumed", "removed", "typing", "read", "delivered"].into_iter().find(|name| is_of(name));
    known.unwrap_or("event")
}

/// `rest` begins with the conversation's id: a direct one's holds a `~`.
fn name_of_event(rest: &[u8]) -> &'static str {
    const PAYLOAD: &[u8] = br#","event":"#;
    const UUID: usize = uuid::fmt::Hyphenated::LENGTH;
    let is_direct = rest.get(UUID) == Some(&b'~');
    // Before the payload stand ids, numbers and a time, none of which looks like this.
    let Some(start) = find(rest, PAYLOAD) else { return "event" };
    let payload = &rest[start + PAYLOAD.len()..];
    if !is_message(payload) {
        return "event";
    }
    // In a text every quotation mark has a backslash before it.
    match (find(payload, br#","attachment":{"#), is_direct) {
        (Some(_), _) => "receive_file",
        (None, true) => "receive_message",
        (None, false) => "group_message",
    }
}

/// What this program has encoded tells its kind at a fixed place.
fn is_message(payload: &[u8]) -> bool {
    const KIND: std::ops::Range<usize> = 43..53;
    if payload.starts_with(br#"{"id":""#) && payload.get(KIND) == Some(br#"","kind":""#) {
        return payload[KIND.end..].starts_with(br#"message""#);
    }
    // Behind the payload stands the frame's own brace.
    let payload = payload.strip_suffix(b"}").unwrap_or(payload);
    Event::decode(payload).is_ok_and(|event| matches!(event.body, Body::Message(_)))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use types::{Content, ConversationId, Entry, EventId, GroupId, Position, Region, Timestamp, UserId};

    use super::*;
    use crate::frame::Burst;

    fn user() -> UserId {
        UserId::generate(Region::default())
    }

    fn burst(conversation: ConversationId, payloads: Vec<Bytes>) -> Bytes {
        let entry = |(seq, payload)| Entry {
            conversation,
            position: Position { seq, ..Position::default() },
            prev: 0,
            at: Timestamp::default(),
            payload,
            trace: None,
        };
        let entries: Vec<Entry> = (1..).zip(payloads).map(entry).collect();
        Burst::of(entries.iter()).bytes
    }

    fn message(text: &str) -> Bytes {
        let body = Body::Message(Content { text: text.into(), ..Content::default() });
        Event { id: EventId::generate(Region::default()), sender: user(), body }.encode()
    }

    fn names(chunk: &Bytes) -> Vec<&'static str> {
        let name = |emission| match emission {
            Emission::Event(name, _) => name,
            Emission::Probe => "probe",
            Emission::Place => "place",
        };
        emissions(chunk).map(name).collect()
    }

    #[test]
    fn a_message_is_called_by_its_conversation_whatever_its_length_and_text() {
        let texts = ["hi", &"x".repeat(300), &"y".repeat(70_000), r#"{"x":1,"attachment":{"kind":"edit"},"event":1}"#];
        let payloads = || texts.iter().map(|text| message(text)).collect::<Vec<_>>();
        let group = GroupId::generate(Region::default()).into();
        assert_eq!(names(&burst(group, payloads())), ["group_message"; 4]);
        assert_eq!(names(&burst(ConversationId::direct(user(), user()), payloads())), ["receive_message"; 4]);
    }

    #[test]
    fn a_message_with_a_file_is_a_file() {
        let with_file = |text: &str| {
            let json = String::from_utf8(message(text).to_vec()).unwrap();
            let json = json.strip_suffix('}').unwrap();
            Bytes::from(format!(r#"{json},"attachment":{{"id":"a","name":"a.png"}}}}"#))
        };
        let direct = ConversationId::direct(user(), user());
        assert_eq!(
            names(&burst(direct, vec![with_file("see"), message("no file")])),
            ["receive_file", "receive_message"]
        );
    }

    #[test]
    fn a_message_that_another_program_encoded_is_known_too() {
        let (id, sender) = (EventId::generate(Region::default()), user());
        let foreign = format!(r#"{{ "kind":"message", "sender":"{sender}", "id":"{id}", "text":"hi" }}"#);
        let group = GroupId::generate(Region::default()).into();
        assert_eq!(names(&burst(group, vec![foreign.into()])), ["group_message"]);
    }

    #[test]
    fn other_frames_keep_their_names() {
        let conversation = ConversationId::direct(user(), user());
        let edit = Event {
            id: EventId::generate(Region::default()),
            sender: user(),
            body: Body::MemberAdded { user: user() },
        };
        let chunk = [
            burst(conversation, vec![edit.encode()]),
            frame::typing(conversation, user()),
            frame::ping(),
            frame::read(conversation, 7),
            frame::delivered(conversation, user(), 7),
            frame::removed(conversation),
        ]
        .concat();
        assert_eq!(names(&chunk.into()), ["event", "typing", "probe", "read", "delivered", "removed"]);
    }

    #[test]
    fn the_json_is_handed_on_as_it_is() {
        let conversation = ConversationId::direct(user(), user());
        let chunk = frame::read(conversation, 7);
        let Some(Emission::Event(_, json)) = emissions(&chunk).next() else { panic!("no event") };
        assert_eq!(json.get(), format!(r#"{{"type":"read","conversation":"{conversation}","seq":7}}"#));
    }

    #[test]
    fn the_mark_of_a_place_is_no_event() {
        let conversation = ConversationId::direct(user(), user());
        let chunk = [frame::read(conversation, 7), place(), frame::read(conversation, 8)].concat();
        assert_eq!(names(&chunk.into()), ["read", "place", "read"]);
    }

    #[test]
    fn what_is_cut_off_ends_the_chunk() {
        let whole = frame::read(ConversationId::direct(user(), user()), 7);
        for end in 0..whole.len() {
            assert_eq!(names(&whole.slice(..end)), Vec::<&str>::new());
        }
    }
}
