use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::Data as Kind;

use super::*;

const MAX: usize = 1_000;

/// A frame as a client sends it.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Frame::from_payload(
        FrameHeader { is_final, opcode, mask: Some([7, 0, 255, 42]), ..FrameHeader::default() },
        payload.to_vec().into(),
    );
    let mut bytes = Vec::new();
    frame.header_mut().mask = Some([7, 0, 255, 42]);
    frame.format(&mut bytes).unwrap();
    bytes
}

fn text(is_final: bool, payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Data(Kind::Text), is_final, payload)
}

fn more(is_final: bool, payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Data(Kind::Continue), is_final, payload)
}

fn control(kind: Control, payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Control(kind), true, payload)
}

/// What was read, in a form that outlives the buffer.
fn describe(incoming: &Incoming<'_>) -> String {
    match incoming {
        Incoming::Text(text) => format!("text {text}"),
        Incoming::Ping(payload) => format!("ping {}", String::from_utf8_lossy(payload)),
        other => format!("{other:?}"),
    }
}

/// Reads what comes in these pieces, as a connection does.
fn read(pieces: &[&[u8]]) -> Result<Vec<String>, Fault> {
    let mut decoder = Decoder::new(MAX);
    let (mut buffer, mut read) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut used = 0;
        while let Some((size, incoming)) = decoder.decode(&mut buffer[used..])? {
            used += size;
            read.push(describe(&incoming));
        }
        buffer.drain(..used);
    }
    Ok(read)
}

fn message() -> impl Strategy<Value = (String, Vec<Vec<u8>>)> {
    let text_frames = ("\\PC{0,200}", proptest::collection::vec(0..400_usize, 0..4)).prop_map(|(content, cuts)| {
        let bytes = content.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let edges: Vec<usize> = std::iter::once(0).chain(cuts).chain([bytes.len()]).collect();
        let last = edges.len() - 2;
        let frames = edges.windows(2).enumerate().map(|(index, edge)| {
            let payload = &bytes[edge[0]..edge[1]];
            if index == 0 { text(index == last, payload) } else { more(index == last, payload) }
        });
        (format!("text {content}"), frames.collect())
    });
    prop_oneof![
        3 => text_frames,
        1 => "[a-z]{0,125}".prop_map(|payload| (format!("ping {payload}"), vec![control(Control::Ping, payload.as_bytes())])),
        1 => any::<u8>().prop_map(|_| ("Pong".into(), vec![control(Control::Pong, b"")])),
    ]
}

proptest! {
    #[test]
    fn messages_are_read_however_they_are_cut(
        messages in proptest::collection::vec(message(), 0..8),
        cuts in proptest::collection::vec(1..60_usize, 1..20),
    ) {
        let expected: Vec<String> = messages.iter().map(|(text, _)| text.clone()).collect();
        let bytes: Vec<u8> = messages.into_iter().flat_map(|(_, frames)| frames.concat()).collect();
        let mut pieces = Vec::new();
        let (mut rest, mut sizes) = (bytes.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let mut read = read(&pieces).unwrap();
        read.retain(|message| message != "Fragment");
        assert_eq!(read, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
        drop(read(&[&bytes]));
    }
}

#[test]
fn a_control_frame_may_stand_between_fragments() {
    let bytes = [text(false, b"a"), control(Control::Ping, b"p"), more(true, b"b")].concat();
    assert_eq!(read(&[&bytes]).unwrap(), ["Fragment", "ping p", "text ab"]);
}

#[test]
fn a_close_tells_its_code() {
    let closes = |payload: &[u8]| read(&[&control(Control::Close, payload)]);
    assert_eq!(closes(b""), Ok(vec!["Close(None)".into()]));
    assert_eq!(closes(&[0x03, 0xe8, b'b', b'y', b'e']), Ok(vec!["Close(Some(1000))".into()]));
    assert_eq!(closes(&[0x03]), Err(Fault::Protocol), "half a code");
    assert_eq!(closes(&[0x03, 0xed]), Err(Fault::Protocol), "1005 is never sent");
    assert_eq!(closes(&[0x03, 0xe8, 0xff]), Err(Fault::NotUtf8));
}

#[test]
fn what_breaks_the_protocol_is_a_fault() {
    let mut unmasked = Vec::new();
    Frame::message("hi", OpCode::Data(Kind::Text), true).format(&mut unmasked).unwrap();
    let mut reserved = text(true, b"hi");
    reserved[0] |= 0x40;
    let mut unknown = text(true, b"hi");
    unknown[0] = 0x83;
    let big = vec![b'x'; MAX + 1];
    for (name, bytes, fault) in [
        ("an unmasked frame", unmasked, Fault::Protocol),
        ("a reserved bit", reserved, Fault::Protocol),
        ("an unknown opcode", unknown, Fault::Protocol),
        ("a fragment of nothing", more(true, b"hi"), Fault::Protocol),
        ("a message in a message", [text(false, b"a"), text(true, b"b")].concat(), Fault::Protocol),
        ("a ping in pieces", frame(OpCode::Control(Control::Ping), false, b""), Fault::Protocol),
        ("a large ping", control(Control::Ping, &[0; 126]), Fault::Protocol),
        ("a text that is not UTF-8", text(true, &[0xc3, 0x28]), Fault::NotUtf8),
        ("pieces that are not UTF-8", [text(false, &[0xc3]), more(true, b"(")].concat(), Fault::NotUtf8),
        ("a large message", text(true, &big), Fault::TooBig),
        ("a large message in pieces", [text(false, &big[1..]), more(true, b"x")].concat(), Fault::TooBig),
        ("a large message that has only begun", text(true, &big)[..10].to_vec(), Fault::TooBig),
        (
            "a length beyond measure",
            vec![0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            Fault::TooBig,
        ),
    ] {
        assert_eq!(read(&[&bytes]), Err(fault), "{name}");
    }
}

#[test]
fn the_largest_message_is_taken() {
    let bytes = text(true, &vec![b'x'; MAX]);
    assert_eq!(read(&[&bytes]).unwrap().len(), 1);
    assert_eq!(read(&[&frame(OpCode::Data(Kind::Binary), true, &[0xff])]).unwrap(), ["Binary"]);
}
