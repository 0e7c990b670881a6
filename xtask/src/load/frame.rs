//! WebSocket frames (RFC 6455), as much as a load client needs: finding the server's in the bytes that were read,
//! without a copy, and making the client's.

/// A text frame.
pub(super) const TEXT: u8 = 1;
/// The end.
pub(super) const CLOSE: u8 = 8;
/// To be answered with a [`PONG`] of the same payload.
pub(super) const PING: u8 = 9;
/// The answer to a [`PING`].
pub(super) const PONG: u8 = 10;

/// First bit of a frame: it is the message's last.
const FIN: u8 = 0x80;
/// First bit of the length: a mask follows it.
const MASKED: u8 = 0x80;
/// What the client's frames are masked with. RFC 6455 wants it unpredictable for the sake of proxies in between;
/// here there are none, and the server's work is the same.
const MASK: [u8; 4] = [0x5c, 0xa3, 0x19, 0xe6];

/// A whole frame of the server's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
    /// The frame's length, its header included.
    pub(super) length: usize,
}

/// A frame that a server must not send, or one that this client does not read: masked, or in pieces.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) struct Unreadable;

/// The frame at the start of the bytes; `None` when not all of it is there yet.
#[inline]
pub(super) fn first(bytes: &[u8]) -> Result<Option<Frame<'_>>, Unreadable> {
    let [start, length, rest @ ..] = bytes else { return Ok(None) };
    if start & FIN == 0 || length & MASKED != 0 {
        return Err(Unreadable);
    }
    let (header, length) = match (length, rest) {
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, [0, 0, 0, 0, a, b, c, d, ..]) => (10, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        (127, [_, _, _, _, _, _, _, _, ..]) => return Err(Unreadable),
        (126 | 127, _) => return Ok(None),
        (length, _) => (2, usize::from(*length)),
    };
    let Some(payload) = bytes.get(header..header + length) else { return Ok(None) };
    Ok(Some(Frame { opcode: start & 0x0f, payload, length: header + length }))
}

/// Why a connection was closed: the code and the words in a [`CLOSE`] frame's payload.
pub(super) fn reason(payload: &[u8]) -> String {
    let [a, b, words @ ..] = payload else { return "no reason".into() };
    format!("{} {}", u16::from_be_bytes([*a, *b]), String::from_utf8_lossy(words))
}

/// Appends a frame of the client's, which is masked. At most 65,535 bytes of payload.
pub(super) fn push(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(FIN | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => out.push(MASKED | length),
        (_, Ok(length)) => {
            out.push(MASKED | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => unreachable!("the client sends short messages"),
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![FIN | TEXT];
        match payload.len() {
            length @ 0..126 => bytes.push(u8::try_from(length).unwrap()),
            length @ 126..65536 => {
                bytes.push(126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn frames_of_every_length_are_found_one_after_the_other() {
        for length in [0, 1, 125, 126, 300, 65_535, 65_536, 100_000] {
            let payload = vec![b'x'; length];
            let mut bytes = served(&payload);
            bytes.extend(served(b"next"));
            let frame = first(&bytes).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload), (TEXT, &payload[..]));
            assert_eq!(first(&bytes[frame.length..]).unwrap().unwrap().payload, b"next");
        }
    }

    #[test]
    fn a_frame_that_is_not_all_there_is_waited_for() {
        for length in [5, 126, 65_536] {
            let bytes = served(&vec![b'x'; length]);
            assert!((0..bytes.len()).step_by(7).all(|cut| first(&bytes[..cut]) == Ok(None)));
        }
    }

    #[test]
    fn a_frame_in_pieces_or_masked_is_refused() {
        assert_eq!(first(&[TEXT, 1, b'x']), Err(Unreadable));
        assert_eq!(first(&[FIN | TEXT, MASKED | 1, 0, 0, 0, 0, b'x']), Err(Unreadable));
    }

    #[test]
    fn a_close_tells_its_code_and_words() {
        assert_eq!(reason(&[0x11, 0x38, b'n', b'o']), "4408 no");
        assert_eq!(reason(&[]), "no reason");
    }

    #[test]
    fn the_clients_frames_are_masked() {
        for length in [5_usize, 126, 400] {
            let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
            let mut out = Vec::new();
            push(&mut out, TEXT, &payload);
            let header = if length < 126 { 2 } else { 4 };
            assert_eq!(out[1] & MASKED, MASKED);
            let (mask, masked) = out[header..].split_at(4);
            let read: Vec<u8> = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(read, payload);
        }
    }
}
