//! What waits to be written to one connection.

mod gates;

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use types::{ConversationId, GroupId};

use crate::frame::Burst;
use gates::Rare;

/// What a waiting chunk takes beside its bytes: its place in the queue.
const CHUNK_BYTES: usize = mem::size_of::<Bytes>();
/// Groups that a connection may have to join at once, at most.
const MAX_JOINS: usize = directory::MAX_GROUPS_PER_USER;

/// What waits to be written to one connection: whole frames, in order. It allocates nothing while it is empty, and
/// holds at most its limit: a connection that reads too slowly is closed instead.
///
/// Anybody may push. Only the connection's own task takes.
pub(crate) struct Outbox {
    state: Mutex<State>,
    limit_bytes: usize,
    /// Whether there may be groups to join: a glance that needs no lock.
    has_joins: AtomicBool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    /// Bytes that were pushed and are not yet written, those that the task has taken and those that are held back
    /// included.
    waiting_bytes: usize,
    waker: Option<Waker>,
    /// Whether the task sleeps until something is pushed.
    is_parked: bool,
    /// Why the connection ends, once it does. Then nothing more is taken in.
    ending: Option<Ending>,
    /// What few connections have, and those seldom.
    rare: Option<Box<Rare>>,
    /// Whether live events wait for the client to speak first: it may want to resume before them.
    is_early: bool,
    /// Whether the client has said that it wants to, so that they wait until it is known what comes before them.
    is_resuming: bool,
    /// Of a long-poll, which wants to know where something happens and not what: the conversations.
    heard: Option<BTreeSet<ConversationId>>,
}

/// A group that a connection is to join, or to leave: the directory decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    /// The group.
    pub(crate) group: GroupId,
    /// After which `seq` the user's access begins; `None` when it is only to be seen whether it goes on.
    pub(crate) after_seq: Option<u64>,
}

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a close frame.
    Close {
        /// The close code.
        code: u16,
        /// What the client should know, at most 123 bytes.
        reason: String,
        /// Whether what waits is still sent before the close frame.
        flush: bool,
    },
    /// At once: the client is gone, or had its time.
    Cut,
}

/// What [`Outbox::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Something to write.
    Chunks,
    /// Nothing; the task is woken when that changes.
    Nothing,
    /// The connection ends like this.
    Ending(Ending),
}

impl Outbox {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { state: Mutex::default(), limit_bytes, has_joins: AtomicBool::new(false) }
    }

    /// From now on notes where something happens, and keeps nothing else.
    pub(crate) fn only_hear(&self) {
        self.state.lock().heard = Some(BTreeSet::new());
    }

    /// Where something happened since this was last asked. When there is nothing, and the connection does not end,
    /// the task sleeps until that changes.
    pub(crate) fn poll_heard(&self, ctx: &Context<'_>) -> Poll<BTreeSet<ConversationId>> {
        let mut state = self.state.lock();
        state.listen(ctx);
        let heard = state.heard.as_mut().map(mem::take).unwrap_or_default();
        if heard.is_empty() && state.ending.is_none() { Poll::Pending } else { Poll::Ready(heard) }
    }

    /// Adds frames. Gives false when the connection is ending, or ends because this is too much.
    pub(crate) fn push(&self, frames: Bytes) -> bool {
        let mut state = self.state.lock();
        state.push(frames, self.limit_bytes)
    }

    /// Adds frames before everything else that waits.
    pub(crate) fn push_front(&self, frames: Bytes) {
        let mut state = self.state.lock();
        state.waiting_bytes += CHUNK_BYTES + frames.len();
        state.queue.push_front(frames);
        state.wake();
    }

    /// Adds live events of a conversation, or holds them back while there is a gate before it.
    pub(crate) fn deliver(&self, conversation: ConversationId, burst: &Burst) -> bool {
        let mut state = self.state.lock();
        if let Some(heard) = &mut state.heard {
            heard.insert(conversation);
            state.wake();
            return true;
        }
        if !state.count(burst.bytes.len(), self.limit_bytes) {
            return false;
        }
        if state.is_early && !state.is_resuming && state.waiting_bytes > self.limit_bytes / 2 {
            // Too much happens to wait any longer. A client that resumes gets it in order or not at all.
            state.pass_early();
        }
        state.pass(conversation, burst);
        true
    }

    /// Ends the connection. The first ending stands, except that a cut always cuts.
    pub(crate) fn end(&self, ending: Ending) {
        let mut state = self.state.lock();
        if state.ending.is_none() || ending == Ending::Cut {
            state.end(ending);
        }
    }

    /// Whether the connection is ending.
    pub(crate) fn is_ending(&self) -> bool {
        self.state.lock().ending.is_some()
    }

    /// Takes all that is still to be sent before the connection ends.
    pub(crate) fn take_rest(&self) -> VecDeque<Bytes> {
        mem::take(&mut self.state.lock().queue)
    }

    /// Takes all that waits into `chunks`, which must be empty, after `written_bytes` of what was taken before, in
    /// `written_chunks`, were written. When there is nothing the task sleeps and is woken by the next push.
    pub(crate) fn take(&self, ctx: &Context<'_>, written: Written, chunks: &mut VecDeque<Bytes>) -> Taken {
        let mut state = self.state.lock();
        state.listen(ctx);
        let written_bytes = written.bytes + CHUNK_BYTES * written.chunks;
        state.waiting_bytes = state.waiting_bytes.saturating_sub(written_bytes);
        if let Some(ending) = &state.ending {
            return Taken::Ending(ending.clone());
        }
        if state.queue.is_empty() {
            state.is_parked = true;
            *chunks = VecDeque::new();
            return Taken::Nothing;
        }
        mem::swap(&mut state.queue, chunks);
        Taken::Chunks
    }

    /// How the connection ends, if it does. The task is woken when that changes.
    pub(crate) fn ending(&self, ctx: &Context<'_>) -> Option<Ending> {
        let mut state = self.state.lock();
        state.listen(ctx);
        state.ending.clone()
    }

    /// How much a replay hands over at a time, in bytes: together with what may wait before, half of the limit.
    pub(crate) fn step_bytes(&self) -> usize {
        self.limit_bytes / 4
    }

    /// Whether so little waits to be written that a replay may go on. What is held back is not to be written before the
    /// replay is over.
    pub(crate) fn is_low(&self) -> bool {
        let state = self.state.lock();
        let held_bytes = state.rare.as_ref().map_or(0, |rare| rare.held_bytes);
        state.waiting_bytes.saturating_sub(held_bytes) < self.limit_bytes / 4
    }

    /// Lets the task go: nobody wakes it any more.
    pub(crate) fn forget_task(&self) {
        *self.state.lock() = State { ending: Some(Ending::Cut), ..State::default() };
    }
}

