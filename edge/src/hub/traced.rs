//! Spans of events on their way to the connections: one per event whose trace is recorded, not one per receiver.

use std::collections::BTreeMap;

use log::trace;
use tracing::{Span, field};
use types::{ConversationId, Entry};

/// Events that were gathered and are not yet handed out. Empty, and without memory, while no trace is recorded.
#[derive(Default)]
pub(super) struct Traced {
    spans: BTreeMap<(ConversationId, u64), FanOut>,
}

struct FanOut {
    span: Span,
    receivers: usize,
}

impl Traced {
    /// An event was gathered. One of a direct conversation comes for each of its users and has one span in all.
    pub(super) fn begin(&mut self, entry: &Entry) {
        let Some(parent) = entry.trace else { return };
        let (conversation, seq) = (entry.conversation, entry.position.seq);
        if self.spans.contains_key(&(conversation, seq)) {
            return;
        }
        let span = log::trace_span!(
            "fan-out",
            otel.kind = "consumer",
            conversation.kind = conversation.kind(),
            seq,
            receivers = field::Empty
        );
        if span.is_disabled() {
            return;
        }
        trace::follow(&span, parent);
        self.spans.insert((conversation, seq), FanOut { span, receivers: 0 });
    }

    /// These events were handed to so many connections.
    pub(super) fn note(&mut self, entries: &[Entry], receivers: usize) {
        if self.spans.is_empty() {
            return;
        }
        for entry in entries {
            if let Some(fan_out) = self.spans.get_mut(&(entry.conversation, entry.position.seq)) {
                fan_out.receivers += receivers;
            }
        }
    }

    /// All that was gathered was handed out.
    pub(super) fn end(&mut self) {
        for FanOut { span, receivers } in std::mem::take(&mut self.spans).into_values() {
            span.record("receivers", receivers);
        }
    }
}
