//! Events as frames: spliced together once, with the WebSocket header before them, for all who receive them.
//!
//! The payload's bytes are copied as the log gave them. What many receivers get is one [`Burst`], which they
//! share: to send it costs a receiver neither encoding nor copying.

use bytes::Bytes;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use types::notice::Status;
use types::{ConversationId, Entry, Timestamp, UserId};
use uuid::Uuid;

/// What an event's frame holds beside the payload, at most, in bytes.
const AROUND: usize = 232;
/// The size of a frame's header that most frames need: that of 126 to 65,535 bytes.
const HEADER: usize = 4;
/// The size of the largest header that a server sends.
const MAX_HEADER: usize = 10;

/// Frames of events of one conversation, in order, ready to be written to sockets.
#[derive(Clone, Debug)]
pub(crate) struct Burst {
    /// The frames, one behind the other.
    pub(crate) bytes: Bytes,
    /// Where each event's frame begins, and its `seq`.
    pub(crate) marks: Vec<Mark>,
}

/// Where an event's frame begins in its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The event's place.
    pub(crate) seq: u64,
    /// Offset of the frame, in bytes.
    pub(crate) start: usize,
}

impl Burst {
    /// The burst of these events, which are of one conversation and in order.
    pub(crate) fn of<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Self {
        let mut bytes = Vec::with_capacity(entries.clone().map(|entry| AROUND + entry.payload.len()).sum());
        let mut marks = Vec::new();
        let mut clock = Clock::default();
        for entry in entries {
            marks.push(Mark { seq: entry.position.seq, start: bytes.len() });
            text(&mut bytes, |json| event(json, entry, &mut clock));
        }
        Self { bytes: bytes.into(), marks }
    }

    /// The frames of events after `seq`; empty when there are none.
    pub(crate) fn after(&self, seq: u64) -> Bytes {
        let first = self.marks.partition_point(|mark| mark.seq <= seq);
        self.marks.get(first).map_or_else(Bytes::new, |mark| self.bytes.slice(mark.start..))
    }

    /// The `seq` of the first event, 0 when there is none.
    pub(crate) fn first_seq(&self) -> u64 {
        self.marks.first().map_or(0, |mark| mark.seq)
    }

    /// The `seq` of the last event, 0 when there is none.
    pub(crate) fn last_seq(&self) -> u64 {
        self.marks.last().map_or(0, |mark| mark.seq)
    }
}

/// The text of the last time that was written: events that come together often bear the same one.
#[derive(Default)]
pub(crate) struct Clock {
    at: Option<Timestamp>,
    text: String,
}

impl Clock {
    fn text(&mut self, at: Timestamp) -> &str {
        if self.at != Some(at) {
            (self.at, self.text) = (Some(at), at.to_string());
        }
        &self.text
    }
}

