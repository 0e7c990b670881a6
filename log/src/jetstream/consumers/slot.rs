//! What a process knows of one shard for one role.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Subject;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use types::Entry;

use super::puller;
use crate::jetstream::connection::Connection;
use crate::jetstream::reading::Reading;
use crate::{Consumer, Error, Result};

/// A shard that nobody in this process has asked for so long is left to others.
const INTEREST: Duration = Duration::from_secs(60);

/// One shard.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    /// Fetches that wait.
    waiting: AtomicUsize,
    /// Something was put in, or taken away: for those who fetch.
    pub(super) changed: Notify,
    /// There is room, or it is to begin anew: for the puller.
    pub(super) wanted: Notify,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// Something was given of which nobody will take the acknowledgement: the next fetch fails.
    is_lost: bool,
    touched: Option<Instant>,
}

/// While this process has the lease.
struct Held {
    revision: u64,
    until: Instant,
    /// `None` until the server has told how far the role is.
    acked: Option<u64>,
    given: u64,
    buffer: VecDeque<Entry>,
    /// How each event that came is acknowledged, in order of `seq`.
    replies: VecDeque<(u64, Subject)>,
    /// The puller is to begin anew.
    is_rewound: bool,
}

/// What a fetch finds.
pub(super) enum Taken {
    /// Events.
    Entries(Vec<Entry>),
    /// It has to wait.
    Nothing,
    /// The shard went to another process, with events that were given and not acknowledged.
    Lost,
}

/// While it lives, a fetch waits.
pub(super) struct Waiting<'a>(&'a Slot);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.touch();
    }
}

