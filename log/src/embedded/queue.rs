//! The bounded queue in which appends wait for the committer.

use parking_lot::RwLock;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{Append, Appended, Error, MAX_PAYLOAD_BYTES, Result};

/// Room for what is handed over and not yet stored, in kilobytes.
const ROOM: usize = 32 * 1024;
/// The least that an append takes of it, so that 8,192 wait at most.
const LEAST: u32 = 4;

/// An append on its way to the committer.
pub(crate) struct Pending {
    pub(crate) append: Append,
    pub(crate) receipt: oneshot::Sender<Result<Appended>>,
    /// What it took of the room, to be given back once it is settled.
    pub(crate) room: u32,
}

/// The sending end, and the room that bounds it: in events and in bytes at once.
pub(crate) struct Queue {
    room: Semaphore,
    sender: RwLock<Option<mpsc::UnboundedSender<Pending>>>,
}

impl Queue {
    /// A queue, and the end from which the committer takes.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Pending>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { room: Semaphore::new(ROOM), sender: RwLock::new(Some(sender)) }, receiver)
    }

    /// Waits for room and hands the append over.
    pub(crate) async fn push(&self, append: Append) -> Result<oneshot::Receiver<Result<Appended>>> {
        let bytes = append.payload.len();
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(Error::Refused(format!("an event of {bytes} bytes; {MAX_PAYLOAD_BYTES} is the most")));
        }
        let room = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(LEAST);
        self.room.acquire_many(room).await.map_err(|_| closed())?.forget();
        let (receipt, answer) = oneshot::channel();
        match &*self.sender.read() {
            Some(sender) => sender.send(Pending { append, receipt, room }).map_err(|_| closed())?,
            None => return Err(closed()),
        }
        Ok(answer)
    }

    /// Gives back what settled appends took.
    pub(crate) fn release(&self, room: usize) {
        self.room.add_permits(room);
    }

    /// Refuses further appends. Those that were handed over stay in the queue.
    pub(crate) fn close(&self) {
        self.room.close();
        self.sender.write().take();
    }
}

/// What every call is told once the log is closed.
pub(crate) fn closed() -> Error {
    Error::Unavailable("it is closed".into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;
    use crate::contract::{event, group};

    #[test]
    fn what_waits_is_bounded_in_events_and_in_bytes() {
        let large = || Append { payload: Bytes::from_static(&[0; MAX_PAYLOAD_BYTES]), ..event(group()) };
        for (append, most) in [(event(group()), 8_192), (large(), 128)] {
            let (queue, mut waiting) = Queue::new();
            for _ in 0..most {
                assert!(queue.push(append.clone()).now_or_never().is_some());
            }
            assert!(queue.push(append.clone()).now_or_never().is_none());
            queue.release(waiting.try_recv().unwrap().room as usize);
            assert!(queue.push(append).now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn a_closed_queue_refuses_and_keeps_what_it_has() {
        let (queue, mut waiting) = Queue::new();
        let _receipt = queue.push(event(group())).await.unwrap();
        queue.close();
        assert!(matches!(queue.push(event(group())).await, Err(Error::Unavailable(_))));
        assert!(waiting.recv().await.is_some());
        assert!(waiting.recv().await.is_none());
    }
}
