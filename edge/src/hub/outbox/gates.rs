//! What holds live events back: until the client has spoken, while older ones of their conversation are sent, or while it
//! is in doubt whether the user may still see them.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use bytes::Bytes;
use types::ConversationId;

use super::{CHUNK_BYTES, Join, Outbox, State};
use crate::frame::Burst;

/// What few connections have, and those seldom.
#[derive(Default)]
pub(super) struct Rare {
    pub(super) gates: BTreeMap<ConversationId, Gate>,
    pub(super) joins: VecDeque<Join>,
    /// Live events that wait for the client to speak.
    pub(super) early: Vec<(ConversationId, Burst)>,
    /// What the events take that are held back: those in `early` and behind closed gates.
    pub(super) held_bytes: usize,
}

/// Stands before a conversation's live events while older ones are sent, and for a little while after.
pub(super) enum Gate {
    /// Holds them back. Those up to `floor` were sent already. `is_doubt` tells that it is not known whether the user
    /// may still see them; else older ones are being sent.
    Closed { held: Vec<Burst>, floor: u64, is_doubt: bool },
    /// Lets those after this `seq` pass, and is taken away by the first. The others were sent already: the log was
    /// read faster than its feed.
    Open(u64),
}

/// What a burst that waits takes, in bytes.
fn size(burst: &Burst) -> usize {
    CHUNK_BYTES + burst.bytes.len()
}

impl Outbox {
    /// Has live events wait until [`Outbox::speak`].
    pub(crate) fn listen_first(&self) {
        self.state.lock().is_early = true;
    }

    /// The client resumes: however long it takes to find out what it missed, live events wait for that.
    pub(crate) fn resume(&self) {
        self.state.lock().is_resuming = true;
    }

    /// The client had its time to speak: live events wait no longer, unless it resumes.
    pub(crate) fn stop_waiting(&self) {
        let mut state = self.state.lock();
        if !state.is_resuming {
            state.pass_early();
        }
    }

    /// The client has spoken: live events wait no longer, except behind the gates of these conversations, which it
    /// wants from an earlier place.
    pub(crate) fn speak(&self, gated: impl IntoIterator<Item = ConversationId>) {
        let mut state = self.state.lock();
        state.is_resuming = false;
        for conversation in gated {
            state.close_gate(conversation, false);
        }
        // Each goes behind its gate now, if it has one.
        state.pass_early();
    }

    /// Holds back the conversation's live events from here on, for older ones are to be sent first.
    pub(crate) fn gate(&self, conversation: ConversationId) {
        self.state.lock().hold(conversation, false);
    }

    /// Holds back the conversation's live events from here on, until it is known whether the user may still see them.
    /// Gives false when they are held back already.
    pub(crate) fn doubt(&self, conversation: ConversationId) -> bool {
        self.state.lock().hold(conversation, true)
    }

    /// The doubt was unfounded. What is held back stays so until [`Outbox::release`].
    pub(crate) fn believe(&self, conversation: ConversationId) {
        if let Some(Gate::Closed { is_doubt, .. }) = self.state.lock().gate(conversation) {
            *is_doubt = false;
        }
    }

    /// Adds a frame about what somebody does in a conversation at this moment. It is dropped where live events are held
    /// back: when they come, the moment is over, and it may not be the user's to see.
    pub(crate) fn mention(&self, conversation: ConversationId, frame: Bytes) {
        let mut state = self.state.lock();
        if !matches!(state.gate(conversation), Some(Gate::Closed { .. })) {
            state.push(frame, self.limit_bytes);
        }
    }

    /// Whether nothing that was handed to the connection is held back: neither behind a gate, nor until the client
    /// speaks or a group is joined.
    pub(crate) fn holds_nothing_back(&self) -> bool {
        let state = self.state.lock();
        let is_closed = |gate: &Gate| matches!(gate, Gate::Closed { .. });
        let has_rare = |rare: &Rare| !rare.joins.is_empty() || rare.gates.values().any(is_closed);
        !state.is_early && !state.rare.as_deref().is_some_and(has_rare)
    }

    /// The conversations of which something is held back, and up to which `seq` nothing is.
    pub(crate) fn held_back(&self) -> Vec<(ConversationId, u64)> {
        let state = self.state.lock();
        let Some(rare) = state.rare.as_deref() else { return Vec::new() };
        let joins = rare.joins.iter().filter_map(|join| Some((join.group.into(), join.after_seq?)));
        let gates = rare.gates.iter().filter_map(|(conversation, gate)| match gate {
            Gate::Closed { held, .. } => Some((*conversation, held.first()?.first_seq().saturating_sub(1))),
            Gate::Open(_) => None,
        });
        joins.chain(gates).collect()
    }

    /// Whether it is not known whether the user may still see the conversation.
    pub(crate) fn is_in_doubt(&self, conversation: ConversationId) -> bool {
        matches!(self.state.lock().gate(conversation), Some(Gate::Closed { is_doubt: true, .. }))
    }

