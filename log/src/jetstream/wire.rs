//! The part of the NATS client protocol that is spoken on connections of our own: subscriptions and messages out,
//! messages in.
//!
//! A feed has a connection of its own on which all its subscriptions come in the order in which the server sent
//! them, at the cost of one table entry each. A client library that gives each subscription a queue of its own
//! loses that order, and takes kilobytes for each.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// The longest line that a server sends; its own limit is far lower, but for the list of all servers in `INFO`.
const MAX_LINE_BYTES: usize = 256 * 1024;
/// The largest message, in bytes. What the log stores is far smaller; a server's own limit is at most this.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// How the headers of an answer begin that says that nobody listens.
pub(super) const NO_RESPONDERS: &[u8] = b"NATS/1.0 503";

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Something that was subscribed to.
    Message(Heard),
    /// About the server, and which others there are.
    Info(Bytes),
    /// It asks whether we live.
    Ping,
    /// The answer to our `PING`: all that we wrote before has been taken.
    Pong,
    /// It refuses something.
    Error(String),
    /// It has nothing to say.
    Nothing,
}

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) sid: u64,
    pub(super) subject: Bytes,
    /// Where an answer goes, empty when none is wanted.
    pub(super) reply: Bytes,
    /// The header block, empty when there is none.
    pub(super) headers: Bytes,
    pub(super) payload: Bytes,
}

/// The server does not keep to the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent what is no NATS protocol")]
pub(super) struct Malformed;

/// Takes the next whole word of the server off the front of `buffer`; `None` when more must be read first.
pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Op>, Malformed> {
    let Some(line_length) = find_line_end(buffer)? else { return Ok(None) };
    let line = &buffer[..line_length];
    let (verb, rest) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
    if verb.eq_ignore_ascii_case(b"MSG") || verb.eq_ignore_ascii_case(b"HMSG") {
        let frame = Frame::parse(rest, verb.len() == 4)?;
        return Ok(take_message(buffer, line_length, &frame));
    }
    let op = match &verb.to_ascii_uppercase()[..] {
        b"PING" => Op::Ping,
        b"PONG" => Op::Pong,
        b"+OK" => Op::Nothing,
        b"INFO" => Op::Info(Bytes::copy_from_slice(rest.trim_ascii())),
        b"-ERR" => Op::Error(String::from_utf8_lossy(rest.trim_ascii()).into_owned()),
        _ => return Err(Malformed),
    };
    buffer.advance(line_length + 2);
    Ok(Some(op))
}

/// The lengths that a message's line tells, and where in the line its subject is.
struct Frame {
    sid: u64,
    /// Within the line, counted from the end of the verb.
    subject: Range<usize>,
    reply: Range<usize>,
    headers: usize,
    total: usize,
}

impl Frame {
    fn parse(rest: &[u8], has_headers: bool) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(rest).map_err(|_| Malformed)?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (subject, sid, reply, lengths) = match (&words[..], has_headers) {
            ([subject, sid, total], false) => (subject, sid, "", ["0", total]),
            ([subject, sid, reply, total], false) => (subject, sid, *reply, ["0", total]),
            ([subject, sid, headers, total], true) => (subject, sid, "", [*headers, *total]),
            ([subject, sid, reply, headers, total], true) => (subject, sid, *reply, [*headers, *total]),
            _ => return Err(Malformed),
        };
        let [headers, total] = lengths.map(|length| length.parse::<usize>());
        let (headers, total) = (headers.map_err(|_| Malformed)?, total.map_err(|_| Malformed)?);
        if headers > total || total > MAX_MESSAGE_BYTES {
            return Err(Malformed);
        }
        let place = |word: &str| {
            let start = if word.is_empty() { 0 } else { word.as_ptr() as usize - text.as_ptr() as usize };
            start..start + word.len()
        };
        let sid = sid.parse().map_err(|_| Malformed)?;
        Ok(Self { sid, subject: place(subject), reply: place(reply), headers, total })
    }
}

fn take_message(buffer: &mut BytesMut, line_length: usize, frame: &Frame) -> Option<Op> {
    let whole = line_length + 2 + frame.total + 2;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return None;
    }
    let verb = if frame.headers > 0 || buffer[0].eq_ignore_ascii_case(&b'H') { 4 } else { 3 };
    let whole = buffer.split_to(whole).freeze();
    let [subject, reply] =
        [&frame.subject, &frame.reply].map(|place| whole.slice(verb + place.start..verb + place.end));
    let body = line_length + 2;
    let headers = whole.slice(body..body + frame.headers);
    let payload = whole.slice(body + frame.headers..body + frame.total);
    Some(Op::Message(Heard { sid: frame.sid, subject, reply, headers, payload }))
}

fn find_line_end(buffer: &BytesMut) -> Result<Option<usize>, Malformed> {
    let end = buffer.iter().position(|byte| *byte == b'\n');
    match end {
        Some(0) => Err(Malformed),
        Some(end) if buffer[end - 1] == b'\r' => Ok(Some(end - 1)),
        Some(_) => Err(Malformed),
        None if buffer.len() > MAX_LINE_BYTES => Err(Malformed),
        None => Ok(None),
    }
}

