//! What the two servers say inside WebSocket frames: Rookery's `/v1/ws`, and Socket.IO 4 over Engine.IO 4.
//!
//! Frames are told apart by their first bytes. A message's number is read off the end of its frame: in both protocols
//! the text is the last field, followed by three closing signs.

use std::io::Write;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Room, TEXT_BYTES};

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Protocol {
    /// Rookery's own.
    Rookery,
    /// Socket.IO with the handlers of `xtask/peer/server.js`.
    SocketIo,
}

/// What a frame of the server's says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// A message of ours arrived, by its number.
    Message(u32),
    /// A message of ours was acknowledged, by its number.
    Ack(u32),
    /// This connection will see all that is sent from now on.
    Joined,
    /// An answer is due.
    Answer(&'static [u8]),
    /// Nothing that we count, such as an event of another kind.
    Other,
    /// Something went wrong; the frame says what.
    Error(&'a [u8]),
}

/// The sign before and after a number at the start of a text.
const MARK: u8 = b'#';
/// The digits of a number.
const DIGITS: usize = 10;
/// What follows the text in a frame: `"}}` in Rookery's, `"}]` in Socket.IO's.
const CLOSING: usize = 3;
/// What makes a text [`TEXT_BYTES`] long.
const FILLER: &str =
    "the quick brown fox jumps over the lazy dog and then the dog wakes up and looks around for a while";

impl Protocol {
    /// The HTTP request that opens a connection for a member of a room.
    pub(super) fn upgrade(self, address: SocketAddr, room: &Room, member: &str) -> String {
        let (target, authorization) = match self {
            Self::Rookery => ("/v1/ws".to_owned(), format!("Authorization: Bearer {member}\r\n")),
            Self::SocketIo => {
                (format!("/socket.io/?EIO=4&transport=websocket&room={}&user={member}", room.id), String::new())
            }
        };
        format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: cm9va2VyeS1iZW5jaC13cw==\r\n{authorization}\r\n"
        )
    }

    /// The payload of the frame that sends message `number` to a room, into `out`.
    pub(super) fn send(self, out: &mut Vec<u8>, room: &str, number: u32) {
        let filler = &FILLER[..TEXT_BYTES - DIGITS - 2];
        let written = match self {
            Self::Rookery => write!(
                out,
                r##"{{"type":"send","ref":"{number}","conversation":"{room}","text":"#{number:010}#{filler}"}}"##
            ),
            Self::SocketIo => write!(out, r##"42{number}["send","#{number:010}#{filler}"]"##),
        };
        written.unwrap_or_else(|_| unreachable!("writing to memory"));
    }

    /// What a text frame says.
    #[inline]
    pub(super) fn read(self, payload: &[u8]) -> Said<'_> {
        match self {
            Self::Rookery => read_rookery(payload),
            Self::SocketIo => read_socket_io(payload),
        }
    }
}

#[inline]
fn read_rookery(payload: &[u8]) -> Said<'_> {
    if payload.starts_with(br#"{"type":"event""#) {
        return number_in_text(payload).map_or(Said::Other, Said::Message);
    }
    if payload.starts_with(br#"{"type":"ack""#) {
        let number = after(payload, br#""ref":""#).and_then(number_at_start);
        return number.map_or(Said::Error(payload), Said::Ack);
    }
    if payload.starts_with(br#"{"type":"hello""#) {
        return Said::Joined;
    }
    if payload.starts_with(br#"{"type":"error""#) { Said::Error(payload) } else { Said::Other }
}

#[inline]
fn read_socket_io(payload: &[u8]) -> Said<'_> {
    match payload {
        [b'4', b'2', ..] => number_in_text(payload).map_or(Said::Other, Said::Message),
        [b'4', b'3', rest @ ..] => {
            let is_stored = after(rest, br#"{"seq":"#).is_some();
            number_at_start(rest).filter(|_| is_stored).map_or(Said::Error(payload), Said::Ack)
        }
        [b'2', ..] => Said::Answer(b"3"),
        [b'0', ..] => Said::Answer(b"40"),
        [b'4', b'0', ..] => Said::Joined,
        _ => Said::Error(payload),
    }
}

/// The number at the start of the text at the end of the payload.
#[inline]
fn number_in_text(payload: &[u8]) -> Option<u32> {
    let start = payload.len().checked_sub(TEXT_BYTES + CLOSING)?;
    let [MARK, number @ .., MARK] = payload.get(start..start + DIGITS + 2)? else { return None };
    let is_number = number.iter().all(u8::is_ascii_digit);
    is_number.then(|| number_at_start(number))?
}

fn number_at_start(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    let (count, number) = digits.fold((0, 0_u32), |(count, number), digit| {
        (count + 1, number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')))
    });
    (count > 0).then_some(number)
}

fn after<'a>(bytes: &'a [u8], sign: &[u8]) -> Option<&'a [u8]> {
    let start = bytes.windows(sign.len()).position(|window| window == sign)?;
    bytes.get(start + sign.len()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: u32) -> String {
        let mut sent = Vec::new();
        Protocol::SocketIo.send(&mut sent, "room", number);
        let sent = String::from_utf8(sent).unwrap();
        sent.split('"').nth(3).unwrap().to_owned()
    }

    #[test]
    fn a_text_has_the_promised_length() {
        assert_eq!(text(0).len(), TEXT_BYTES);
        assert_eq!(text(u32::MAX).len(), TEXT_BYTES);
    }

    #[test]
    fn rookerys_frames_are_told_apart() {
        let event = format!(
            r#"{{"type":"event","conversation":"c","epoch":"e","seq":2,"prev":1,"at":"t","event":{{"id":"i","kind":"message","sender":"s","text":"{}"}}}}"#,
            text(4_000_000_000)
        );
        let read = |frame: &'static str| Protocol::Rookery.read(frame.as_bytes());
        assert_eq!(Protocol::Rookery.read(event.as_bytes()), Said::Message(4_000_000_000));
        assert_eq!(read(r#"{"type":"event","event":{"kind":"member_added","user":"u"}}"#), Said::Other);
        assert_eq!(read(r#"{"type":"ack","ref":"17","id":"i","seq":2}"#), Said::Ack(17));
        assert_eq!(read(r#"{"type":"hello","session":"s"}"#), Said::Joined);
        assert!(matches!(read(r#"{"type":"error","ref":"17","code":"rate_limited"}"#), Said::Error(_)));
    }

    #[test]
    fn socket_ios_packets_are_told_apart() {
        let event = format!(r#"42["message",{{"room":"r","seq":"2","text":"{}"}}]"#, text(9));
        let read = |frame: &'static str| Protocol::SocketIo.read(frame.as_bytes());
        assert_eq!(Protocol::SocketIo.read(event.as_bytes()), Said::Message(9));
        assert_eq!(read(r#"4317[{"seq":"2"}]"#), Said::Ack(17));
        assert!(matches!(read(r#"4317[{"error":"no"}]"#), Said::Error(_)));
        assert_eq!(read(r#"0{"sid":"a"}"#), Said::Answer(b"40"));
        assert_eq!(read(r#"40{"sid":"b"}"#), Said::Joined);
        assert_eq!(read("2"), Said::Answer(b"3"));
        assert!(matches!(read(r#"44{"message":"no"}"#), Said::Error(_)));
    }
}
