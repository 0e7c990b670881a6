//! The directory on SQLite.
use std::path::Path;
use std::sync::Arc;

use crate::{Directory, Error, Result};

pub(crate) async fn open(path: &Path) -> Result<Arc<dyn Directory>> {
    Err(Error::Unavailable(path.display().to_string()))
}
