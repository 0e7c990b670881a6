//! What an event of the log means to a history.

use serde::Deserialize;
use types::{Body, Entry, Event, EventId, UserId};

/// An event, as far as it can be read.
pub(crate) struct Reading {
    /// Its id, if it has one.
    pub(crate) id: Option<EventId>,
    /// What it does, if it is the first event of its id.
    pub(crate) effect: Effect,
}

/// What an event does to a conversation's messages.
pub(crate) enum Effect {
    /// It is a message.
    Message {
        /// Who sent it.
        sender: UserId,
    },
    /// It changes an earlier message.
    Change {
        /// Which.
        message: EventId,
        /// The new text; `None` when the message is deleted.
        text: Option<String>,
    },
    /// Nothing; it is kept.
    Nothing,
}

impl Reading {
    /// Reads an event. What cannot be read must not stop what can: it is kept as it is, and its id, if it has
    /// one, is used.
    pub(crate) fn of(entry: &Entry) -> Self {
        if let Ok(Event { id, sender, body }) = Event::decode(&entry.payload) {
            let effect = match body {
                Body::Message(_) => Effect::Message { sender },
                Body::Edit { message, text } => Effect::Change { message, text: Some(text) },
                Body::Delete { message } => Effect::Change { message, text: None },
                _ => Effect::Nothing,
            };
            return Self { id: Some(id), effect };
        }
        let (conversation, seq) = (entry.conversation, entry.position.seq);
        tracing::warn!(%conversation, seq, "an event cannot be read; it is kept as it is");
        metrics::counter!("rookery_history_unreadable_events_total").increment(1);
        let id = serde_json::from_slice::<Identified>(&entry.payload).ok().map(|event| event.id);
        Self { id, effect: Effect::Nothing }
    }
}

/// An event of which nothing else can be read.
#[derive(Deserialize)]
struct Identified {
    id: EventId,
}
