//! An event as the log has stored it.

use bytes::Bytes;

use crate::{ConversationId, Position, Timestamp, TraceContext};

/// An event with its place in the log. The payload is the event's JSON exactly as it was appended: it is
/// passed on by splicing its bytes and is never encoded again, so fields that this program does not know
/// are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it happened.
    pub conversation: ConversationId,
    /// Its place: `seq` grows within a shard of the log, and so within a conversation, but not by one.
    pub position: Position,
    /// The `seq` of the event before it in the same conversation, 0 when there is none.
    pub prev: u64,
    /// When the log stored it.
    pub at: Timestamp,
    /// The JSON of an [`crate::Event`].
    pub payload: Bytes,
    /// The span that appended it, if its trace is recorded. The log carries it; history does not keep it.
    pub trace: Option<TraceContext>,
}