    /// Adds older events of a conversation whose live ones are held back. Gives false, and sends nothing, when they
    /// are not: the user may no longer see them.
    pub(crate) fn replay(&self, conversation: ConversationId, burst: Burst) -> bool {
        let mut state = self.state.lock();
        let is_gated = matches!(state.gate(conversation), Some(Gate::Closed { .. }));
        is_gated && state.push(burst.bytes, self.limit_bytes)
    }

    /// Lets live events pass again, and first those that were held back, but none that is not after `after_seq`.
    /// `is_passed` tells that the feed has delivered everything up to there. Gives false when nothing was held back.
    pub(crate) fn release(&self, conversation: ConversationId, after_seq: u64, is_passed: bool) -> bool {
        let mut state = self.state.lock();
        let Some(Gate::Closed { held, floor, .. }) = state.remove_gate(conversation) else { return false };
        let after_seq = after_seq.max(floor);
        let is_passed = is_passed && (floor == 0 || after_seq > floor)
            || held.last().is_some_and(|burst| burst.last_seq() > after_seq);
        state.let_go(&held);
        for burst in &held {
            state.enqueue_after(burst, after_seq);
        }
        if !is_passed && state.ending.is_none() {
            state.rare().gates.insert(conversation, Gate::Open(after_seq));
        }
        true
    }

    /// Takes the gate away, if there is one, and all of the conversation that waits before it is queued.
    pub(crate) fn discard(&self, conversation: ConversationId) {
        let mut state = self.state.lock();
        let mut dropped = state.take_early(conversation);
        if let Some(Gate::Closed { held, .. }) = state.remove_gate(conversation) {
            dropped.extend(held);
        }
        state.let_go(&dropped);
        state.uncount(dropped.iter().map(size).sum());
        state.tidy();
    }
}

impl State {
    /// Queues a burst that is counted, or holds it back.
    pub(super) fn pass(&mut self, conversation: ConversationId, burst: &Burst) {
        let is_early = self.is_early;
        match self.gate(conversation) {
            None if is_early => {
                let rare = self.rare();
                rare.early.push((conversation, burst.clone()));
                rare.held_bytes += size(burst);
            }
            None => self.enqueue(burst.bytes.clone()),
            Some(Gate::Closed { held, .. }) => {
                held.push(burst.clone());
                self.rare().held_bytes += size(burst);
            }
            Some(Gate::Open(after_seq)) => {
                let after_seq = *after_seq;
                if self.enqueue_after(burst, after_seq) {
                    self.remove_gate(conversation);
                }
            }
        }
    }

    /// The events of a conversation that wait for the client to speak. They stay counted as held back.
    fn take_early(&mut self, conversation: ConversationId) -> Vec<Burst> {
        let Some(rare) = &mut self.rare else { return Vec::new() };
        rare.early.extract_if(.., |(of, _)| *of == conversation).map(|(_, burst)| burst).collect()
    }

    /// Lets go of what waits for the client to speak, except behind gates.
    pub(super) fn pass_early(&mut self) {
        self.is_early = false;
        let early = self.rare.as_mut().map(|rare| mem::take(&mut rare.early)).unwrap_or_default();
        for (conversation, burst) in early {
            self.let_go(std::slice::from_ref(&burst));
            self.pass(conversation, &burst);
        }
        self.tidy();
    }

    /// These are held back no longer.
    fn let_go(&mut self, held: &[Burst]) {
        if let Some(rare) = &mut self.rare {
            let bytes = held.iter().map(size).sum();
            rare.held_bytes = rare.held_bytes.saturating_sub(bytes);
        }
    }

    pub(super) fn gate(&mut self, conversation: ConversationId) -> Option<&mut Gate> {
        self.rare.as_mut()?.gates.get_mut(&conversation)
    }

    /// Holds back the conversation's live events, those too that wait for the client to speak. Gives false when they are
    /// held back already.
    fn hold(&mut self, conversation: ConversationId, is_doubt: bool) -> bool {
        let is_new = self.close_gate(conversation, is_doubt);
        let early = self.take_early(conversation);
        if let Some(Gate::Closed { held, .. }) = self.gate(conversation) {
            held.extend(early);
        }
        is_new
    }

    /// Closes the gate for what comes. Gives false when it was closed already.
    fn close_gate(&mut self, conversation: ConversationId, is_doubt: bool) -> bool {
        let floor = match self.gate(conversation) {
            Some(Gate::Closed { .. }) => return false,
            Some(Gate::Open(after_seq)) => *after_seq,
            None => 0,
        };
        self.rare().gates.insert(conversation, Gate::Closed { held: Vec::new(), floor, is_doubt });
        true
    }

    fn remove_gate(&mut self, conversation: ConversationId) -> Option<Gate> {
        let gate = self.rare.as_mut()?.gates.remove(&conversation);
        self.tidy();
        gate
    }
}
