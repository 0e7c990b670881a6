//! Read marks. Many users read at the same time, and a write costs a wait for the disk: those that come while
//! one waits go together into the next one.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::blocking;
use super::store::Store;
use crate::{Error, Result};

/// The marks on their way into the store. There are never more than callers.
#[derive(Default)]
pub(super) struct Marks {
    waiting: Mutex<Vec<Waiting>>,
    /// Held by the caller who writes for all that wait.
    turn: tokio::sync::Mutex<()>,
}

struct Waiting {
    key: Vec<u8>,
    seq: u64,
    stored: oneshot::Sender<Result<u64>>,
}

impl Marks {
    /// Raises the mark of `key` to `seq`, and gives it as it then stands.
    pub(super) async fn raise(&self, store: &Arc<Store>, key: Vec<u8>, seq: u64) -> Result<u64> {
        let (stored, mut answer) = oneshot::channel();
        self.waiting.lock().push(Waiting { key, seq, stored });
        let _turn = self.turn.lock().await;
        // Whoever had the turn before may have written this one too.
        if let Ok(mark) = answer.try_recv() {
            return mark;
        }
        let (store, waiting) = (Arc::clone(store), std::mem::take(&mut *self.waiting.lock()));
        blocking(move || {
            write(&store, waiting);
            Ok(())
        })
        .await?;
        answer.await.unwrap_or_else(|_| Err(Error::Unavailable("the read mark was not written".into())))
    }
}

/// Writes all and answers all; one that no longer waits is no error.
fn write(store: &Store, waiting: Vec<Waiting>) {
    let (wanted, answers): (Vec<_>, Vec<_>) =
        waiting.into_iter().map(|Waiting { key, seq, stored }| ((key, seq), stored)).unzip();
    match store.raise_marks(&wanted) {
        Ok(marks) => answers.into_iter().zip(marks).for_each(|(answer, mark)| drop(answer.send(Ok(mark)))),
        Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
    }
}