/// The value of a header in a header block, whatever the case of its name.
pub(super) fn header<'a>(headers: &'a [u8], name: &str) -> Option<&'a str> {
    headers.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| std::str::from_utf8(value.trim_ascii()).ok())?
    })
}

/// Writes a subscription.
pub(super) fn subscribe(out: &mut BytesMut, subject: &str, sid: u64) {
    out.extend_from_slice(format!("SUB {subject} {sid}\r\n").as_bytes());
}

/// Writes a subscription of a group of which one gets each message.
pub(super) fn queue_subscribe(out: &mut BytesMut, subject: &str, queue: &str, sid: u64) {
    out.extend_from_slice(format!("SUB {subject} {queue} {sid}\r\n").as_bytes());
}

/// Writes that a subscription ends.
pub(super) fn unsubscribe(out: &mut BytesMut, sid: u64) {
    out.extend_from_slice(format!("UNSUB {sid}\r\n").as_bytes());
}

/// Writes a request whose answer is to come to `reply`.
pub(super) fn publish(out: &mut BytesMut, subject: &str, reply: &str, payload: &[u8]) {
    out.extend_from_slice(format!("PUB {subject} {reply} {}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Writes a message with headers whose answer is to come to `reply`.
pub(super) fn publish_with_headers(
    out: &mut BytesMut,
    (subject, reply): (&str, &str),
    headers: &[(&str, &str)],
    payload: &[u8],
) {
    let lines = headers.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len());
    let headers_length = "NATS/1.0\r\n".len() + lines.sum::<usize>() + "\r\n".len();
    let total = headers_length + payload.len();
    out.extend_from_slice(format!("HPUB {subject} {reply} {headers_length} {total}\r\nNATS/1.0\r\n").as_bytes());
    for (name, value) in headers {
        for piece in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Writes a `PING`.
pub(super) fn ping(out: &mut BytesMut) {
    out.extend_from_slice(b"PING\r\n");
}

/// Answers a `PING`.
pub(super) fn pong(out: &mut BytesMut) {
    out.extend_from_slice(b"PONG\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Op>, Malformed> {
        let (mut buffer, mut ops) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(op) = take(&mut buffer)? {
                ops.push(op);
            }
        }
        assert!(buffer.is_empty());
        Ok(ops)
    }

    const SPOKEN: &[u8] = b"INFO {\"a\":1}\r\nPING\r\nMSG a.b 5 2\r\nhi\r\nMSG a.b 5 reply 0\r\n\r\n+OK\r\n\
        HMSG a.c 6 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n-ERR 'no'\r\nPONG\r\n";

    #[test]
    fn what_comes_in_pieces_is_read_as_a_whole() {
        let heard = |sid, subject, reply, headers, payload| {
            let [subject, reply, headers, payload] =
                [subject, reply, headers, payload].map(|text: &'static str| Bytes::from(text));
            Op::Message(Heard { sid, subject, reply, headers, payload })
        };
        for step in [1, 2, 3, 7, 1_000] {
            let expected = [
                Op::Info("{\"a\":1}".into()),
                Op::Ping,
                heard(5, "a.b", "", "", "hi"),
                heard(5, "a.b", "reply", "", ""),
                Op::Nothing,
                heard(6, "a.c", "", "NATS/1.0\r\nA: b\r\n\r\n", "hi"),
                Op::Error("'no'".into()),
                Op::Pong,
            ];
            assert_eq!(all(SPOKEN, step).unwrap(), expected);
        }
    }

    #[test]
    fn a_header_is_found_by_its_name() {
        let headers = b"NATS/1.0\r\nNats-Sequence: 7\r\nNats-Last-Sequence:5\r\n\r\n";
        assert_eq!(header(headers, "Nats-Sequence"), Some("7"));
        assert_eq!(header(headers, "nats-last-sequence"), Some("5"));
        assert_eq!(header(headers, "Nats"), None);
        assert_eq!(header(b"", "Nats-Sequence"), None);
    }

    #[test]
    fn the_lengths_of_a_message_with_headers_are_right() {
        let mut out = BytesMut::new();
        publish_with_headers(&mut out, ("a.b", "re"), &[("Nats-Msg-Id", "7"), ("x", "yz")], b"hello");
        let written = "HPUB a.b re 35 40\r\nNATS/1.0\r\nNats-Msg-Id: 7\r\nx: yz\r\n\r\nhello\r\n";
        assert_eq!(out, written);
        assert_eq!(written.find("hello").unwrap() - written.find("NATS/").unwrap(), 35);
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut buffer) {}
        }

        #[test]
        fn no_damage_makes_the_parser_panic(at in 0..SPOKEN.len(), byte in any::<u8>()) {
            let mut buffer = BytesMut::from(SPOKEN);
            buffer[at] = byte;
            while let Ok(Some(_)) = take(&mut buffer) {}
        }
    }
}
