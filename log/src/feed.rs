//! Live events and notices, as an edge reads them.

use std::sync::Arc;

use bytes::Bytes;
use types::Entry;

use crate::{Result, Topic, embedded, jetstream};

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
    /// Notices that were sent before this point may have been lost; events were not.
    Interrupted,
    /// Something before this point was lost and cannot be made good: whoever listens must start anew from
    /// what it has seen.
    Lost,
}

/// Events and notices of the topics that were subscribed to.
///
/// Of every topic it delivers each event that is stored after `subscribe` has returned, once, in order of
/// `seq` within a shard; a gap on the way is refilled from the log before anything later is delivered. Where
/// that is impossible it delivers [`Delivery::Lost`] and goes on. It holds a bounded amount of memory however
/// slowly it is read. Of notices it may miss some, which it says by [`Delivery::Interrupted`]. Dropping it ends all its
/// subscriptions.
#[derive(Debug)]
pub struct Feed {
    source: Source,
}

/// Where the deliveries come from.
#[derive(Debug)]
enum Source {
    Embedded(embedded::Cursor),
    JetStream(jetstream::Cursor),
}

impl Feed {
    pub(crate) fn embedded(cursor: embedded::Cursor) -> Self {
        Self { source: Source::Embedded(cursor) }
    }

    pub(crate) fn jetstream(cursor: jetstream::Cursor) -> Self {
        Self { source: Source::JetStream(cursor) }
    }

    /// Waits until there is something, then moves up to `limit` deliveries to the end of `batch`. Cancel-safe.
    ///
    /// # Errors
    /// When the log was closed or can no longer be read.
    pub async fn next_batch(&mut self, batch: &mut Vec<Delivery>, limit: usize) -> Result<()> {
        match &mut self.source {
            Source::Embedded(cursor) => cursor.next_batch(batch, limit).await,
            Source::JetStream(cursor) => cursor.next_batch(batch, limit).await,
        }
    }

    /// A handle to change the topics with, from any task.
    #[must_use]
    pub fn topics(&self) -> Topics {
        match &self.source {
            Source::Embedded(cursor) => Topics { target: Target::Embedded(cursor.listener()) },
            Source::JetStream(cursor) => Topics { target: Target::JetStream(cursor.listener()) },
        }
    }
}

/// Changes the topics of a [`Feed`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Topics {
    target: Target,
}

/// Whose topics they are.
#[derive(Clone, Debug)]
enum Target {
    Embedded(Arc<embedded::Listener>),
    JetStream(Arc<jetstream::Listener>),
}

impl Topics {
    /// From now on, everything of this topic. A second subscription to the same topic changes nothing.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn subscribe(&self, topic: Topic) -> Result<()> {
        match &self.target {
            Target::Embedded(listener) => {
                listener.subscribe(topic);
                Ok(())
            }
            Target::JetStream(listener) => listener.subscribe(topic).await,
        }
    }

    /// Nothing more of this topic; a delivery on its way may still come.
    pub fn unsubscribe(&self, topic: Topic) {
        match &self.target {
            Target::Embedded(listener) => listener.unsubscribe(&topic),
            Target::JetStream(listener) => listener.unsubscribe(topic),
        }
    }
}