/// Appends the JSON of an event's frame.
pub(crate) fn event(json: &mut Vec<u8>, entry: &Entry, clock: &mut Clock) {
    json.extend_from_slice(br#"{"type":"event","conversation":""#);
    conversation(json, entry.conversation);
    json.extend_from_slice(br#"","epoch":""#);
    epoch(json, entry.position.epoch.number());
    json.extend_from_slice(br#"","seq":"#);
    number(json, entry.position.seq);
    json.extend_from_slice(br#","prev":"#);
    number(json, entry.prev);
    json.extend_from_slice(br#","at":""#);
    json.extend_from_slice(clock.text(entry.at).as_bytes());
    json.extend_from_slice(br#"","event":"#);
    json.extend_from_slice(&entry.payload);
    json.push(b'}');
}

/// Appends a conversation's id.
pub(crate) fn conversation(json: &mut Vec<u8>, conversation: ConversationId) {
    match conversation {
        ConversationId::Group(group) => id(json, group.into()),
        ConversationId::Direct(first, second) => {
            id(json, first.into());
            json.push(b'~');
            id(json, second.into());
        }
    }
}

/// Appends an id.
pub(crate) fn id(json: &mut Vec<u8>, id: Uuid) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    json.extend_from_slice(id.as_hyphenated().encode_lower(&mut text).as_bytes());
}

/// Appends an epoch's eight digits.
pub(crate) fn epoch(json: &mut Vec<u8>, epoch: u32) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |place: u32| DIGITS[usize::try_from(epoch >> (4 * place) & 0xf).unwrap_or_default()];
    json.extend((0..8).rev().map(digit));
}

/// Appends a number.
pub(crate) fn number(json: &mut Vec<u8>, number: u64) {
    json.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a text frame around what `write` appends.
pub(crate) fn text(frames: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = frames.len();
    frames.extend_from_slice(&[0; HEADER]);
    write(frames);
    let length = frames.len() - start - HEADER;
    let (header, size) = header(OpCode::Data(Data::Text), length);
    frames.splice(start..start + HEADER, header.into_iter().take(size));
}

/// A frame of its own for what `write` appends.
pub(crate) fn text_frame(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut frame = Vec::with_capacity(AROUND);
    text(&mut frame, write);
    frame.into()
}

/// A ping without a payload.
pub(crate) fn ping() -> Bytes {
    Bytes::from_static(&[0x89, 0])
}

/// A pong that answers a ping's payload.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    control(Control::Pong, payload)
}

/// A close frame. The reason is cut to what fits into a control frame, 123 bytes.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(123)];
    control(Control::Close, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

fn control(kind: Control, payload: &[u8]) -> Bytes {
    let (header, size) = header(OpCode::Control(kind), payload.len());
    [&header[..size], payload].concat().into()
}

/// A header, and how many of the bytes it takes.
fn header(opcode: OpCode, length: usize) -> ([u8; MAX_HEADER], usize) {
    let mut bytes = [0; MAX_HEADER];
    let mut rest = bytes.as_mut_slice();
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    if let Err(error) = header.format(length as u64, &mut rest) {
        unreachable!("an unmasked header fits into its largest size: {error}");
    }
    let size = MAX_HEADER - rest.len();
    (bytes, size)
}

/// Somebody is typing.
pub(crate) fn typing(in_conversation: ConversationId, user: UserId) -> Bytes {
    text_frame(|json| {
        json.extend_from_slice(br#"{"type":"typing","conversation":""#);
        conversation(json, in_conversation);
        json.extend_from_slice(br#"","user":""#);
        id(json, user.into());
        json.extend_from_slice(br#""}"#);
    })
}

/// The user has read this far, on another of its devices.
pub(crate) fn read(in_conversation: ConversationId, seq: u64) -> Bytes {
    text_frame(|json| {
        json.extend_from_slice(br#"{"type":"read","conversation":""#);
        conversation(json, in_conversation);
        json.extend_from_slice(br#"","seq":"#);
        number(json, seq);
        json.push(b'}');
    })
}

/// The other user of a direct conversation has read this far.
pub(crate) fn read_by(in_conversation: ConversationId, user: UserId, seq: u64) -> Bytes {
    mark("read", in_conversation, user, seq)
}

/// Events up to here have arrived at a device of the other user of a direct conversation.
pub(crate) fn delivered(in_conversation: ConversationId, user: UserId, seq: u64) -> Bytes {
    mark("delivered", in_conversation, user, seq)
}

fn mark(kind: &str, in_conversation: ConversationId, user: UserId, seq: u64) -> Bytes {
    text_frame(|json| {
        json.extend_from_slice(br#"{"type":""#);
        json.extend_from_slice(kind.as_bytes());
        json.extend_from_slice(br#"","conversation":""#);
        conversation(json, in_conversation);
        json.extend_from_slice(br#"","user":""#);
        id(json, user.into());
        json.extend_from_slice(br#"","seq":"#);
        number(json, seq);
        json.push(b'}');
    })
}

/// Whether a user is there, and if it is not, when it was last seen, as far as this edge remembers.
pub(crate) fn presence(user: UserId, status: Status, last_seen: Option<Timestamp>) -> Bytes {
    text_frame(|json| {
        json.extend_from_slice(br#"{"type":"presence","user":""#);
        id(json, user.into());
        json.extend_from_slice(br#"","status":""#);
        json.extend_from_slice(match status {
            Status::Offline => b"offline",
            Status::Away => b"away",
            Status::Online => b"online",
        });
        json.push(b'"');
        if let Some(at) = last_seen.filter(|_| status == Status::Offline) {
            json.extend_from_slice(br#","last_seen":""#);
            json.extend_from_slice(at.to_string().as_bytes());
            json.push(b'"');
        }
        json.push(b'}');
    })
}

/// The receiver watches this user no more, for it may no longer see the user's presence: it may ask again.
pub(crate) fn unwatched(user: UserId) -> Bytes {
    text_frame(|json| {
        json.extend_from_slice(br#"{"type":"unwatched","user":""#);
        id(json, user.into());
        json.extend_from_slice(br#""}"#);
    })
}

/// The receiver has no more access to a conversation.
pub(crate) fn removed(from: ConversationId) -> Bytes {
    text_frame(|json| {
        json.extend_from_slice(br#"{"type":"removed","conversation":""#);
        conversation(json, from);
        json.extend_from_slice(br#""}"#);
    })
}

#[cfg(test)]
mod tests;
