//! What a feed is made of: a task with a connection of its own ([`pump`]), the topics that it is to listen to, and a
//! bounded queue from it to the reader ([`outlet`]).

mod outlet;
mod pump;
mod seen;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::outlet::Outlet;
use self::pump::Pump;
use super::connection::{Address, closed, unavailable};
use super::moments::Moments;
use super::reading::Reading;
use crate::{Delivery, Result, Topic};

/// How long a subscription may take. A connection that is lost is made good within this time, or the caller is told.
const SUBSCRIBING: Duration = Duration::from_secs(10);

/// What every feed needs.
pub(super) struct Live {
    pub(super) address: Address,
    pub(super) reading: Arc<Reading>,
    pub(super) moments: Arc<Moments>,
    pub(super) stop: CancellationToken,
}

/// The side of a feed that others reach: the changes of its topics that its task has not made yet, at most one for
/// each topic.
pub(crate) struct Listener {
    changes: Mutex<HashMap<Topic, Change>>,
    changed: Notify,
    stop: CancellationToken,
}

/// What is to become of a topic.
enum Change {
    /// It is to be listened to; these wait until it surely is.
    Subscribe(Vec<oneshot::Sender<()>>),
    /// It is not to be listened to.
    Unsubscribe,
}

/// The side of a feed that reads.
pub(crate) struct Cursor {
    listener: Arc<Listener>,
    outlet: Arc<Outlet>,
    reading: Arc<Reading>,
    moments: Arc<Moments>,
    /// Ends the task.
    _end: DropGuard,
}

impl Live {
    /// A new feed that begins at the end of the log.
    pub(super) async fn open(&self) -> Result<Cursor> {
        let stop = self.stop.child_token();
        let listener = Arc::new(Listener { changes: Mutex::default(), changed: Notify::new(), stop: stop.clone() });
        let outlet = Arc::new(Outlet::default());
        let pump = Pump::open(self, Arc::clone(&listener), Arc::clone(&outlet)).await?;
        drop(tokio::spawn(pump.run()));
        let (reading, moments) = (Arc::clone(&self.reading), Arc::clone(&self.moments));
        Ok(Cursor { listener, outlet, reading, moments, _end: stop.drop_guard() })
    }
}

impl Listener {
    /// See [`crate::Topics::subscribe`].
    pub(crate) async fn subscribe(&self, topic: Topic) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(closed());
        }
        let (done, subscribed) = oneshot::channel();
        {
            let mut changes = self.changes.lock();
            match changes.entry(topic).or_insert(Change::Unsubscribe) {
                Change::Subscribe(waiting) => waiting.push(done),
                change @ Change::Unsubscribe => *change = Change::Subscribe(vec![done]),
            }
        }
        self.changed.notify_one();
        match timeout(SUBSCRIBING, subscribed).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) if self.stop.is_cancelled() => Err(closed()),
            // Another caller has unsubscribed meanwhile.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(unavailable("the server does not confirm a subscription")),
        }
    }

    /// See [`crate::Topics::unsubscribe`].
    pub(crate) fn unsubscribe(&self, topic: Topic) {
        if !self.stop.is_cancelled() {
            self.changes.lock().insert(topic, Change::Unsubscribe);
            self.changed.notify_one();
        }
    }

    /// The changes that are to be made.
    fn take_changes(&self) -> Vec<(Topic, Change)> {
        self.changes.lock().drain().collect()
    }
}

impl Cursor {
    pub(crate) fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }

    /// See [`crate::Feed::next_batch`]. Whoever appended what is taken is told now and not before, so that an edge writes
    /// an acknowledgement together with the event.
    pub(crate) async fn next_batch(&mut self, batch: &mut Vec<Delivery>, limit: usize) -> Result<()> {
        let before = batch.len();
        self.outlet.take(batch, limit.max(1)).await?;
        for delivery in &batch[before..] {
            if let Delivery::Event { entry, .. } = delivery {
                let shard = self.reading.names.shard_of(entry.conversation);
                self.moments.tell(shard, entry.position.seq, entry.at);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}
