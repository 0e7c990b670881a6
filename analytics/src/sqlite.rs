//! Analytics on SQLite.
use std::path::Path;
use std::sync::Arc;

use crate::{Analytics, Error, Result};

pub(crate) async fn open(path: &Path) -> Result<Arc<dyn Analytics>> {
    Err(Error::Unavailable(path.display().to_string()))
}
