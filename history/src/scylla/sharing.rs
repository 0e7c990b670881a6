//! Identical reads at the same time, done once for all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::{Error, Result};

/// Reads on their way, by what they read.
///
/// Whoever asks while the same read is on its way does not take its answer, which may be older than what he has
/// seen elsewhere: he waits for the next one, together with all who came meanwhile. So one key is never read twice at
/// once, and every answer is from after its question.
pub(super) struct Sharing<K, V> {
    /// Those who wait for the next read. A key stands here as long as a task reads it.
    waiting: Mutex<HashMap<K, Vec<oneshot::Sender<Result<V>>>>>,
}

impl<K, V> Default for Sharing<K, V> {
    fn default() -> Self {
        Self { waiting: Mutex::new(HashMap::new()) }
    }
}

impl<K, V> Sharing<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Reads `key` by `read`, which must depend on nothing else. Once begun it is carried through, also when the
    /// caller no longer waits: others may.
    pub(super) async fn read<F>(self: &Arc<Self>, key: K, read: impl Fn(K) -> F + Send + 'static) -> Result<V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        if self.wait(key.clone(), answer) {
            let reader = Reader { sharing: Arc::clone(self), key, is_done: false };
            tokio::spawn(reader.run(read).in_current_span());
        }
        answered.await.unwrap_or_else(|_| Err(Error::Unavailable("the read was given up".into())))
    }

    /// Gives whether somebody has to begin reading.
    fn wait(&self, key: K, answer: oneshot::Sender<Result<V>>) -> bool {
        let mut waiting = self.waiting.lock();
        if let Some(others) = waiting.get_mut(&key) {
            others.push(answer);
            return false;
        }
        waiting.insert(key, vec![answer]);
        true
    }
}

/// Reads one key until nobody waits for it.
struct Reader<K: Eq + Hash, V> {
    sharing: Arc<Sharing<K, V>>,
    key: K,
    /// Whether the key was given free: from then on it is another reader's.
    is_done: bool,
}

impl<K: Clone + Eq + Hash, V: Clone> Reader<K, V> {
    async fn run<F: Future<Output = Result<V>>>(mut self, read: impl Fn(K) -> F) {
        while let Some(waiting) = self.next() {
            let read = read(self.key.clone()).await;
            for answer in waiting {
                // One who no longer waits is no error.
                drop(answer.send(read.clone()));
            }
        }
    }

    /// Those who wait; the key is given free when there are none.
    fn next(&mut self) -> Option<Vec<oneshot::Sender<Result<V>>>> {
        let mut all = self.sharing.waiting.lock();
        let waiting = all.get_mut(&self.key).map(std::mem::take).filter(|waiting| !waiting.is_empty());
        if waiting.is_none() {
            all.remove(&self.key);
            self.is_done = true;
        }
        waiting
    }
}

impl<K: Eq + Hash, V> Drop for Reader<K, V> {
    fn drop(&mut self) {
        // After a panic, or when the runtime ends: nobody may go on waiting.
        if !self.is_done {
            self.sharing.waiting.lock().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// A read that ends when it may, and tells how many had begun with it.
    async fn number_of_read(begun: Arc<AtomicU32>, may_end: Arc<Semaphore>) -> Result<u32> {
        let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
        may_end.acquire().await.map(tokio::sync::SemaphorePermit::forget).unwrap();
        Ok(number)
    }

    async fn until_one(begun: &AtomicU32) {
        while begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn let_end(may_end: Arc<Semaphore>) {
        may_end.add_permits(2);
    }

    #[tokio::test]
    async fn who_asks_while_a_read_is_under_way_shares_the_next_one() {
        let sharing = Arc::new(Sharing::<u8, u32>::default());
        let (begun, may_end) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (begun, may_end) = (Arc::clone(&begun), Arc::clone(&may_end));
            sharing.read(7, move |_| number_of_read(Arc::clone(&begun), Arc::clone(&may_end)))
        };
        let (first, others) = (ask(), async {
            until_one(&begun).await;
            let may_end = may_end.clone();
            let others = join_all((0..50).map(|_| ask()));
            futures_util::future::join(others, let_end(may_end)).await.0
        });
        let (first, others) = futures_util::future::join(first, others).await;
        assert_eq!(first.unwrap(), 1);
        assert!(others.into_iter().all(|answer| answer.unwrap() == 2));
        assert!(sharing.waiting.lock().is_empty());
    }

    #[tokio::test]
    async fn a_read_that_breaks_leaves_nobody_waiting() {
        let sharing = Arc::new(Sharing::<u8, u32>::default());
        let broken = sharing.read(7, |_| async { panic!("on purpose") }).await;
        assert!(matches!(broken, Err(Error::Unavailable(_))), "{broken:?}");
        assert_eq!(sharing.read(7, |_| async { Ok(5) }).await.unwrap(), 5);
    }
}
