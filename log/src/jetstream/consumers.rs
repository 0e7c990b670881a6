//! Durable readers: one consumer on the server for each role and shard, read by one process at a time.
//!
//! | part | what it does |
//! |---|---|
//! | [`sharing`] | takes and gives back leases, so that the processes of a role share its shards |
//! | [`slot`] | what a process knows of one shard: what was given, what waits to be given |
//! | [`puller`] | brings events of a shard that is held from the server to the slot |

mod puller;
mod sharing;
mod slot;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::Entry;

use self::slot::{Slot, Taken};
use super::connection::{Connection, closed, unavailable};
use super::leases::Leases;
use super::progress::Progress;
use super::reading::Reading;
use crate::{Consumer, Error, Result};

/// All roles that this process has.
pub(super) struct Consumers {
    parts: Parts,
    groups: Mutex<HashMap<&'static str, Arc<Group>>>,
    /// Ends when the log closes.
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What reading needs.
#[derive(Clone)]
struct Parts {
    connection: Connection,
    reading: Arc<Reading>,
    leases: Arc<Leases>,
    progress: Arc<Progress>,
}

/// One role.
struct Group {
    name: &'static str,
    slots: Vec<Arc<Slot>>,
    /// Somebody waits for a shard that is not held.
    asked: Notify,
}

impl Consumers {
    pub(super) fn new(
        connection: Connection,
        reading: Arc<Reading>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Self {
        let leases = Arc::new(Leases::new(Arc::clone(&reading)));
        let parts = Parts { connection, reading, leases, progress };
        Self { parts, groups: Mutex::default(), stop, tasks: TaskTracker::new() }
    }

    /// See [`crate::Log::fetch`].
    pub(super) async fn fetch(&self, consumer: Consumer, limit: usize) -> Result<Vec<Entry>> {
        let group = self.join(consumer.group)?;
        let slot = &group.slots[usize::from(consumer.shard)];
        let _waiting = slot.wait();
        if slot.revision().is_none() {
            group.asked.notify_one();
        }
        loop {
            let changed = slot.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match slot.take(limit.max(1)) {
                Taken::Entries(entries) => return Ok(entries),
                Taken::Nothing => {}
                Taken::Lost => return Err(Error::Unavailable("another process reads this shard now".into())),
            }
            tokio::select! {
                () = changed => {}
                () = self.stop.cancelled() => return Err(closed()),
            }
        }
    }

    /// See [`crate::Log::ack`].
    pub(super) async fn ack(&self, consumer: Consumer, seq: u64) -> Result<()> {
        let Parts { reading, progress, connection, .. } = &self.parts;
        let is_stored = seq <= reading.known_end(consumer.shard) || seq <= reading.end(consumer.shard).await?;
        if !is_stored || seq <= reading.base {
            return Err(Error::Refused(format!("{seq} is not stored, it cannot be acknowledged")));
        }
        let group = self.join(consumer.group)?;
        let slot = &group.slots[usize::from(consumer.shard)];
        let Some(reply) = slot.place_of_ack(seq)? else { return Ok(()) };
        match reply {
            Some(reply) => drop(connection.client.request(reply, "+ACK".into()).await.map_err(unavailable)?),
            // It was given before a `resume` and has not come again.
            None => slot.skip_to(connection, reading, consumer, seq).await?,
        }
        slot.acknowledged(seq);
        progress.tell(consumer, seq);
        Ok(())
    }

    /// See [`crate::Log::resume`].
    pub(super) fn resume(&self, consumer: Consumer) {
        let group = self.groups.lock().get(consumer.group).cloned();
        if let Some(group) = group {
            group.slots[usize::from(consumer.shard)].rewind();
        }
    }

    /// Gives all shards back and ends all fetches.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The role; the first who asks for it makes this process a member.
    fn join(&self, name: &'static str) -> Result<Arc<Group>> {
        if self.stop.is_cancelled() {
            return Err(closed());
        }
        let mut groups = self.groups.lock();
        if let Some(group) = groups.get(name) {
            return Ok(Arc::clone(group));
        }
        let shards = 0..self.parts.reading.names.shards;
        let slots = shards.map(|_| Arc::new(Slot::default())).collect();
        let group = Arc::new(Group { name, slots, asked: Notify::new() });
        groups.insert(name, Arc::clone(&group));
        self.tasks.spawn(sharing::run(self.parts.clone(), Arc::clone(&group), self.stop.clone()));
        Ok(group)
    }
}
