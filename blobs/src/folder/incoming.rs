//! A blob on its way in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use types::AttachmentId;

/// Tells apart the files of one blob that is put several times at once.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file that is not in its place yet. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) file: tokio::fs::File,
    path: Temporary,
}

/// The path of a file that is removed when this is dropped, unless it was moved away.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Moved away, or not to be removed now: then the next opening does it.
        drop(fs::remove_file(&self.0));
    }
}

impl Incoming {
    /// A new file in `folder`.
    pub(super) async fn create(folder: &Path, id: AttachmentId) -> io::Result<Self> {
        let path = folder.join(format!("{id}.{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        // Made and guarded in one go: the guard is dropped with the outcome when nobody waits for it any more.
        let (file, path) = blocking(move || {
            let path = Temporary(path);
            let file = File::create_new(&path.0)?;
            Ok((file, path))
        })
        .await?;
        Ok(Self { file: tokio::fs::File::from_std(file), path })
    }

    /// Moves the file to `place`, some folders below `root`. It is on disk on return.
    pub(super) async fn keep_as(self, root: &Path, place: PathBuf) -> io::Result<()> {
        let Self { mut file, path } = self;
        tokio::io::AsyncWriteExt::flush(&mut file).await?;
        let file = file.into_std().await;
        let root = root.to_owned();
        blocking(move || {
            file.sync_all()?;
            let folder = place.parent().unwrap_or(&root);
            make_folders(&root, folder)?;
            fs::rename(&path.0, &place)?;
            sync_folder(folder)
        })
        .await
    }
}

/// Makes the folders from below `root` down to `folder`, each one's name on disk before it is used.
fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    if folder == root || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(root);
    make_folders(root, above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(above),
    }
}

/// The names in a folder are on disk on return.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
