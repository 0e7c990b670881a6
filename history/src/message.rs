//! How a message is read from what is stored of it.

use types::{Body, ConversationId, Event, Timestamp};

use crate::{Error, Message, Result};

impl Message {
    /// The message at a place in a conversation in its present state: its event as the log stored it `at`, and
    /// when it last changed, with the new text, or `None` when it was deleted.
    pub(crate) fn present(
        (conversation, seq): (ConversationId, u64),
        at: Timestamp,
        payload: &[u8],
        change: Option<(Timestamp, Option<String>)>,
    ) -> Result<Self> {
        let Ok(Event { id, sender, body: Body::Message(mut content) }) = Event::decode(payload) else {
            return Err(Error::Damaged(format!("the row of message {seq} of {conversation} holds no message")));
        };
        let updated_at = change.as_ref().map_or(at, |(changed_at, _)| *changed_at);
        let deleted = matches!(change, Some((_, None)));
        match change {
            Some((_, Some(text))) => content.text = text,
            Some((_, None)) => content = content.withdrawn(),
            None => {}
        }
        Ok(Self { id, conversation, seq, sender, content, created_at: at, updated_at, deleted })
    }
}
