//! The queue between a feed's task and its reader.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::jetstream::connection::closed;
use crate::{Delivery, Result};

/// Deliveries that wait, at most. Then the task stops reading from the server.
const MOST: usize = 16_384;
/// The same in bytes.
const MOST_BYTES: usize = 16 << 20;

/// Deliveries that wait for the reader. One pushes, one takes.
#[derive(Default)]
pub(super) struct Outlet {
    queue: Mutex<Queue>,
    arrived: Notify,
    taken: Notify,
}

#[derive(Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    is_closed: bool,
}

impl Outlet {
    /// Adds what is in `deliveries`. It may come to hold more than its bound by that much.
    pub(super) fn push(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        queue.bytes += deliveries.iter().map(bytes).sum::<usize>();
        queue.deliveries.extend(deliveries.drain(..));
        drop(queue);
        self.arrived.notify_one();
    }

    pub(super) fn has_room(&self) -> bool {
        let queue = self.queue.lock();
        queue.deliveries.len() < MOST && queue.bytes < MOST_BYTES
    }

    /// Waits until there is room. Cancel-safe.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            self.taken.notified().await;
        }
    }

    /// Waits for deliveries and moves up to `limit` of them to the end of `batch`. Cancel-safe.
    pub(super) async fn take(&self, batch: &mut Vec<Delivery>, limit: usize) -> Result<()> {
        while !self.take_now(batch, limit)? {
            self.arrived.notified().await;
        }
        Ok(())
    }

    /// Whether there was anything.
    fn take_now(&self, batch: &mut Vec<Delivery>, limit: usize) -> Result<bool> {
        let mut queue = self.queue.lock();
        let count = limit.min(queue.deliveries.len());
        if count == 0 {
            return if queue.is_closed { Err(closed()) } else { Ok(false) };
        }
        let before = batch.len();
        batch.extend(queue.deliveries.drain(..count));
        queue.bytes -= batch[before..].iter().map(bytes).sum::<usize>();
        self.taken.notify_one();
        Ok(true)
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.queue.lock().is_closed = true;
        self.arrived.notify_one();
    }
}

fn bytes(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Event { entry, .. } => entry.payload.len(),
        Delivery::Notice { notice, .. } => notice.len(),
        Delivery::Interrupted | Delivery::Lost => 0,
    }
}
