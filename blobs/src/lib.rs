//! Blobs: the bytes of attachments. What they are and who may read them is the directory's to know.
//!
//! Embedded: files in a folder. In a cluster: an S3 bucket. Every implementation passes the suite in `contract.rs`.

#[cfg(test)]
mod contract;
mod folder;
mod s3;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use types::{AttachmentId, Secret};

/// Which blob store, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// Files in a folder on the local disk.
    Folder {
        /// The folder; made when missing. Relative to the data folder.
        path: PathBuf,
    },
    /// A bucket of S3, or of another server that speaks its protocol.
    S3 {
        /// The server, such as `http://127.0.0.1:8333`; AWS's own for the region, when missing.
        endpoint: Option<String>,
        /// The region's name.
        region: String,
        /// The bucket; made by [`migrate`].
        bucket: String,
        /// Who we are.
        access_key_id: String,
        /// What proves it.
        secret_access_key: Secret,
        /// Whether the bucket stands in the path of an address, not in the host's name. Most servers but AWS's
        /// want it.
        #[serde(default)]
        path_style: bool,
        /// How clients reach the server, for links; as we do, when missing.
        public_endpoint: Option<String>,
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
    /// It is not as this program needs it: there is no such bucket. Only [`open`] and [`migrate`] say so, and waiting does
    /// not help.
    #[error("the blob store is not as it must be: {0}")]
    Unfit(String),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Bytes that come in pieces. An error in the stream ends it: nothing is stored.
pub type Stream = BoxStream<'static, std::io::Result<Bytes>>;

/// What a link's answer says of its bytes, whatever the store would say of itself.
#[derive(Clone, Copy, Debug)]
pub struct ServedAs<'a> {
    /// The `Content-Type`.
    pub content_type: &'a str,
    /// The `Content-Disposition`.
    pub content_disposition: &'a str,
}

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

    /// Removes a blob, and what was uploaded by a link under this id. One that is not there is no error.
    async fn delete(&self, id: AttachmentId) -> Result<()>;

    /// A link by which whoever holds it reads a blob, from now for `ttl`, a week at most. `None` from a store
    /// without links: the caller passes the bytes on. The blob need not be there.
    async fn presign_get(&self, id: AttachmentId, served_as: ServedAs<'_>, ttl: Duration) -> Result<Option<String>>;

    /// A link by which whoever holds it uploads exactly `size` bytes with one `PUT`, from now for `ttl`, a week
    /// at most, as often as it likes. What is uploaded is no blob until [`Blobs::keep_uploaded`] makes it one.
    /// `None` from a store without links.
    async fn presign_put(&self, upload: AttachmentId, size: u64, ttl: Duration) -> Result<Option<String>>;

    /// Makes a blob of what was uploaded by a link, and gives its size in bytes; `None` when nothing was. The
    /// blob is a copy: its bytes are beyond the reach of the link, which may go on being used.
    async fn keep_uploaded(&self, upload: AttachmentId, id: AttachmentId) -> Result<Option<u64>>;
}

/// Opens the blob store that `config` names; a folder is made when missing. Relative paths are below
/// `data_dir`.
///
/// # Errors
/// When the disk refuses, or the server does not answer; [`Error::Unfit`] when the bucket is not there.
pub async fn open(config: &Config, data_dir: &Path) -> Result<Arc<dyn Blobs>> {
    match config {
        Config::Folder { path } => folder::open(data_dir.join(path)).await,
        Config::S3 { .. } => s3::open(config).await,
    }
}

/// Makes what the blob store needs: the folder, or the bucket and the rules by which it rids itself of uploads
/// that were never finished. May run again, and at the same time from several places.
///
/// # Errors
/// When the disk or the server refuses.
pub async fn migrate(config: &Config, data_dir: &Path) -> Result<()> {
    match config {
        Config::Folder { path } => folder::open(data_dir.join(path)).await.map(drop),
        Config::S3 { .. } => s3::migrate(config).await,
    }
}