impl Slot {
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(self)
    }

    fn touch(&self) {
        self.state.lock().touched = Some(Instant::now());
    }

    /// Whether somebody in this process reads the shard.
    pub(super) fn is_wanted(&self) -> bool {
        let is_recent = |touched: Instant| touched.elapsed() < INTEREST;
        self.waiting.load(Ordering::Acquire) > 0 || self.state.lock().touched.is_some_and(is_recent)
    }

    /// The revision of the lease, if it is held and can still be relied on.
    pub(super) fn revision(&self) -> Option<u64> {
        self.state.lock().held.as_ref().map(|held| held.revision)
    }

    /// Whether there is a lease that has run out.
    pub(super) fn has_run_out(&self) -> bool {
        self.state.lock().held.as_ref().is_some_and(|held| held.until <= Instant::now())
    }

    /// The lease was taken, or kept.
    pub(super) fn hold(&self, revision: u64, until: Instant) {
        let mut state = self.state.lock();
        match &mut state.held {
            Some(held) => (held.revision, held.until) = (revision, until),
            None => {
                let (buffer, replies) = (VecDeque::new(), VecDeque::new());
                let held = Held { revision, until, acked: None, given: 0, buffer, replies, is_rewound: false };
                state.held = Some(held);
            }
        }
    }

    /// The lease was lost or is to be given back. Gives its revision.
    pub(super) fn let_go(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let held = state.held.take()?;
        state.is_lost |= held.acked.is_some_and(|acked| held.given > acked);
        drop(state);
        self.changed.notify_waiters();
        Some(held.revision)
    }

    /// Gives what comes next.
    pub(super) fn take(&self, limit: usize) -> Taken {
        let mut state = self.state.lock();
        state.touched = Some(Instant::now());
        if std::mem::take(&mut state.is_lost) {
            return Taken::Lost;
        }
        let Some(held) = state.held.as_mut().filter(|held| held.until > Instant::now()) else { return Taken::Nothing };
        let count = limit.min(held.buffer.len());
        if count == 0 {
            return Taken::Nothing;
        }
        let entries: Vec<Entry> = held.buffer.drain(..count).collect();
        held.given = entries.last().map_or(held.given, |last| last.position.seq);
        drop(state);
        self.wanted.notify_one();
        Taken::Entries(entries)
    }

    /// How `seq` is acknowledged. `None` when it is already, `Some(None)` when the server has not sent it since the
    /// last beginning.
    #[expect(clippy::option_option, reason = "done already, not at hand, or at hand: each asks for something else")]
    pub(super) fn place_of_ack(&self, seq: u64) -> Result<Option<Option<Subject>>> {
        let mut state = self.state.lock();
        state.touched = Some(Instant::now());
        let acked = state.held.as_ref().and_then(|held| held.acked.map(|acked| (held, acked)));
        let Some((held, acked)) = acked else {
            return Err(Error::Unavailable("another process reads this shard now".into()));
        };
        if seq <= acked {
            return Ok(None);
        }
        let found = held.replies.binary_search_by_key(&seq, |(seq, _)| *seq);
        Ok(Some(found.ok().map(|index| held.replies[index].1.clone())))
    }

    /// Acknowledges by telling the server to go on after `seq`.
    pub(super) async fn skip_to(
        &self,
        connection: &Connection,
        reading: &Reading,
        consumer: Consumer,
        seq: u64,
    ) -> Result<()> {
        puller::reset(connection, reading, consumer, seq + 1).await?;
        // First, for the puller begins anew behind what is acknowledged.
        self.acknowledged(seq);
        if let Some(held) = &mut self.state.lock().held {
            held.is_rewound = true;
        }
        self.wanted.notify_one();
        Ok(())
    }

    /// Everything up to `seq` is acknowledged.
    pub(super) fn acknowledged(&self, seq: u64) {
        let mut state = self.state.lock();
        let Some(held) = &mut state.held else { return };
        held.acked = held.acked.map(|acked| acked.max(seq));
        held.given = held.given.max(seq);
        while held.replies.front().is_some_and(|(first, _)| *first <= seq) {
            held.replies.pop_front();
        }
        while held.buffer.front().is_some_and(|first| first.position.seq <= seq) {
            held.buffer.pop_front();
        }
    }

    /// What was given and is not acknowledged is to be given again.
    pub(super) fn rewind(&self) {
        let mut state = self.state.lock();
        state.touched = Some(Instant::now());
        state.is_lost = false;
        let Some(held) = &mut state.held else { return };
        if held.acked.is_none_or(|acked| acked == held.given) {
            return;
        }
        held.begin_anew();
        held.is_rewound = true;
        drop(state);
        self.wanted.notify_one();
    }

    /// The server has told how far the role is, and sends from there.
    pub(super) fn begin(&self, acked: u64) {
        let mut state = self.state.lock();
        let Some(held) = &mut state.held else { return };
        held.acked = Some(acked.max(held.acked.unwrap_or(0)));
        held.is_rewound = false;
        held.begin_anew();
    }

    /// After which `seq` the server is to send; `None` when it alone knows.
    pub(super) fn acked(&self) -> Option<u64> {
        self.state.lock().held.as_ref().and_then(|held| held.acked)
    }

    pub(super) fn is_rewound(&self) -> bool {
        self.state.lock().held.as_ref().is_none_or(|held| held.is_rewound)
    }

    /// Events that wait.
    pub(super) fn buffered(&self) -> usize {
        self.state.lock().held.as_ref().map_or(0, |held| held.buffer.len())
    }

    /// Adds events that came, which follow on what is there.
    pub(super) fn put(&self, entries: Vec<Entry>, replies: Vec<(u64, Subject)>) {
        let mut state = self.state.lock();
        let Some(held) = state.held.as_mut().filter(|held| !held.is_rewound) else { return };
        held.replies.extend(replies);
        let given = held.given;
        held.buffer.extend(entries.into_iter().filter(|entry| entry.position.seq > given));
        drop(state);
        self.changed.notify_waiters();
    }
}

impl Held {
    fn begin_anew(&mut self) {
        self.buffer.clear();
        self.replies.clear();
        self.given = self.acked.unwrap_or(0);
    }
}
