//! Takes and gives back leases, so that the processes of a role share its shards evenly.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::puller::Puller;
use super::{Group, Parts};
use crate::jetstream::connection::unavailable;
use crate::jetstream::leases::{RELIANCE, RENEWAL, Table, is_given_back};
use crate::{Consumer, Result};

/// How long giving everything back may take.
const LEAVING: Duration = Duration::from_secs(2);

/// One role of this process.
struct Sharing {
    parts: Parts,
    group: Arc<Group>,
    /// What ends the puller of each shard that is held.
    pullers: HashMap<u16, CancellationToken>,
    /// Whether the others know of this process.
    is_member: bool,
}

/// Shares the role's shards with others until `stop`, then gives them back.
pub(super) async fn run(parts: Parts, group: Arc<Group>, stop: CancellationToken) {
    let mut sharing = Sharing { parts, group, pullers: HashMap::new(), is_member: false };
    stop.run_until_cancelled(sharing.follow()).await;
    // Later the leases end by themselves.
    drop(timeout(LEAVING, sharing.leave()).await);
}

impl Sharing {
    async fn follow(&mut self) {
        let mut changes = None;
        let mut is_failing = false;
        loop {
            let outcome = self.round().await;
            self.drop_what_ran_out();
            match outcome {
                Ok(()) => is_failing = false,
                Err(error) if is_failing => tracing::debug!(group = self.group.name, %error, "still no leases"),
                Err(error) => {
                    is_failing = true;
                    tracing::warn!(group = self.group.name, %error, "leases cannot be kept; trying again");
                }
            }
            if changes.is_none() {
                changes = self.watch().await.ok();
            }
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                () = given_back(&mut changes) => {}
                () = self.group.asked.notified() => {}
            }
        }
    }

    /// Every change of a lease of the role.
    async fn watch(&self) -> Result<Subscriber> {
        let subject = self.parts.reading.names.readers_key(&format!("lease.{}.*", self.group.name));
        self.parts.connection.client.subscribe(subject).await.map_err(unavailable)
    }

    /// Keeps what is held, and takes or gives back what is due.
    async fn round(&mut self) -> Result<()> {
        if !self.group.slots.iter().any(|slot| slot.is_wanted()) {
            if self.is_member {
                self.leave().await;
            }
            return Ok(());
        }
        self.parts.leases.join(self.group.name).await?;
        self.is_member = true;
        self.keep().await;
        let table = self.parts.leases.table(self.group.name).await?;
        // A replica that lags behind may not know of this process yet.
        let members = table.members.iter().filter(|member| **member != self.parts.leases.me).count() + 1;
        let share = self.group.slots.len().div_ceil(members);
        self.give_back_beyond(share).await;
        self.take_up_to(share, &table).await;
        Ok(())
    }

    /// Writes every lease again.
    async fn keep(&mut self) {
        let (leases, group) = (&self.parts.leases, &self.group);
        let held = self.held();
        let renewals = held.iter().map(|(shard, revision)| async move {
            let until = Instant::now() + RELIANCE;
            (*shard, until, leases.take(group.name, *shard, *revision).await)
        });
        for (shard, until, renewed) in join_all(renewals).await {
            match renewed {
                Ok(Some(revision)) => self.group.slots[usize::from(shard)].hold(revision, until),
                Ok(None) => {
                    tracing::warn!(group = self.group.name, shard, "another process has taken a shard");
                    self.let_go(shard);
                }
                // It is relied on until it runs out.
                Err(error) => tracing::debug!(group = self.group.name, shard, %error, "a lease was not kept"),
            }
        }
    }

    fn held(&self) -> Vec<(u16, u64)> {
        (0..).zip(&self.group.slots).filter_map(|(shard, slot)| Some((shard, slot.revision()?))).collect()
    }

    async fn give_back_beyond(&mut self, share: usize) {
        let held = self.held();
        let (unwanted, wanted): (Vec<u16>, Vec<u16>) =
            held.iter().map(|(shard, _)| *shard).partition(|shard| !self.group.slots[usize::from(*shard)].is_wanted());
        for shard in unwanted.into_iter().chain(wanted.into_iter().skip(share)) {
            self.give_back(shard).await;
        }
    }

    async fn take_up_to(&mut self, share: usize, table: &Table) {
        let count = self.group.slots.len();
        // Each process begins elsewhere, so that they seldom want the same.
        let start = usize::try_from(RandomState::new().hash_one(&self.parts.leases.me) % 4_096).unwrap_or(0);
        for index in (0..count).map(|index| (start + index) % count) {
            if self.held().len() >= share {
                return;
            }
            let Ok(shard) = u16::try_from(index) else { return };
            let slot = &self.group.slots[index];
            let free_at = match table.leases.get(&shard) {
                None => Some(0),
                Some((owner, revision)) => {
                    owner.as_ref().is_none_or(|owner| *owner == self.parts.leases.me).then_some(*revision)
                }
            };
            if let Some(revision) = free_at
                && slot.revision().is_none()
                && slot.is_wanted()
            {
                self.take(shard, revision).await;
            }
        }
    }

    async fn take(&mut self, shard: u16, revision: u64) {
        let until = Instant::now() + RELIANCE;
        let Ok(Some(revision)) = self.parts.leases.take(self.group.name, shard, revision).await else { return };
        tracing::info!(group = self.group.name, shard, "this process reads a shard");
        let slot = Arc::clone(&self.group.slots[usize::from(shard)]);
        slot.hold(revision, until);
        let consumer = Consumer { group: self.group.name, shard };
        let puller = Puller { parts: self.parts.clone(), consumer, slot };
        let stop = CancellationToken::new();
        self.pullers.insert(shard, stop.clone());
        drop(tokio::spawn(async move { stop.run_until_cancelled(puller.run()).await }));
    }

    async fn give_back(&mut self, shard: u16) {
        let Some(revision) = self.let_go(shard) else { return };
        if let Err(error) = self.parts.leases.give_back(self.group.name, shard, revision).await {
            tracing::debug!(group = self.group.name, shard, %error, "a lease was not given back and ends by itself");
        }
    }

    /// Stops reading a shard. Gives the revision of its lease.
    fn let_go(&mut self, shard: u16) -> Option<u64> {
        if let Some(stop) = self.pullers.remove(&shard) {
            stop.cancel();
        }
        self.group.slots[usize::from(shard)].let_go()
    }

    fn drop_what_ran_out(&mut self) {
        for shard in (0..)
            .zip(&self.group.slots)
            .filter_map(|(shard, slot)| slot.has_run_out().then_some(shard))
            .collect::<Vec<u16>>()
        {
            tracing::warn!(group = self.group.name, shard, "a lease ran out");
            self.let_go(shard);
        }
    }

    async fn leave(&mut self) {
        for (shard, _) in self.held() {
            self.give_back(shard).await;
        }
        if std::mem::take(&mut self.is_member)
            && let Err(error) = self.parts.leases.leave(self.group.name).await
        {
            tracing::debug!(group = self.group.name, %error, "others learn later that this process is gone");
        }
    }
}

impl Drop for Sharing {
    #[expect(clippy::iter_over_hash_type, reason = "they end in any order")]
    fn drop(&mut self) {
        for stop in self.pullers.values() {
            stop.cancel();
        }
    }
}

/// Waits until somebody gives a shard back.
async fn given_back(changes: &mut Option<Subscriber>) {
    let Some(subscriber) = changes else { return std::future::pending().await };
    while let Some(change) = subscriber.next().await {
        if is_given_back(&change) {
            return;
        }
    }
    *changes = None;
}
