//! Removes what nobody wants: uploads that were not finished, attachments that were not sent, or whose messages are
//! all deleted.
//!
//! The directory gives them up first, in one transaction, so that none can be sent meanwhile; then their bytes are
//! removed, and only then are they forgotten. So whatever crashes when, nothing is left, and nothing is removed that
//! somebody can still see. Several processes may do this at once.

use std::sync::Arc;
use std::time::Duration;

use blobs::Blobs;
use directory::{Command, Directory};
use futures_util::{StreamExt, stream};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use types::{AttachmentId, Timestamp};

use crate::{Config, Result};

/// Blobs that are removed before they are forgotten.
const BATCH: usize = 100;
/// Blobs that are removed at the same time.
const AT_ONCE: usize = 8;
/// Batches of one sweep; the next one goes on.
const MAX_BATCHES: usize = 100;

/// Sweeps now and then until `shutdown`. A sweep that fails is tried again at its next time.
///
/// # Errors
/// Never: a store that is down comes back.
pub async fn run(
    config: Config,
    directory: Arc<dyn Directory>,
    blobs: Arc<dyn Blobs>,
    shutdown: CancellationToken,
) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(config.sweep_seconds.max(1).into()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut after = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let before = Timestamp::now().minus(Duration::from_secs(config.orphan_seconds.into()));
        let sweep = sweep(&*directory, &*blobs, before, &mut after);
        tokio::select! {
            // Given up between two steps it is gone on with by the next process.
            () = shutdown.cancelled() => return Ok(()),
            removed = sweep => match removed {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "orphaned attachments were removed"),
                Err(error) => tracing::warn!(%error, "orphaned attachments could not be removed"),
            },
        }
    }
}

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Directory(#[from] directory::Error),
    #[error("the blob {id} stays, as do {others} others: {error}")]
    Blob { id: AttachmentId, others: usize, error: blobs::Error },
}

/// Removes what has been an orphan since before a moment, and gives how many blobs that were.
///
/// A blob that cannot be removed holds up no other: it is tried again once all behind it were. So `after` is kept from
/// one sweep to the next, which goes on there, for a sweep ends when nothing of a batch could be removed: the store may
/// be down.
async fn sweep(
    directory: &dyn Directory,
    blobs: &dyn Blobs,
    before: Timestamp,
    after: &mut Option<AttachmentId>,
) -> std::result::Result<usize, Failure> {
    let (mut removed, mut failures) = (0, Vec::new());
    for _ in 0..MAX_BATCHES {
        // Never refused.
        directory.execute(&Command::CondemnOrphans { before }).await?.ok();
        let condemned = directory.condemned(*after, BATCH).await?;
        *after = condemned.last().copied();
        if condemned.is_empty() {
            break;
        }
        let (gone, failed) = remove(blobs, condemned).await;
        failures.extend(failed);
        if gone.is_empty() {
            break;
        }
        removed += gone.len();
        directory.execute(&Command::ForgetCondemned { blobs: gone }).await?.ok();
    }
    let others = failures.len().saturating_sub(1);
    failures.into_iter().next().map_or(Ok(removed), |(id, error)| Err(Failure::Blob { id, others, error }))
}

/// Removes blobs. Gives those that are gone, and why others are not.
async fn remove(
    blobs: &dyn Blobs,
    condemned: Vec<AttachmentId>,
) -> (Vec<AttachmentId>, Vec<(AttachmentId, blobs::Error)>) {
    let removals = stream::iter(condemned).map(async |id| (id, blobs.delete(id).await)).buffer_unordered(AT_ONCE);
    let (mut gone, mut failed) = (Vec::new(), Vec::new());
    for (id, outcome) in removals.collect::<Vec<_>>().await {
        match outcome {
            Ok(()) => gone.push(id),
            Err(error) => failed.push((id, error)),
        }
    }
    (gone, failed)
}

#[cfg(test)]
mod tests;
