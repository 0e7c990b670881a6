//! A blob on its way in: a small one with one request, a large one in parts.

use std::io;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::abort_multipart_upload::builders::AbortMultipartUploadFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use super::client::{self, unavailable};
use crate::{Error, Result, Stream};

/// The size of a part unless the blob could then have too many of them, in bytes. A blob that is no longer goes
/// with one request.
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// The most parts that a server takes.
const MAX_PARTS: u64 = 10_000;
/// Parts of one blob that are sent at the same time. One more is filled meanwhile.
const PARTS_IN_FLIGHT: usize = 2;

/// The pauses before an upload is given up, each time once more: a part that was on its way may arrive after the upload
/// was given up, and bring it back.
const GIVING_UP: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];

/// Where a blob goes.
pub(super) struct Target<'a> {
    pub(super) client: &'a Client,
    pub(super) bucket: &'a str,
    pub(super) key: String,
}

/// Stores a blob, and gives its size in bytes.
pub(super) async fn put(to: &Target<'_>, stream: Stream, max_bytes: u64) -> Result<u64> {
    let part_bytes = PART_BYTES.max(max_bytes.div_ceil(MAX_PARTS));
    let stream = Box::pin(stream.fuse());
    let mut parts = Parts { stream, rest: Bytes::new(), part_bytes, size: 0, max_bytes };
    let first = parts.next().await?;
    if (first.len() as u64) < part_bytes {
        put_at_once(to, first).await?;
        return Ok(parts.size);
    }
    let upload = Upload::begin(to).await?;
    let mut sending = JoinSet::new();
    let mut sent = Vec::new();
    let (mut part, mut number) = (first, 1);
    while !part.is_empty() {
        if sending.len() == PARTS_IN_FLIGHT {
            sent.extend(next_sent(&mut sending).await?);
        }
        sending.spawn(upload.send(number, part));
        number += 1;
        part = parts.next().await?;
    }
    while let Some(part) = next_sent(&mut sending).await? {
        sent.push(part);
    }
    sent.sort_unstable_by_key(CompletedPart::part_number);
    upload.complete(sent).await?;
    Ok(parts.size)
}

async fn put_at_once(to: &Target<'_>, blob: Bytes) -> Result<()> {
    let request = to.client.put_object().bucket(to.bucket).key(&to.key).body(ByteStream::from(blob));
    let sent = request.customize().config_override(client::patient()).send().await;
    sent.map(drop).map_err(|error| unavailable("put", &error))
}

async fn next_sent(sending: &mut JoinSet<Result<CompletedPart>>) -> Result<Option<CompletedPart>> {
    match sending.join_next().await {
        Some(sent) => Ok(Some(sent.map_err(|error| Error::Unavailable(error.to_string()))??)),
        None => Ok(None),
    }
}

/// A stream, cut anew into parts of one size.
struct Parts {
    stream: Stream,
    /// What came with the last part and belongs to the next.
    rest: Bytes,
    part_bytes: u64,
    /// Bytes that have come.
    size: u64,
    max_bytes: u64,
}

impl Parts {
    /// The next part; a short or empty one is the last.
    async fn next(&mut self) -> Result<Bytes> {
        let part_bytes = usize::try_from(self.part_bytes).unwrap_or(usize::MAX);
        // The first may be short; what follows it mostly is not, and a buffer that grows is copied again and again.
        let mut part = BytesMut::with_capacity(if self.size == 0 { 0 } else { part_bytes });
        loop {
            let taken = self.rest.len().min(part_bytes - part.len());
            part.extend_from_slice(&self.rest.split_to(taken));
            if part.len() == part_bytes {
                return Ok(part.freeze());
            }
            let Some(piece) = self.stream.try_next().await.map_err(|error: io::Error| refused(&error))? else {
                return Ok(part.freeze());
            };
            self.size += piece.len() as u64;
            if self.size > self.max_bytes {
                return Err(Error::Refused(format!("it is longer than {} bytes", self.max_bytes)));
            }
            self.rest = piece;
        }
    }
}

fn refused(error: &io::Error) -> Error {
    Error::Refused(error.to_string())
}

/// An upload in parts, of which nothing is seen until it is complete. Dropped before, it is given up.
struct Upload {
    client: Client,
    bucket: String,
    key: String,
    id: String,
    is_complete: bool,
}

impl Upload {
    async fn begin(to: &Target<'_>) -> Result<Self> {
        let (client, bucket, key) = (to.client.clone(), to.bucket.to_owned(), to.key.clone());
        let request = client.create_multipart_upload().bucket(&bucket).key(&key);
        // By itself: if nobody waits for the answer any more, it still tells what is to be given up.
        let begun = tokio::spawn(async move {
            let begun = request.send().await.map_err(|error| unavailable("begin upload", &error))?;
            let id = begun.upload_id.ok_or_else(|| Error::Unavailable("begin upload: it was given no id".into()))?;
            Ok(Self { client, bucket, key, id, is_complete: false })
        });
        begun.await.map_err(|error| Error::Unavailable(error.to_string()))?
    }

    /// Sends a part. Numbers begin at 1.
    fn send(&self, number: i32, part: Bytes) -> impl Future<Output = Result<CompletedPart>> + Send + 'static {
        let request = self.client.upload_part().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
        let request = request.part_number(number).body(ByteStream::from(part));
        async move {
            let sent = request.customize().config_override(client::patient()).send().await;
            let sent = sent.map_err(|error| unavailable("upload part", &error))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
        }
    }

    async fn complete(mut self, parts: Vec<CompletedPart>) -> Result<()> {
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
        let request = request.multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
        let completed = request.customize().config_override(client::patient()).send().await;
        completed.map_err(|error| unavailable("complete upload", &error))?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
        // Where it cannot be given up now, the bucket's own rule does it in a day.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(give_up(request));
        }
    }
}

async fn give_up(request: AbortMultipartUploadFluentBuilder) {
    for pause in GIVING_UP {
        tokio::time::sleep(pause).await;
        drop(request.clone().send().await);
    }
}
