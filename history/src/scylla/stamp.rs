//! Numbers as the server keeps them, and the timestamps of writes.
//!
//! Of two writes to a cell the one with the greater timestamp wins, whenever and however often each arrives. Ours
//! are made of the event's `seq`: what the same event writes again is the same write, two processes that store the
//! same events do no harm, and no clock matters.
//!
//! The log's epoch is not part of it. Epochs are random and have no order; and a place in a conversation that one
//! log has filled is never filled by another, for such an event is refused. So a log that is made anew after a loss
//! has to go on at a higher `seq`, and its writes win because they are later.

use scylla::value::CqlTimestamp;
use types::Timestamp;

use crate::{Error, Result};

/// From here on downwards stamps of the first that wins are counted. It lies in the past, taken as microseconds since
/// 1970, for some servers refuse what is stamped with the future; and it is more events than a log will ever have.
const FIRST_STAMP: i64 = 1_000_000_000_000_000;

/// Ten days.
const BUCKET_MILLIS: i64 = 10 * 24 * 60 * 60 * 1_000;

/// For what the last event decides: the tail, an edit, a read mark.
pub(super) fn last_wins(seq: u64) -> i64 {
    number(seq)
}

/// For what the first event decides: whose an id is, when a message was deleted.
pub(super) fn first_wins(seq: u64) -> i64 {
    FIRST_STAMP.saturating_sub(number(seq))
}

/// A `seq` as a `bigint`.
pub(super) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A `bigint` as a `seq`.
pub(super) fn seq(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| Error::Damaged(format!("a place is {number}")))
}

pub(super) fn to_cql(at: Timestamp) -> CqlTimestamp {
    CqlTimestamp(at.as_millis())
}

pub(super) fn from_cql(at: CqlTimestamp) -> Timestamp {
    Timestamp::from_millis(at.0)
}

/// A stretch of ten days, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bucket(pub(super) i32);

impl Bucket {
    pub(super) const FIRST: Self = Self(0);
    pub(super) const LAST: Self = Self(i32::MAX);

    pub(super) fn of(at: Timestamp) -> Self {
        Self(i32::try_from(at.as_millis() / BUCKET_MILLIS).unwrap_or(i32::MAX))
    }

    /// The bucket of an event that was stored `at`, behind an event in the bucket `before`. Buckets never fall as `seq`
    /// grows, though times may: another machine, whose clock is behind, goes on with the log. So the order of buckets is
    /// the order of events, and where an event lies depends on nothing but the events before it, whoever stores it and
    /// however often.
    pub(super) fn follow(before: Option<Self>, at: Timestamp) -> Self {
        before.unwrap_or(Self::FIRST).max(Self::of(at))
    }
}
