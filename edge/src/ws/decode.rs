//! The frames that clients send (RFC 6455 §5), read out of a buffer that all connections of a thread share.
//!
//! A library's reader would keep a buffer per connection, for good. Here an idle connection keeps none, and what
//! came whole is unmasked and read where it lies.

use std::borrow::Cow;
use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The largest payload of a control frame, in bytes.
const MAX_CONTROL: usize = 125;

/// Reads frames and joins the fragments of messages.
pub(super) struct Decoder {
    max_bytes: usize,
    /// The fragments so far of a message that came in pieces.
    fragments: Option<Fragments>,
}

struct Fragments {
    is_text: bool,
    bytes: Vec<u8>,
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message; its content is of no use here.
    Binary,
    /// A ping with its payload.
    Ping(&'a [u8]),
    /// An answer to a ping.
    Pong,
    /// The client closes, perhaps with a code.
    Close(Option<u16>),
    /// A fragment that does not yet make a message whole.
    Fragment,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The frames break the protocol.
    Protocol,
    /// A text is not UTF-8.
    NotUtf8,
    /// A message is too large.
    TooBig,
}

impl Decoder {
    /// `max_bytes` is the size of the largest message.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, fragments: None }
    }

    /// Reads the first frame in `input`: how many bytes it took and what it is; `None` while it is not there as a
    /// whole. The bytes that it took are not to be read again.
    pub(super) fn decode<'a>(&mut self, input: &'a mut [u8]) -> Result<Option<(usize, Incoming<'a>)>, Fault> {
        let mut cursor = Cursor::new(&*input);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Fault::Protocol)?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let start = usize::try_from(cursor.position()).map_err(|_| Fault::TooBig)?;
        let length = usize::try_from(length).map_err(|_| Fault::TooBig)?;
        let mask = self.check(&header, length)?;
        let end = start + length;
        let Some(payload) = input.get_mut(start..end) else { return Ok(None) };
        unmask(payload, mask);
        Ok(Some((end, self.read(&header, payload)?)))
    }

    /// Checks what can be known from the header alone, before the payload is waited for. Gives the mask.
    fn check(&self, header: &FrameHeader, length: usize) -> Result<[u8; 4], Fault> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Fault::Protocol);
        }
        if matches!(header.opcode, OpCode::Control(_)) && (!header.is_final || length > MAX_CONTROL) {
            return Err(Fault::Protocol);
        }
        let before = self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.len());
        if length > self.max_bytes.saturating_sub(before) {
            return Err(Fault::TooBig);
        }
        header.mask.ok_or(Fault::Protocol)
    }

    fn read<'a>(&mut self, header: &FrameHeader, payload: &'a [u8]) -> Result<Incoming<'a>, Fault> {
        match header.opcode {
            OpCode::Control(Control::Ping) => Ok(Incoming::Ping(payload)),
            OpCode::Control(Control::Pong) => Ok(Incoming::Pong),
            OpCode::Control(Control::Close) => close(payload),
            OpCode::Data(Data::Continue) => self.go_on(header.is_final, payload),
            OpCode::Data(kind @ (Data::Text | Data::Binary)) => {
                self.begin(kind == Data::Text, header.is_final, payload)
            }
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => Err(Fault::Protocol),
        }
    }

    fn begin<'a>(&mut self, is_text: bool, is_final: bool, payload: &'a [u8]) -> Result<Incoming<'a>, Fault> {
        if self.fragments.is_some() {
            return Err(Fault::Protocol);
        }
        if !is_final {
            self.fragments = Some(Fragments { is_text, bytes: payload.to_vec() });
            return Ok(Incoming::Fragment);
        }
        if !is_text {
            return Ok(Incoming::Binary);
        }
        let text = std::str::from_utf8(payload).map_err(|_| Fault::NotUtf8)?;
        Ok(Incoming::Text(text.into()))
    }

    fn go_on<'a>(&mut self, is_final: bool, payload: &[u8]) -> Result<Incoming<'a>, Fault> {
        let fragments = self.fragments.as_mut().ok_or(Fault::Protocol)?;
        fragments.bytes.extend_from_slice(payload);
        if !is_final {
            return Ok(Incoming::Fragment);
        }
        match self.fragments.take() {
            Some(Fragments { is_text: true, bytes }) => {
                let text = String::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?;
                Ok(Incoming::Text(text.into()))
            }
            _ => Ok(Incoming::Binary),
        }
    }
}

fn close(payload: &[u8]) -> Result<Incoming<'static>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(Incoming::Close(None)) } else { Err(Fault::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(Fault::Protocol);
    }
    std::str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?;
    Ok(Incoming::Close(Some(code)))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask, mask].concat().try_into().unwrap_or_default());
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