/// Groups to join.
impl Outbox {
    /// Has the connection's task join a group.
    pub(crate) fn ask_to_join(&self, join: Join) {
        let mut state = self.state.lock();
        if state.ending.is_some() {
            return;
        }
        if let Some(heard) = &mut state.heard {
            // Whoever only hears where something happens looks into the group by itself.
            heard.insert(join.group.into());
            return state.wake();
        }
        let joins = &mut state.rare().joins;
        if let Some(known) = joins.iter_mut().find(|known| known.group == join.group) {
            known.after_seq = known.after_seq.or(join.after_seq);
            return;
        }
        joins.push_back(join);
        self.has_joins.store(true, Ordering::Release);
        let is_too_many = joins.len() > MAX_JOINS;
        state.wake();
        if is_too_many {
            state.end(too_slow());
        }
    }

    /// Whether there may be groups to join.
    pub(crate) fn has_joins(&self) -> bool {
        self.has_joins.load(Ordering::Acquire)
    }

    /// The next group to join.
    pub(crate) fn next_join(&self) -> Option<Join> {
        let mut state = self.state.lock();
        self.has_joins.store(state.rare.as_ref().is_some_and(|rare| rare.joins.len() > 1), Ordering::Release);
        let join = state.rare.as_mut()?.joins.pop_front();
        state.tidy();
        join
    }
}

/// What was written since the last [`Outbox::take`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes.
    pub(crate) bytes: usize,
    /// Chunks of which nothing is left.
    pub(crate) chunks: usize,
}

fn too_slow() -> Ending {
    let reason = r#"{"reason":"too slow","resume":true}"#.to_owned();
    Ending::Close { code: super::TOO_SLOW, reason, flush: false }
}

impl State {
    fn push(&mut self, frames: Bytes, limit_bytes: usize) -> bool {
        if self.heard.is_some() {
            return true;
        }
        let fits = self.count(frames.len(), limit_bytes);
        if fits {
            self.enqueue(frames);
        }
        fits
    }

    /// Counts a chunk that is to wait. Ends the connection when that is too much. What nothing waits before is never
    /// too much: else a client would be sent away by one large event again and again.
    fn count(&mut self, bytes: usize, limit_bytes: usize) -> bool {
        if self.ending.is_some() {
            return false;
        }
        let is_first = self.waiting_bytes == 0;
        self.waiting_bytes += CHUNK_BYTES + bytes;
        if self.waiting_bytes > limit_bytes && !is_first {
            metrics::counter!("rookery_edge_slow_closes_total").increment(1);
            self.end(too_slow());
            return false;
        }
        true
    }

    fn uncount(&mut self, bytes: usize) {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
    }

    /// Queues a chunk that is counted.
    fn enqueue(&mut self, frames: Bytes) {
        self.queue.push_back(frames);
        if self.is_parked {
            self.wake();
        }
    }

    /// Queues those events of a burst that is counted that come after `after_seq`. Gives whether there are any.
    fn enqueue_after(&mut self, burst: &Burst, after_seq: u64) -> bool {
        let frames = burst.after(after_seq);
        if frames.is_empty() {
            self.uncount(CHUNK_BYTES + burst.bytes.len());
            return false;
        }
        self.uncount(burst.bytes.len() - frames.len());
        self.enqueue(frames);
        true
    }

    fn end(&mut self, ending: Ending) {
        self.pass_early();
        if !matches!(ending, Ending::Close { flush: true, .. }) {
            self.queue = VecDeque::new();
        }
        self.rare = None;
        self.ending = Some(ending);
        self.wake();
    }

    fn wake(&mut self) {
        self.is_parked = false;
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn listen(&mut self, ctx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(ctx.waker()),
            None => self.waker = Some(ctx.waker().clone()),
        }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives back memory that is needed seldom.
    fn tidy(&mut self) {
        let is_empty = |rare: &Rare| rare.gates.is_empty() && rare.joins.is_empty() && rare.early.is_empty();
        if self.rare.as_deref().is_some_and(is_empty) {
            self.rare = None;
        }
    }
}

#[cfg(test)]
mod tests;
