//! The bytes of attachments.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use blobs::{Blobs, Error, Result, ServedAs, Stream};
use types::AttachmentId;

use super::Late;

#[async_trait]
impl Blobs for Late<dyn Blobs> {
    async fn put(&self, id: AttachmentId, stream: Stream, max_bytes: u64) -> Result<u64> {
        self.there(Error::Unavailable)?.put(id, stream, max_bytes).await
    }

    async fn get(&self, id: AttachmentId, range: Option<Range<u64>>) -> Result<Option<Stream>> {
        self.there(Error::Unavailable)?.get(id, range).await
    }

    async fn size(&self, id: AttachmentId) -> Result<Option<u64>> {
        self.there(Error::Unavailable)?.size(id).await
    }

    async fn delete(&self, id: AttachmentId) -> Result<()> {
        self.there(Error::Unavailable)?.delete(id).await
    }

    async fn presign_get(&self, id: AttachmentId, served_as: ServedAs<'_>, ttl: Duration) -> Result<Option<String>> {
        self.there(Error::Unavailable)?.presign_get(id, served_as, ttl).await
    }

    async fn presign_put(&self, upload: AttachmentId, size: u64, ttl: Duration) -> Result<Option<String>> {
        self.there(Error::Unavailable)?.presign_put(upload, size, ttl).await
    }

    async fn keep_uploaded(&self, upload: AttachmentId, id: AttachmentId) -> Result<Option<u64>> {
        self.there(Error::Unavailable)?.keep_uploaded(upload, id).await
    }
}
