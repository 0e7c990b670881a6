//! What connections may have missed of their users' memberships.
//!
//! That a user was added to a group is told by a notice, and notices are not stored: those that were sent while the feed
//! had no connection to the log are lost. So the groups of everybody who is connected are listed anew then, and joined
//! from where the feed stood.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::{GroupId, UserId, Vector};

use super::Hub;
use super::outbox::Join;

/// Users whose groups are listed at the same time.
const AT_ONCE: usize = 8;
/// How long after the first look the second one is: a copy of the directory that is read from may lag.
const SECOND_LOOK: Duration = Duration::from_secs(10);
/// The pause before a look is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Up to where connections are sure to have been told of everything, while that is not yet seen to.
#[derive(Default)]
pub(super) struct Interruption {
    unseen: Mutex<Unseen>,
    began: Notify,
}

/// What is not yet seen to.
#[derive(Default)]
struct Unseen {
    since: Option<Vector>,
    /// How often notices may have been lost.
    interruptions: u64,
}

impl Interruption {
    /// Notices may have been lost since everything up to `position` was handed out.
    pub(super) fn begin(&self, position: Vector) {
        let mut unseen = self.unseen.lock();
        unseen.since.get_or_insert(position);
        unseen.interruptions += 1;
        drop(unseen);
        self.began.notify_one();
    }

    /// The place behind which something may be missing.
    pub(super) fn since(&self) -> Option<Vector> {
        self.unseen.lock().since.clone()
    }

    /// How often notices may have been lost so far.
    fn count(&self) -> u64 {
        self.unseen.lock().interruptions
    }

    /// All is seen to, unless more interruptions than these have begun: they have looks of their own, and until those are
    /// done the place stays where it is.
    fn end(&self, interruptions: u64) {
        let mut unseen = self.unseen.lock();
        if unseen.interruptions == interruptions {
            unseen.since = None;
        }
    }
}

/// Joins what was missed, whenever notices may have been lost, until `shutdown`.
pub(super) async fn run(hub: Arc<Hub>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(hub.interruption.began.notified()).await.is_some() {
        if shutdown.run_until_cancelled(look_twice(&hub)).await.is_none() {
            return;
        }
    }
}

async fn look_twice(hub: &Hub) {
    // First: what begins from here on has notified, and so is looked for again after this.
    let count = hub.interruption.count();
    let Some(since) = hub.interruption.since() else { return };
    look(hub, &since).await;
    tokio::time::sleep(SECOND_LOOK).await;
    look(hub, &since).await;
    hub.interruption.end(count);
}

/// Lists the groups of everybody who is connected.
async fn look(hub: &Hub, since: &Vector) {
    let mut users: Vec<UserId> = hub.rooms.all().iter().map(|connection| connection.user).collect();
    users.sort_unstable();
    users.dedup();
    stream::iter(users).for_each_concurrent(AT_ONCE, |user| look_for(hub, since, user)).await;
}

async fn look_for(hub: &Hub, since: &Vector, user: UserId) {
    while !hub.rooms.of_user(user).is_empty() {
        match hub.directory.groups_of(user).await {
            Ok(groups) => return groups.into_iter().for_each(|group| hub.join_if_missed(user, group, since)),
            Err(error) => {
                tracing::debug!(%error, "the groups of a user cannot be listed; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Hub {
    /// Has those of the user's connections join the group that are not in it.
    fn join_if_missed(&self, user: UserId, group: GroupId, since: &Vector) {
        let shard = self.progress.shard_of(group.into());
        let Some(after_seq) = since.seqs.get(shard).copied() else { return };
        let room = self.rooms.find(log::Topic::Group(group));
        for connection in self.rooms.of_user(user) {
            if !room.as_ref().is_some_and(|room| room.holds(&connection)) {
                connection.outbox.ask_to_join(Join { group, after_seq: Some(after_seq) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use types::Epoch;

    use super::*;

    fn place(seq: u64) -> Vector {
        Vector { epoch: Epoch::new(7), seqs: vec![seq] }
    }

    #[test]
    fn an_interruption_that_begins_while_another_is_seen_to_is_not_forgotten() {
        let interruption = Interruption::default();
        interruption.begin(place(5));
        let first = interruption.count();
        interruption.begin(place(9));
        interruption.end(first);
        assert_eq!(interruption.since(), Some(place(5)), "only the first is seen to");
        interruption.end(interruption.count());
        assert_eq!(interruption.since(), None);
    }
}
