//! Blobs in a folder.
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Blobs, Error, Result};

pub(crate) async fn open(path: PathBuf) -> Result<Arc<dyn Blobs>> {
    Err(Error::Unavailable(path.display().to_string()))
}
