//! Blobs in a bucket of S3.
//!
//! A blob is the object `<abcd>/<id>`, where `abcd` are the last two bytes of its id: the random ones, which
//! spread the objects over a server's shards. What clients upload by a link is `incoming/<id>` until it is copied
//! to its place, where no link reaches it.

mod bucket;
mod client;
mod parts;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use futures_util::stream;
use types::AttachmentId;

use crate::{Blobs, Config, Error, Result, ServedAs, Stream};
use client::{Connected, code_of, is_missing, unavailable};

/// Below this prefix lies what clients uploaded and nobody has taken in.
const INCOMING: &str = "incoming/";
/// Beyond the end of every object that a server can hold, in bytes. Some servers cannot read larger numbers.
const BEYOND_BYTES: u64 = 1 << 52;

struct S3 {
    client: Client,
    /// Signs links to the server as clients reach it.
    public: Client,
    bucket: String,
}

pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Blobs>> {
    let Connected { client, public, bucket } = client::connect(config)?;
    bucket::require(&client, &bucket).await?;
    Ok(Arc::new(S3 { client, public, bucket }))
}

pub(crate) async fn migrate(config: &Config) -> Result<()> {
    let connected = client::connect(config)?;
    bucket::make(&connected).await?;
    bucket::expire_what_is_left_over(&connected).await
}

#[async_trait]
impl Blobs for S3 {
    async fn put(&self, id: AttachmentId, stream: Stream, max_bytes: u64) -> Result<u64> {
        parts::put(&parts::Target { client: &self.client, bucket: &self.bucket, key: key(id) }, stream, max_bytes).await
    }

    async fn get(&self, id: AttachmentId, range: Option<Range<u64>>) -> Result<Option<Stream>> {
        let range = range.map(|range| range.start..range.end.min(BEYOND_BYTES));
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(self.size(id).await?.map(|_| nothing()));
        }
        let request = self.client.get_object().bucket(&self.bucket).key(key(id));
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        match request.set_range(range).send().await {
            Ok(object) => Ok(Some(pieces(object.body))),
            Err(error) if is_missing(&error) => Ok(None),
            // The range begins at or beyond the end.
            Err(error) if code_of(&error) == Some("InvalidRange") => Ok(Some(nothing())),
            Err(error) => Err(unavailable("get", &error)),
        }
    }

    async fn size(&self, id: AttachmentId) -> Result<Option<u64>> {
        self.size_of(&key(id)).await
    }

    async fn delete(&self, id: AttachmentId) -> Result<()> {
        for key in [key(id), incoming(id)] {
            match self.client.delete_object().bucket(&self.bucket).key(key).send().await {
                Err(error) if !is_missing(&error) => return Err(unavailable("delete", &error)),
                _ => {}
            }
        }
        Ok(())
    }

    async fn presign_get(&self, id: AttachmentId, served_as: ServedAs<'_>, ttl: Duration) -> Result<Option<String>> {
        let request = self.public.get_object().bucket(&self.bucket).key(key(id));
        let request = request
            .response_content_type(served_as.content_type)
            .response_content_disposition(served_as.content_disposition);
        let signed = request.presigned(client::signed_for(ttl)?).await;
        signed.map(|link| Some(link.uri().to_owned())).map_err(|error| unavailable("presign", &error))
    }

    async fn presign_put(&self, upload: AttachmentId, size: u64, ttl: Duration) -> Result<Option<String>> {
        let size = i64::try_from(size).map_err(|_| Error::Refused(format!("{size} bytes are too many")))?;
        // The length is signed: a link for a small file does not take a large one.
        let request = self.public.put_object().bucket(&self.bucket).key(incoming(upload)).content_length(size);
        let signed = request.presigned(client::signed_for(ttl)?).await;
        signed.map(|link| Some(link.uri().to_owned())).map_err(|error| unavailable("presign", &error))
    }

    async fn keep_uploaded(&self, upload: AttachmentId, id: AttachmentId) -> Result<Option<u64>> {
        let request = self.client.copy_object().bucket(&self.bucket).key(key(id));
        let copy = request.copy_source(format!("{}/{}", self.bucket, incoming(upload)));
        match copy.customize().config_override(client::patient()).send().await {
            Ok(_) => self.size(id).await,
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(unavailable("copy", &error)),
        }
    }
}

impl S3 {
    async fn size_of(&self, key: &str) -> Result<Option<u64>> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(object) => Ok(object.content_length().and_then(|length| u64::try_from(length).ok())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(unavailable("head", &error)),
        }
    }
}

fn key(id: AttachmentId) -> String {
    let [.., first, second] = id.as_bytes();
    format!("{first:02x}{second:02x}/{id}")
}

fn incoming(id: AttachmentId) -> String {
    format!("{INCOMING}{id}")
}

fn nothing() -> Stream {
    Box::pin(stream::empty())
}

/// A body's pieces, as they come.
fn pieces(body: ByteStream) -> Stream {
    Box::pin(stream::try_unfold(body, async |mut body| {
        let piece = body.try_next().await.map_err(std::io::Error::other)?;
        Ok(piece.map(|piece| (piece, body)))
    }))
}

#[cfg(test)]
mod tests;
