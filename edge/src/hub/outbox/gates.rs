//! What stands before a conversation's live events while older ones are sent, or while it is in doubt whether the user
//! may still see them.

use types::ConversationId;

use super::{CHUNK_BYTES, Gate, Outbox, Rare};
use crate::frame::Burst;

impl Outbox {
    /// Holds back the conversation's live events from here on, for older ones are to be sent first.
    pub(crate) fn gate(&self, conversation: ConversationId) {
        self.state.lock().close_gate(conversation, false);
    }

    /// Holds back the conversation's live events from here on, until it is known whether the user may still see them.
    /// Gives false when they are held back already.
    pub(crate) fn doubt(&self, conversation: ConversationId) -> bool {
        self.state.lock().close_gate(conversation, true)
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
        state.uncount(dropped.iter().map(|burst| CHUNK_BYTES + burst.bytes.len()).sum());
        state.tidy();
    }
}
