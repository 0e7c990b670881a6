//! Opens what stands behind the five seams.

mod late;
mod opening;

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, bail};
use futures_util::future::LocalBoxFuture;

use crate::config::Config;

pub use opening::{Openers, open_for};

/// What stands behind the five seams, and the lock on the data folder.
pub struct Stores {
    /// Handles for the roles.
    pub seams: edge::Seams,
    /// Held as long as the stores are open.
    _lock: File,
}

/// Opens every store, at the same time, for a command that works on all of them. Embedded ones are brought to the present schema.
///
/// # Errors
/// When another process uses the data folder, or a store does not open.
pub async fn open(config: &Config) -> anyhow::Result<Stores> {
    let lock = lock(&config.data)?;
    let region = config.edge.region.number;
    let data = config.data.as_path();
    let (log, directory, history, analytics, blobs) = tokio::try_join!(
        boxed(async { log::open(&config.log, data, region).await.context("the log does not open") }),
        boxed(async { directory::open(&config.directory, data).await.context("the directory does not open") }),
        boxed(async { history::open(&config.history, data).await.context("history does not open") }),
        boxed(async { analytics::open(&config.analytics, data).await.context("analytics does not open") }),
        boxed(async { blobs::open(&config.blobs, data).await.context("the blob store does not open") }),
    )?;
    Ok(Stores { seams: edge::Seams { log, directory, history, analytics, blobs, metrics: None }, _lock: lock })
}

/// Brings every store to the present schema, at the same time. Safe to run twice, and from several places at once.
///
/// # Errors
/// When another process uses the data folder, a store cannot be reached, or one is newer than this program.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let _lock = lock(&config.data)?;
    let region = config.edge.region.number;
    let data = config.data.as_path();
    tokio::try_join!(
        boxed(async { log::migrate(&config.log, data, region).await.context("the log does not migrate") }),
        boxed(async { directory::migrate(&config.directory, data).await.context("the directory does not migrate") }),
        boxed(async { history::migrate(&config.history, data).await.context("history does not migrate") }),
        boxed(async { analytics::migrate(&config.analytics, data).await.context("analytics does not migrate") }),
        boxed(async { blobs::migrate(&config.blobs, data).await.context("the blob store does not migrate") }),
    )?;
    Ok(())
}

/// On the heap, for all of them together would be a large future.
fn boxed<'a, T>(future: impl Future<Output = T> + 'a) -> LocalBoxFuture<'a, T> {
    Box::pin(future)
}

/// One process uses a data folder at a time: embedded stores are not made for more. The folder is made when missing.
pub(crate) fn lock(data: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data).with_context(|| format!("{} cannot be made", data.display()))?;
    let path = data.join("rookery.lock");
    let file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another rookery process is using {}", data.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{} cannot be locked", path.display())),
    }
}
