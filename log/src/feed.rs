//! Live events and notices, as an edge reads them.

use bytes::Bytes;
use types::Entry;

use crate::{Result, Topic};

/// What a feed delivers.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A stored event of a topic. An event of a direct conversation comes once for each of its two users that
    /// is listened to.
    Event {
        /// The topic through which it came.
        topic: Topic,
        /// The event.
        entry: Entry,
    },
    /// An unstored notice.
    Notice {
        /// The topic to which it was sent.
        topic: Topic,
        /// What was sent.
        notice: Bytes,
    },
    /// Something before this point was lost and cannot be made good: whoever listens must start anew from
    /// what it has seen.
    Lost,
}

/// Events and notices of the topics that were subscribed to.
///
/// Of every topic it delivers each event that is stored after `subscribe` has returned, once, in order of
/// `seq` within a shard; a gap on the way is refilled from the log before anything later is delivered. Where
/// that is impossible it delivers [`Delivery::Lost`] and goes on. It holds a bounded amount of memory however
/// slowly it is read. Dropping it ends all its subscriptions.
#[derive(Debug)]
pub struct Feed {}

impl Feed {
    /// Waits until there is something, then moves up to `limit` deliveries into `batch`. Cancel-safe.
    ///
    /// # Errors
    /// When the log was closed or can no longer be read.
    pub async fn next_batch(&mut self, batch: &mut Vec<Delivery>, limit: usize) -> Result<()> {
        unimplemented!("{batch:?} {limit}")
    }

    /// A handle to change the topics with, from any task.
    #[must_use]
    pub fn topics(&self) -> Topics {
        Topics {}
    }
}

/// Changes the topics of a [`Feed`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Topics {}

impl Topics {
    /// From now on, everything of this topic. A second subscription to the same topic changes nothing.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn subscribe(&self, topic: Topic) -> Result<()> {
        unimplemented!("{topic:?}")
    }

    /// Nothing more of this topic; a delivery on its way may still come.
    pub fn unsubscribe(&self, topic: Topic) {
        unimplemented!("{topic:?}")
    }
}
