//! Ingest: what the log and the directory need beside the edges.
//!
//! | part | what it does |
//! |---|---|
//! | [`history_worker`] | brings every event of the log into history |
//! | [`directory_service`] | carries out the commands that edges send, and tells the log what has changed |
//! | [`orphans`] | removes attachments that nobody finished or sent |
//!
//! It holds nothing that is not in the stores: where one process ends, the next goes on.

pub mod directory_service;
mod error;
pub mod history_worker;
pub mod orphans;

use std::sync::Arc;

use blobs::Blobs;
use directory::Directory;
use history::History;
use log::Log;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use error::{Error, Result};

/// Ingest's part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long an upload may take to be finished, and an attachment to be sent, in seconds. Then it is removed.
    /// Longer than any upload may take.
    pub orphan_seconds: u32,
    /// How often such orphans are looked for, in seconds.
    pub sweep_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { orphan_seconds: 24 * 60 * 60, sweep_seconds: 10 * 60 }
    }
}

/// What ingest works on.
#[derive(Clone)]
pub struct Seams {
    /// Where events come from, and where edges ask.
    pub log: Arc<dyn Log>,
    /// Where events go.
    pub history: Arc<dyn History>,
    /// What edges ask to change.
    pub directory: Arc<dyn Directory>,
    /// Where the bytes of attachments are.
    pub blobs: Arc<dyn Blobs>,
}

/// Runs all of ingest until `shutdown`; what is in hand is then still brought to its end.
///
/// # Errors
/// When a part is broken so that no further attempt can mend it. All parts have ended by then.
pub async fn run(config: Config, seams: Seams, shutdown: CancellationToken) -> Result<()> {
    let mut parts = JoinSet::new();
    // A child, so that the end of one part ends the others and leaves the process to its owner.
    let stop = shutdown.child_token();
    parts.spawn(history_worker::run(seams.log.clone(), seams.history.clone(), stop.clone()));
    parts.spawn(orphans::run(config, seams.directory.clone(), seams.blobs.clone(), stop.clone()));
    parts.spawn(directory_service::run(seams, stop.clone()));
    until_first_error(parts, &stop).await
}

/// Waits for all tasks. The first that fails has the others stopped, and its error is the outcome.
async fn until_first_error(mut tasks: JoinSet<Result<()>>, stop: &CancellationToken) -> Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if ended.is_err() {
            stop.cancel();
            outcome = outcome.and(ended);
        }
    }
    outcome
}

#[cfg(test)]
mod tests;
