use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use blobs::{ServedAs, Stream};
use directory::{Attachment, NewUser, Upload};
use tempfile::TempDir;
use types::{AttachmentId, EventId, GroupId, Region, UserId};

use super::*;

/// A blob store that does not remove what it is told to keep.
struct Faulty {
    blobs: Arc<dyn Blobs>,
    kept: Mutex<HashSet<AttachmentId>>,
}

#[async_trait]
impl Blobs for Faulty {
    async fn put(&self, id: AttachmentId, stream: Stream, max_bytes: u64) -> blobs::Result<u64> {
        self.blobs.put(id, stream, max_bytes).await
    }

    async fn get(&self, id: AttachmentId, range: Option<Range<u64>>) -> blobs::Result<Option<Stream>> {
        self.blobs.get(id, range).await
    }

    async fn size(&self, id: AttachmentId) -> blobs::Result<Option<u64>> {
        self.blobs.size(id).await
    }

    async fn delete(&self, id: AttachmentId) -> blobs::Result<()> {
        if self.kept.lock().unwrap().contains(&id) {
            return Err(blobs::Error::Unavailable("it is kept".into()));
        }
        self.blobs.delete(id).await
    }

    async fn presign_get(&self, _: AttachmentId, _: ServedAs<'_>, _: Duration) -> blobs::Result<Option<String>> {
        Ok(None)
    }

    async fn presign_put(&self, _: AttachmentId, _: u64, _: Duration) -> blobs::Result<Option<String>> {
        Ok(None)
    }

    async fn keep_uploaded(&self, _: AttachmentId, _: AttachmentId) -> blobs::Result<Option<u64>> {
        Ok(None)
    }
}

struct World {
    directory: Arc<dyn Directory>,
    blobs: Arc<Faulty>,
    owner: UserId,
    _data: TempDir,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).plus(Duration::from_secs(seconds))
}

async fn open_blobs(path: &Path) -> Arc<Faulty> {
    let blobs = blobs::open(&blobs::Config::default(), path).await.unwrap();
    Arc::new(Faulty { blobs, kept: Mutex::default() })
}

impl World {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let directory = directory::open(&directory::Config::default(), data.path()).await.unwrap();
        let owner = UserId::generate(Region::default());
        let user = NewUser {
            id: owner,
            username: "ada".into(),
            name: "Ada".into(),
            email: "ada@example.org".into(),
            password_hash: "$".into(),
            at: at(0),
        };
        directory.execute(&Command::Register { user, session: None }).await.unwrap().unwrap();
        Self { directory, blobs: open_blobs(data.path()).await, owner, _data: data }
    }

    async fn done(&self, command: Command) {
        self.directory.execute(&command).await.unwrap().unwrap();
    }

    /// Bytes that were put at this second, and of which nothing more is known.
    async fn uploaded(&self, seconds: u64) -> AttachmentId {
        let id = AttachmentId::generate(Region::default());
        let (owner, name, created_at) = (self.owner, "a.png".to_owned(), at(seconds));
        let upload = Upload { id, owner, name, content_type: None, size: None, attachment: None, created_at };
        self.done(Command::BeginUpload { upload }).await;
        self.blobs.put(id, Box::pin(stream::iter([Ok("bytes".into())])), 5).await.unwrap();
        id
    }

    async fn attached(&self, seconds: u64) -> AttachmentId {
        let id = self.uploaded(seconds).await;
        let (owner, name, content_type) = (self.owner, "a.png".to_owned(), "image/png".to_owned());
        let (width, height, created_at) = (Some(1), Some(1), at(seconds));
        let attachment = Attachment { id, owner, name, content_type, size: 5, width, height, created_at };
        self.done(Command::AddAttachment { attachment, upload: None }).await;
        id
    }

    /// Sweeps as a process that has just started.
    async fn sweep(&self) -> std::result::Result<usize, Failure> {
        self.sweep_after(&mut None).await
    }

    async fn sweep_after(&self, after: &mut Option<AttachmentId>) -> std::result::Result<usize, Failure> {
        sweep(&*self.directory, &*self.blobs, at(10), after).await
    }

    async fn is_stored(&self, id: AttachmentId) -> bool {
        self.blobs.size(id).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn only_what_nobody_finished_or_sent_is_removed() {
    let world = World::start().await;
    let (unfinished, unsent, sent) = (world.uploaded(1).await, world.attached(1).await, world.attached(1).await);
    let (young, unsent_yet) = (world.uploaded(10).await, world.attached(10).await);
    let (conversation, message) = (GroupId::generate(Region::default()).into(), EventId::generate(Region::default()));
    world.done(Command::SendAttachment { attachment: sent, by: world.owner, conversation, message }).await;

    assert_eq!(world.sweep().await.unwrap(), 2);
    for (id, is_stored) in [(unfinished, false), (unsent, false), (sent, true), (young, true), (unsent_yet, true)] {
        assert_eq!(world.is_stored(id).await, is_stored);
    }
    assert_eq!(world.sweep().await.unwrap(), 0);
}

#[tokio::test]
async fn what_could_not_be_removed_is_removed_later() {
    let world = World::start().await;
    let unsent = world.attached(1).await;
    world.blobs.kept.lock().unwrap().insert(unsent);
    world.sweep().await.unwrap_err();
    assert!(world.is_stored(unsent).await);
    assert_eq!(world.directory.attachment(unsent).await.unwrap(), None, "it can no longer be sent");
    world.blobs.kept.lock().unwrap().clear();
    assert_eq!(world.sweep().await.unwrap(), 1);
    assert!(!world.is_stored(unsent).await);
}

#[tokio::test]
async fn more_than_one_batch_is_removed_in_one_sweep() {
    let world = World::start().await;
    for _ in 0..=BATCH {
        world.uploaded(1).await;
    }
    assert_eq!(world.sweep().await.unwrap(), BATCH + 1);
}

#[tokio::test]
async fn a_blob_that_cannot_be_removed_holds_up_no_other() {
    let world = World::start().await;
    let mut unsent = [world.uploaded(1).await, world.uploaded(1).await, world.uploaded(1).await];
    unsent.sort_unstable();
    let [_, stuck, _] = unsent;
    world.blobs.kept.lock().unwrap().insert(stuck);
    for _ in 0..2 {
        let error = world.sweep().await.unwrap_err();
        assert!(matches!(error, Failure::Blob { id, others: 0, .. } if id == stuck), "{error}");
        assert_eq!(world.directory.condemned(None, BATCH).await.unwrap(), [stuck]);
    }
    world.blobs.kept.lock().unwrap().clear();
    assert_eq!(world.sweep().await.unwrap(), 1);
}

#[tokio::test]
async fn a_batch_of_them_holds_up_no_other_either() {
    let world = World::start().await;
    let mut unsent = Vec::new();
    for _ in 0..=BATCH {
        unsent.push(world.uploaded(1).await);
    }
    unsent.sort_unstable();
    let last = unsent.pop().unwrap();
    world.blobs.kept.lock().unwrap().extend(unsent.iter().copied());
    let mut after = None;
    let error = world.sweep_after(&mut after).await.unwrap_err();
    assert!(matches!(error, Failure::Blob { others, .. } if others == BATCH - 1), "{error}");
    assert_eq!(world.sweep_after(&mut after).await.unwrap(), 1);
    assert!(!world.is_stored(last).await);
    world.blobs.kept.lock().unwrap().clear();
    assert_eq!(world.sweep_after(&mut after).await.unwrap(), BATCH, "it begins anew");
}
