//! What the server writes into the headers of a message.

use async_nats::HeaderMap;
use types::{Epoch, Position, Timestamp, TraceContext};

/// The id by which a repetition is known.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The subject under which a message is stored.
pub(super) const SUBJECT: &str = "Nats-Subject";
/// Its `seq`.
pub(super) const SEQUENCE: &str = "Nats-Sequence";
/// In a live copy, the `seq` of the message before it in the same subject.
pub(super) const LAST_SEQUENCE: &str = "Nats-Last-Sequence";
/// When it was stored.
pub(super) const TIME: &str = "Nats-Time-Stamp";
/// In the end of a batch, how many messages were left out.
pub(super) const PENDING: &str = "Nats-Num-Pending";
/// The span that appended a message.
pub(super) const TRACE: &str = "traceparent";
/// The last `seq` that a writer expects in a subject.
pub(super) const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";

/// Where and when a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) position: Position,
    pub(super) at: Timestamp,
}

/// The text of a header.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(async_nats::HeaderValue::as_str)
}

/// A header that is a number.
pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// The span that appended the message that these headers came with, if its trace is recorded.
pub(super) fn trace(headers: Option<&HeaderMap>) -> Option<TraceContext> {
    text(headers?, TRACE)?.parse().ok()
}

/// Where and when the message was stored that these headers came with.
pub(super) fn stored(headers: &HeaderMap, epoch: Epoch) -> Option<Stored> {
    let (seq, at) = (number(headers, SEQUENCE)?, text(headers, TIME)?.parse().ok()?);
    Some(Stored { position: Position { epoch, seq }, at })
}
