//! A file on its way to the blob store: piece by piece, looked at as it passes, never held.

use std::io;
use std::pin::pin;
use std::time::Duration;

use blobs::Stream as Pieces;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use super::inspect::{Fault, Found, Inspector};
use crate::ApiError;

/// What is still read of a file that is refused, so that its sender, who may be sending still, hears why.
const REST_BYTES: usize = 1024 * 1024;
/// How long for.
const REST_TIME: Duration = Duration::from_secs(2);

/// What bounds a file on its way.
pub(super) struct Bounds<'a> {
    /// The largest file, in bytes.
    pub(super) max_bytes: u64,
    /// How long the next piece may take.
    pub(super) idle: Duration,
    /// The media types that are taken.
    pub(super) accepted: &'a [String],
}

/// Takes pieces from [`pass`].
pub(super) struct Sender(mpsc::Sender<io::Result<Bytes>>);

/// A stream for the blob store, and what feeds it. It holds one piece. A feeder that is dropped ends the stream well.
pub(super) fn channel() -> (Sender, Pieces) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|piece| (piece, receiver)));
    (Sender(sender), Box::pin(pieces))
}

/// Passes a file on, and tells what it was. The stream ends well only if the file is taken.
///
/// # Errors
/// The source's own; 408 when it pauses for too long; 413, 415 and 422 for a file that is not taken; 503 when the blob
/// store does not take it.
pub(super) async fn pass(
    source: impl Stream<Item = Result<Bytes, ApiError>>,
    mut inspector: Inspector,
    to: Sender,
    bounds: &Bounds<'_>,
) -> Result<Found, ApiError> {
    let mut source = pin!(source);
    let refused = loop {
        let piece = match tokio::time::timeout(bounds.idle, source.next()).await {
            Ok(None) => match inspector.finish() {
                Ok(found) => return Ok(found),
                Err(fault) => break refused(fault, bounds),
            },
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return Err(to.refuse(error).await),
            Err(_) => return Err(to.refuse(ApiError::too_slow()).await),
        };
        if inspector.size() + piece.len() as u64 > bounds.max_bytes {
            return Err(to.refuse(ApiError::file_too_large(bounds.max_bytes)).await);
        }
        if let Err(fault) = inspector.take(&piece) {
            break refused(fault, bounds);
        }
        if to.0.send(Ok(piece)).await.is_err() {
            // The blob store knows why, and says so.
            return Err(ApiError::unavailable());
        }
    };
    let refused = to.refuse(refused).await;
    pass_over(source).await;
    Err(refused)
}

fn refused(fault: Fault, bounds: &Bounds<'_>) -> ApiError {
    fault.into_error(bounds.accepted)
}

impl Sender {
    /// The blob store must not take what has passed for the whole.
    async fn refuse(&self, error: ApiError) -> ApiError {
        // If it has ended already, it has not.
        self.0.send(Err(io::Error::other(error.code()))).await.ok();
        error
    }
}

async fn pass_over(mut source: std::pin::Pin<&mut impl Stream<Item = Result<Bytes, ApiError>>>) {
    let rest = async {
        let mut read = 0;
        while let Some(Ok(piece)) = source.next().await {
            read += piece.len();
            if read > REST_BYTES {
                return;
            }
        }
    };
    tokio::time::timeout(REST_TIME, rest).await.ok();
}
