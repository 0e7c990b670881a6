//! History on fjall, a log-structured store in this process: what is written where says [`table`].

mod batch;
mod marks;
mod page;
mod row;
mod store;
mod table;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use types::{ConversationId, Entry, EventId, UserId};

use self::marks::Marks;
use self::store::Store;
use crate::{End, Error, History, Message, Page, Result, Tail};

/// Reads of at most so many rows are done where they are asked for: they take less time than handing them to
/// another thread does. Longer ones would hold up the tasks of this thread.
const SHORT_READ_ROWS: usize = 128;

struct Embedded {
    store: Arc<Store>,
    marks: Marks,
}

/// Opens the history in the folder `path`, which is made when missing.
///
/// # Errors
/// When another process has it open, or the disk refuses.
pub(crate) async fn open(path: PathBuf) -> Result<Arc<dyn History>> {
    let store = blocking(move || Store::open(&path)).await?;
    Ok(Arc::new(Embedded { store: Arc::new(store), marks: Marks::default() }))
}

impl Embedded {
    async fn read<T: Send + 'static>(
        &self,
        rows: usize,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if rows <= SHORT_READ_ROWS {
            return work(&self.store);
        }
        let store = Arc::clone(&self.store);
        blocking(move || work(&store)).await
    }
}

#[async_trait]
impl History for Embedded {
    async fn store(&self, entries: &[Entry]) -> Result<()> {
        let (store, entries) = (Arc::clone(&self.store), entries.to_vec());
        blocking(move || store.write(&entries)).await
    }

    async fn tails(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Tail>>> {
        let conversations = conversations.to_vec();
        self.read(conversations.len(), move |store| store.tails(&conversations)).await
    }

    async fn ends(&self, conversations: &[ConversationId]) -> Result<Vec<Option<End>>> {
        let conversations = conversations.to_vec();
        self.read(conversations.len(), move |store| store.ends(&conversations)).await
    }

    async fn messages(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>> {
        let page = page.clone();
        self.read(page.limit, move |store| store.messages(conversation, &page)).await
    }

    async fn message(&self, conversation: ConversationId, id: EventId) -> Result<Option<Message>> {
        self.store.message(conversation, id)
    }

    async fn event(&self, conversation: ConversationId, id: EventId) -> Result<Option<Entry>> {
        self.store.event(conversation, id)
    }

    async fn events(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        self.read(limit, move |store| store.events(conversation, after_seq, limit)).await
    }

    async fn last_seq(&self, conversation: ConversationId, until: u64) -> Result<u64> {
        self.read(1, move |store| store.last_seq(conversation, until)).await
    }

    async fn peers(&self, user: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        self.read(limit, move |store| store.peers(user, after, limit)).await
    }

    async fn mark_read(&self, user: UserId, conversation: ConversationId, seq: u64) -> Result<u64> {
        self.marks.raise(&self.store, table::mark(user, conversation), seq).await
    }

    async fn read_marks(&self, user: UserId, conversations: &[ConversationId]) -> Result<Vec<u64>> {
        let conversations = conversations.to_vec();
        self.read(conversations.len(), move |store| store.marks(user, &conversations)).await
    }
}

/// Runs work that waits for the disk on a thread that may wait. Once begun it is carried through, also when
/// the caller no longer waits.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Unavailable("the process is ending".into())),
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<fjall::Error> for Error {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::Unavailable("another process has it open".into()),
            fjall::Error::Io(_) | fjall::Error::Storage(_) => Self::Unavailable(error.to_string()),
            fjall::Error::Poisoned => {
                Self::Damaged("an earlier write failed; it must be opened anew before it takes more".into())
            }
            _ => Self::Damaged(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
