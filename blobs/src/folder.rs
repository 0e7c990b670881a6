//! Blobs in a folder.
//!
//! A blob lies at `<ab>/<cd>/<id>`, where `ab` and `cd` are the last two bytes of its id: the random ones, so
//! that no folder becomes large. On its way in it is a file in `incoming/`, on the same disk, and is moved to
//! its place once it is whole and synced. What lies in `incoming/` when the store is opened was left there by
//! a crash.

mod incoming;

use std::io::{self, ErrorKind, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use types::AttachmentId;

use crate::{Blobs, Error, Result, ServedAs, Stream};
use incoming::Incoming;

/// The pieces in which a blob is read, and the most that is held of one on its way in beside the piece that came,
/// in bytes.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    incoming: PathBuf,
}

/// Opens the folder, or makes it.
pub(crate) async fn open(path: PathBuf) -> Result<Arc<dyn Blobs>> {
    let folder = Folder { incoming: path.join("incoming"), path };
    fs::create_dir_all(&folder.incoming).await?;
    let mut left_over = fs::read_dir(&folder.incoming).await?;
    while let Some(file) = left_over.next_entry().await? {
        fs::remove_file(file.path()).await?;
    }
    Ok(Arc::new(folder))
}

#[async_trait]
impl Blobs for Folder {
    async fn put(&self, id: AttachmentId, mut stream: Stream, max_bytes: u64) -> Result<u64> {
        let mut incoming = Incoming::create(&self.incoming, id).await?;
        incoming.file.set_max_buf_size(PIECE_BYTES);
        let mut size = 0;
        while let Some(piece) = stream.try_next().await.map_err(|error| Error::Refused(error.to_string()))? {
            size += piece.len() as u64;
            if size > max_bytes {
                return Err(Error::Refused(format!("it is longer than {max_bytes} bytes")));
            }
            incoming.file.write_all(&piece).await?;
        }
        incoming.keep_as(&self.path, self.place_of(id)).await?;
        Ok(size)
    }

    async fn get(&self, id: AttachmentId, range: Option<Range<u64>>) -> Result<Option<Stream>> {
        let Some(mut file) = found(File::open(self.place_of(id)).await)? else { return Ok(None) };
        let range = range.unwrap_or(0..u64::MAX);
        if range.start > 0 {
            let size = file.metadata().await?.len();
            file.seek(SeekFrom::Start(range.start.min(size))).await?;
        }
        let part = file.take(range.end.saturating_sub(range.start));
        Ok(Some(Box::pin(ReaderStream::with_capacity(part, PIECE_BYTES))))
    }

    async fn size(&self, id: AttachmentId) -> Result<Option<u64>> {
        let metadata = found(fs::metadata(self.place_of(id)).await)?;
        Ok(metadata.map(|metadata| metadata.len()))
    }

    async fn delete(&self, id: AttachmentId) -> Result<()> {
        let place = self.place_of(id);
        if found(fs::remove_file(&place).await)?.is_some()
            && let Some(folder) = place.parent()
        {
            File::open(folder).await?.sync_all().await?;
        }
        Ok(())
    }

    async fn presign_get(&self, _: AttachmentId, _: ServedAs<'_>, _: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    async fn presign_put(&self, _: AttachmentId, _: u64, _: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    async fn keep_uploaded(&self, _: AttachmentId, _: AttachmentId) -> Result<Option<u64>> {
        Ok(None)
    }
}

impl Folder {
    fn place_of(&self, id: AttachmentId) -> PathBuf {
        let [.., first, second] = id.as_bytes();
        self.path.join(format!("{first:02x}")).join(format!("{second:02x}")).join(id.to_string())
    }
}

/// `None` for what is not there.
fn found<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use futures_util::stream;
    use tokio::sync::oneshot;
    use types::Region;

    use super::*;

    async fn open_in(place: &Path) -> Arc<dyn Blobs> {
        open(place.to_owned()).await.unwrap()
    }

    /// A folder that is removed with this.
    struct Place(tempfile::TempDir);

    impl Place {
        async fn make() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        async fn store(&self) -> Arc<dyn Blobs> {
            open_in(self.0.path()).await
        }

        async fn remove(self) {
            self.0.close().unwrap();
        }
    }

    crate::contract::contract_tests!(Place);

    fn files_in(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn small() -> Stream {
        Box::pin(stream::iter([Ok(Bytes::from_static(b"small"))]))
    }

    #[tokio::test]
    async fn a_store_opened_again_has_the_blobs_and_nothing_that_was_half_put() {
        let place = tempfile::tempdir().unwrap();
        let id = AttachmentId::generate(Region::default());
        open_in(place.path()).await.put(id, small(), 5).await.unwrap();
        let incoming = place.path().join("incoming");
        std::fs::write(incoming.join("left by a crash"), "half a blob").unwrap();

        let store = open_in(place.path()).await;
        assert_eq!(files_in(&incoming), [""; 0]);
        assert_eq!(store.size(id).await.unwrap(), Some(5));
    }

    #[tokio::test]
    async fn no_put_leaves_a_file_behind_however_it_ends() {
        let place = tempfile::tempdir().unwrap();
        let incoming = place.path().join("incoming");
        let store = open_in(place.path()).await;
        let id = AttachmentId::generate(Region::default());
        store.put(id, small(), 5).await.unwrap();
        store.put(id, small(), 4).await.unwrap_err();
        let broken = Box::pin(stream::iter([Ok(Bytes::from_static(b"half")), Err(io::Error::other("gone"))]));
        store.put(id, broken, 5).await.unwrap_err();

        let (begun, has_begun) = oneshot::channel();
        let never = stream::once(async {
            begun.send(()).unwrap();
            std::future::pending().await
        });
        let put = store.put(id, Box::pin(never), 5);
        tokio::select! {
            _ = put => unreachable!("the stream never ends"),
            begun = has_begun => begun.unwrap(),
        }
        assert_eq!(files_in(&incoming), [""; 0]);
    }

    #[tokio::test]
    async fn blobs_are_spread_over_folders_by_the_random_end_of_their_ids() {
        let place = tempfile::tempdir().unwrap();
        let store = open_in(place.path()).await;
        let id: AttachmentId = "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40".parse().unwrap();
        store.put(id, small(), 5).await.unwrap();
        assert!(place.path().join("7a/40").join(id.to_string()).is_file());
    }
}
