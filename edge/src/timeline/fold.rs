//! What events of the log do to messages that were read from history.

use std::collections::VecDeque;

use history::{Message, Order, Page, Tail};
use types::{Body, Entry, Event, EventId, Position, Timestamp};

/// The event of an entry. One that cannot be read is passed over: it is in the log, so the rest must go on.
pub(super) fn read(entry: &Entry) -> Option<Event> {
    let event = Event::decode(&entry.payload).ok();
    if event.is_none() {
        // What is wrong with it is not told: that may quote its text.
        tracing::error!(conversation = %entry.conversation, seq = entry.position.seq, "unreadable event");
    }
    event
}

/// The message that an event sends.
pub(crate) fn message(entry: &Entry, event: Event) -> Option<Message> {
    let Body::Message(content) = event.body else { return None };
    Some(Message {
        id: event.id,
        conversation: entry.conversation,
        seq: entry.position.seq,
        sender: event.sender,
        content,
        created_at: entry.at,
        updated_at: entry.at,
        deleted: false,
    })
}

/// What an event does to another event's message.
enum Change {
    Edit(String),
    Delete,
}

/// The message that an event changes, and how.
fn change(body: Body) -> Option<(EventId, Change)> {
    match body {
        Body::Edit { message, text } => Some((message, Change::Edit(text))),
        Body::Delete { message } => Some((message, Change::Delete)),
        _ => None,
    }
}

impl Change {
    /// A deleted message stays as it is.
    fn apply(self, at: Timestamp, message: &mut Message) {
        if message.deleted {
            return;
        }
        message.updated_at = at;
        match self {
            Self::Edit(text) => message.content.text = text,
            Self::Delete => (message.content, message.deleted) = (message.content.withdrawn(), true),
        }
    }
}

/// A page of messages over which events are folded. It never holds more than the page's limit.
pub(super) struct Window<'a> {
    page: &'a Page,
    /// In ascending order of `seq`, whatever the page's order.
    messages: VecDeque<Message>,
}

impl<'a> Window<'a> {
    /// Messages after `stored_seq` were stored while the page was read; they come again with the events.
    pub(super) fn new(page: &'a Page, stored_seq: u64, stored: Vec<Message>) -> Self {
        let mut messages: VecDeque<Message> = stored.into_iter().filter(|message| message.seq <= stored_seq).collect();
        if page.order == Order::Desc {
            messages.make_contiguous().reverse();
        }
        Self { page, messages }
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        let Some(event) = read(entry) else { return };
        if matches!(event.body, Body::Message(_)) {
            if self.wants(entry, &event) {
                self.messages.extend(message(entry, event));
                self.shrink();
            }
            return;
        }
        let Some((id, change)) = change(event.body) else { return };
        if let Some(message) = self.messages.iter_mut().find(|message| message.id == id) {
            change.apply(entry.at, message);
        }
    }

    fn wants(&self, entry: &Entry, event: &Event) -> bool {
        let (page, seq) = (self.page, entry.position.seq);
        let is_full = page.order == Order::Asc && self.messages.len() >= page.limit;
        !is_full
            && page.before_seq.is_none_or(|before| seq < before)
            && page.after_seq.is_none_or(|after| seq > after)
            && page.since.is_none_or(|since| entry.at >= since)
            && page.sender.is_none_or(|sender| event.sender == sender)
    }

    fn shrink(&mut self) {
        if self.messages.len() > self.page.limit {
            self.messages.pop_front();
        }
    }

    pub(super) fn into_messages(self) -> Vec<Message> {
        let mut messages = Vec::from(self.messages);
        if self.page.order == Order::Desc {
            messages.reverse();
        }
        messages
    }
}

/// One message, found in history or still to be found.
pub(super) struct One {
    id: EventId,
    message: Option<Message>,
}

impl One {
    pub(super) fn new(id: EventId, message: Option<Message>) -> Self {
        Self { id, message }
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        let Some(event) = read(entry) else { return };
        if event.id == self.id {
            self.message = message(entry, event);
            return;
        }
        match (change(event.body), &mut self.message) {
            (Some((id, change)), Some(message)) if id == self.id => change.apply(entry.at, message),
            _ => {}
        }
    }

    pub(super) fn into_message(self) -> Option<Message> {
        self.message
    }
}

/// The end of a conversation.
pub(super) struct Last {
    message: Option<Message>,
    end: Option<(Position, Timestamp)>,
}

impl Last {
    pub(super) fn new(stored: Option<Tail>) -> Self {
        match stored {
            Some(tail) => Self { message: tail.last_message, end: Some((tail.position, tail.at)) },
            None => Self { message: None, end: None },
        }
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        self.end = Some((entry.position, entry.at));
        let Some(event) = read(entry) else { return };
        if matches!(event.body, Body::Message(_)) {
            self.message = message(entry, event);
            return;
        }
        match (change(event.body), &mut self.message) {
            (Some((id, change)), Some(message)) if id == message.id => change.apply(entry.at, message),
            _ => {}
        }
    }

    pub(super) fn into_tail(self) -> Option<Tail> {
        let Self { message, end } = self;
        end.map(|(position, at)| Tail { position, at, last_message: message })
    }
}
