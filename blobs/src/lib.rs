//! Blobs: the bytes of attachments. What they are and who may read them is the directory's to know.
//!
//! Embedded: files in a folder. Every implementation passes the suite in `contract.rs`.

#[cfg(test)]
mod contract;
mod folder;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use types::AttachmentId;

/// Which blob store, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// Files in a folder on the local disk.
    Folder {
        /// The folder; made when missing. Relative to the data folder.
        path: PathBuf,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self::Folder { path: "blobs".into() }
    }
}

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be stored or read now; the same call may succeed later.
    #[error("the blob store is unavailable: {0}")]
    Unavailable(String),
    /// The sender's stream broke off or was longer than allowed. Nothing was stored.
    #[error("the upload was not taken: {0}")]
    Refused(String),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Bytes that come in pieces. An error in the stream ends it: nothing is stored.
pub type Stream = BoxStream<'static, std::io::Result<Bytes>>;

/// The bytes of attachments. Cheap to share; every method may be called from many tasks at once.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Stores a blob as it comes, holding no more than a few pieces in memory, and gives its size in bytes.
    /// Durable on return. It appears whole or not at all; a blob that is there already is replaced. A stream of
    /// more than `max_bytes` is refused as soon as that is known.
    async fn put(&self, id: AttachmentId, stream: Stream, max_bytes: u64) -> Result<u64>;

    /// A part of a blob, or all of it; `None` when it is not there. A range beyond its end is cut to it.
    async fn get(&self, id: AttachmentId, range: Option<Range<u64>>) -> Result<Option<Stream>>;

    /// A blob's size in bytes, `None` when it is not there.
    async fn size(&self, id: AttachmentId) -> Result<Option<u64>>;

    /// Removes a blob. One that is not there is no error.
    async fn delete(&self, id: AttachmentId) -> Result<()>;
}

/// Opens the blob store that `config` names; a folder is made when missing. Relative paths are below
/// `data_dir`.
///
/// # Errors
/// When the disk refuses.
pub async fn open(config: &Config, data_dir: &Path) -> Result<Arc<dyn Blobs>> {
    match config {
        Config::Folder { path } => folder::open(data_dir.join(path)).await,
    }
}
