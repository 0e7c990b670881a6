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
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use types::Timestamp;

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
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let before = Timestamp::now().minus(Duration::from_secs(config.orphan_seconds.into()));
        let sweep = sweep(&*directory, &*blobs, before);
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
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
}

/// Removes what has been an orphan since before a moment, and gives how many blobs that were.
async fn sweep(directory: &dyn Directory, blobs: &dyn Blobs, before: Timestamp) -> std::result::Result<usize, Failure> {
    let mut removed = 0;
    for _ in 0..MAX_BATCHES {
        // Never refused.
        directory.execute(&Command::CondemnOrphans { before }).await?.ok();
        let condemned = directory.condemned(BATCH).await?;
        if condemned.is_empty() {
            break;
        }
        let removals = stream::iter(condemned.clone()).map(|id| blobs.delete(id)).buffer_unordered(AT_ONCE);
        removals.try_collect::<()>().await?;
        removed += condemned.len();
        directory.execute(&Command::ForgetCondemned { blobs: condemned }).await?.ok();
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
