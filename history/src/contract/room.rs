//! A conversation in which things happen.

use std::time::Duration;

use bytes::Bytes;
use types::{Body, ConversationId, Entry, Epoch, Event, EventId, Position, Region, Timestamp, UserId};

use super::{EPOCH, PAGE, group, text, user};
use crate::{History, Tail};

/// A conversation in which things happen, as a log would store them.
pub(crate) struct Room {
    pub(crate) conversation: ConversationId,
    pub(crate) epoch: Epoch,
    pub(crate) sender: UserId,
    pub(crate) seq: u64,
    /// How much later things happen than they would.
    pub(crate) later: Duration,
    /// What has happened since the last [`Room::store`].
    pub(crate) entries: Vec<Entry>,
}

/// Where and when something happened.
pub(crate) struct Happened {
    pub(crate) id: EventId,
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self::of(group())
    }

    pub(crate) fn of(conversation: ConversationId) -> Self {
        Self { conversation, epoch: EPOCH, sender: user(), seq: 0, later: Duration::ZERO, entries: Vec::new() }
    }

    pub(crate) fn say(&mut self, words: &str) -> Happened {
        self.add(Body::Message(text(words)))
    }

    pub(crate) fn edit(&mut self, message: EventId, text: &str) -> Happened {
        self.add(Body::Edit { message, text: text.into() })
    }

    pub(crate) fn delete(&mut self, message: EventId) -> Happened {
        self.add(Body::Delete { message })
    }

    pub(crate) fn add(&mut self, body: Body) -> Happened {
        self.add_as(EventId::generate(Region::default()), body)
    }

    pub(crate) fn add_as(&mut self, id: EventId, body: Body) -> Happened {
        let seq = self.add_payload(Event { id, sender: self.sender, body }.encode());
        Happened { id, seq, at: at(seq).plus(self.later) }
    }

    pub(crate) fn add_payload(&mut self, payload: Bytes) -> u64 {
        let (prev, seq) = (self.seq, self.seq + 1);
        let position = Position { epoch: self.epoch, seq };
        self.entries.push(Entry {
            conversation: self.conversation,
            position,
            prev,
            at: at(seq).plus(self.later),
            payload,
            trace: None,
        });
        self.seq = seq;
        seq
    }

    pub(crate) async fn store(&mut self, history: &dyn History) -> Vec<Entry> {
        let entries = std::mem::take(&mut self.entries);
        history.store(&entries).await.unwrap();
        entries
    }

    pub(crate) async fn texts(&self, history: &dyn History) -> Vec<String> {
        let messages = history.messages(self.conversation, &PAGE).await.unwrap();
        messages.into_iter().map(|message| message.content.text).collect()
    }

    pub(crate) async fn events(&self, history: &dyn History) -> Vec<Entry> {
        history.events(self.conversation, 0, 100).await.unwrap()
    }

    pub(crate) async fn tail(&self, history: &dyn History) -> Option<Tail> {
        history.tails(&[self.conversation]).await.unwrap().remove(0)
    }
}

fn at(seq: u64) -> Timestamp {
    Timestamp::from_millis(1_760_000_000_000).plus(Duration::from_secs(seq))
}
