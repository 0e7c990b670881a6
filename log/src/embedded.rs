//! The log on fjall.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use types::Region;

use crate::{Error, Log, Result};

/// How the embedded log behaves.
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    pub(crate) region: Region,
    pub(crate) retention: Duration,
    pub(crate) duplicate_window: Duration,
}

pub(crate) async fn open(options: Options) -> Result<Arc<dyn Log>> {
    let Options { path, region, retention, duplicate_window } = options;
    Err(Error::Unavailable(format!("{} {region} {retention:?} {duplicate_window:?}", path.display())))
}
