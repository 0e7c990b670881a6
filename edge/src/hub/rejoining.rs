//! What connections may have missed of their users' memberships.
//!
//! That a user was added to a group is told by a notice, and notices are not stored: those that were sent while the feed
//! had no connection to the log are lost. So the groups of everybody who is connected are listed anew then, and joined
//! from where the feed stood.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
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
    since: Mutex<Option<Vector>>,
    began: Notify,
}

impl Interruption {
    /// Notices may have been lost since everything up to `position` was handed out.
    pub(super) fn begin(&self, position: Vector) {
        self.since.lock().get_or_insert(position);
        self.began.notify_one();
    }

    /// The place behind which something may be missing.
    pub(super) fn since(&self) -> Option<Vector> {
        self.since.lock().clone()
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
    let Some(since) = hub.interruption.since() else { return };
    look(hub, &since).await;
    tokio::time::sleep(SECOND_LOOK).await;
    // What begins from here on has a look of its own.
    let next = hub.interruption.began.notified();
    look(hub, &since).await;
    if next.now_or_never().is_some() {
        return hub.interruption.began.notify_one();
    }
    *hub.interruption.since.lock() = None;
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
