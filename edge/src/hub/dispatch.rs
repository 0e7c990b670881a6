//! The task that reads the log's feed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use log::{Delivery, Feed, Topic};
use tokio_util::sync::CancellationToken;
use types::{Body, ConversationId, Entry, Event, Notice, UserId};

use super::Hub;
use super::traced::Traced;
use crate::frame::{self, Burst};

/// Deliveries that are read at a time.
const BATCH: usize = 1_024;
/// How long a busy edge rests between two batches. Under load those who were written to answer within this time, so
/// that one write carries what would have been two; an edge with little to do never waits.
const LINGER: Duration = Duration::from_millis(1);
/// Payloads that are gathered before they are handed out, in bytes. A burst stays far below an outbox's limit.
const GATHERED_BYTES: usize = 128 * 1024;

/// Hands what the feed delivers to the connections.
pub(super) struct Dispatcher {
    hub: Arc<Hub>,
    feed: Feed,
    gathered: Gathered,
    /// The last `seq` of each shard that came.
    seen: Vec<u64>,
    /// Whether the last batch was there before it was waited for.
    is_busy: bool,
    deliveries: metrics::Counter,
    bytes: metrics::Counter,
}

/// Events that wait to be handed out: those of one topic and conversation together, in order.
#[derive(Default)]
struct Gathered {
    groups: Vec<(Topic, Vec<Entry>)>,
    index: HashMap<(Topic, ConversationId), usize>,
    bytes: usize,
    traced: Traced,
}

impl Dispatcher {
    pub(super) fn new(hub: Arc<Hub>, feed: Feed) -> Self {
        let seen = vec![0; hub.progress.vector().seqs.len()];
        Self {
            hub,
            feed,
            gathered: Gathered::default(),
            seen,
            is_busy: false,
            deliveries: metrics::counter!("rookery_edge_deliveries_total"),
            bytes: metrics::counter!("rookery_edge_delivered_bytes_total"),
        }
    }

    /// Runs until `shutdown`, or until the feed ends: then all connections are sent away, for this edge is deaf.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            match shutdown.run_until_cancelled(self.next_batch(&mut batch)).await {
                None => return,
                Some(Ok(())) => self.dispatch(&mut batch).await,
                Some(Err(error)) => {
                    tracing::error!(%error, "the feed has ended; this edge serves no live events any more");
                    self.hub.close();
                    return;
                }
            }
            // Those who were woken write now. What comes meanwhile is the next batch, so under load batches grow.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for deliveries; after those that were there already, rests before it looks for more. What is taken is handed
    /// out at once: the log tells whoever appended it at this moment, so one write carries the acknowledgement with it.
    async fn next_batch(&mut self, batch: &mut Vec<Delivery>) -> Result<(), log::Error> {
        if std::mem::take(&mut self.is_busy) {
            tokio::time::sleep(LINGER).await;
        }
        if let Some(waiting) = self.feed.next_batch(batch, BATCH).now_or_never() {
            self.is_busy = true;
            return waiting;
        }
        self.feed.next_batch(batch, BATCH).await
    }

    async fn dispatch(&mut self, batch: &mut Vec<Delivery>) {
        let entries = batch.iter_mut().filter_map(|delivery| match delivery {
            Delivery::Event { entry, .. } => Some(entry),
            _ => None,
        });
        self.hub.timeline.complete_live_prevs(entries).await;
        for delivery in batch.drain(..) {
            match delivery {
                Delivery::Event { topic, entry } => self.event(topic, entry),
                Delivery::Notice { topic, notice } => self.notice(topic, &notice),
                Delivery::Interrupted => {
                    self.flush();
                    self.reach();
                    self.hub.interrupted();
                }
                Delivery::Lost => {
                    self.flush();
                    self.hub.start_anew();
                }
            }
            if self.gathered.bytes >= GATHERED_BYTES {
                self.flush();
                tokio::task::yield_now().await;
            }
        }
        self.flush();
        self.reach();
        batch.shrink_to(BATCH);
    }

    /// Everything that was seen has been handed out.
    fn reach(&self) {
        for (shard, seq) in self.seen.iter().enumerate() {
            self.hub.progress.reach(shard, *seq);
        }
    }

    fn event(&mut self, topic: Topic, entry: Entry) {
        let seq = entry.position.seq;
        let shard = self.hub.progress.shard_of(entry.conversation);
        if let Some(seen) = self.seen.get_mut(shard) {
            *seen = seq.max(*seen);
        }
        let change = match entry.conversation {
            ConversationId::Group(group) => change_of_members(&entry.payload).map(|body| (group, body)),
            ConversationId::Direct(..) => None,
        };
        self.gathered.add(topic, entry);
        let Some((group, body)) = change else { return };
        // Everybody in the room sees this event, and nothing later before it has taken effect.
        self.flush();
        match body {
            Body::MemberAdded { user } => self.hub.added(group, user, seq.saturating_sub(1)),
            Body::MemberRemoved { user } => self.hub.removed(group, user),
            _ => {}
        }
    }

    fn notice(&mut self, topic: Topic, notice: &[u8]) {
        let Some(notice) = Notice::decode(notice) else { return };
        match notice {
            Notice::MemberAdded { group, user, seq } => self.hub.added(group, user, seq.saturating_sub(1)),
            Notice::MemberRemoved { group, user } => {
                self.flush();
                self.hub.doubted(group, user);
            }
            Notice::SessionRevoked { user, session } => self.hub.revoked(user, session),
            Notice::Typing { conversation, user } => self.show_typing(topic, conversation, user),
            Notice::Read { conversation, seq } => self.show(topic, frame::read(conversation, seq), None),
            Notice::DirectoryChanged { version } => self.hub.directory.catch_up(directory::Version(version)),
            Notice::ReadByPeer { conversation, user, seq } => {
                self.show(topic, frame::read_by(conversation, user, seq), Some(user));
            }
            Notice::Delivered { conversation, user, seq } => {
                self.show(topic, frame::delivered(conversation, user, seq), Some(user));
            }
            Notice::PresenceAsked { user } => self.hub.asked_for(user),
            Notice::Presence { user, edge, status } => self.hub.note_presence(user, edge, status),
            Notice::UserUpdated { .. } => {}
        }
    }

    /// Hands a frame to all in a room but the user whom it is about.
    fn show(&self, topic: Topic, frame: Bytes, but: Option<UserId>) {
        let Some(room) = self.hub.rooms.find(topic) else { return };
        room.each(|connection| {
            if Some(connection.user) != but {
                connection.outbox.push(frame.clone());
            }
        });
    }

    fn show_typing(&self, topic: Topic, conversation: ConversationId, user: UserId) {
        let Some(room) = self.hub.rooms.find(topic) else { return };
        let frame = frame::typing(conversation, user);
        room.each(|connection| {
            if connection.user != user {
                connection.outbox.mention(conversation, frame.clone());
            }
        });
    }

    /// Hands out what is gathered.
    fn flush(&mut self) {
        for (topic, entries) in self.gathered.groups.drain(..) {
            let (Some(room), Some(first)) = (self.hub.rooms.find(topic), entries.first()) else { continue };
            let burst = Burst::of(entries.iter());
            let receivers = room.each(|connection| {
                connection.outbox.deliver(first.conversation, &burst);
            });
            self.gathered.traced.note(&entries, receivers);
            self.deliveries.increment((receivers * entries.len()) as u64);
            self.bytes.increment((receivers * burst.bytes.len()) as u64);
        }
        self.gathered.traced.end();
        self.gathered.index.clear();
        self.gathered.bytes = 0;
    }
}

impl Gathered {
    fn add(&mut self, topic: Topic, entry: Entry) {
        self.bytes += entry.payload.len();
        self.traced.begin(&entry);
        let next = self.groups.len();
        let index = *self.index.entry((topic, entry.conversation)).or_insert(next);
        match self.groups.get_mut(index) {
            Some((_, entries)) => entries.push(entry),
            None => self.groups.push((topic, vec![entry])),
        }
    }
}

/// The change of a group's members that an event brings, if it brings one. The payload of most events is not
/// parsed for this: what this program has encoded tells its kind at a fixed place.
pub(crate) fn change_of_members(payload: &Bytes) -> Option<Body> {
    const ID: std::ops::Range<usize> = 0..7;
    const KIND: std::ops::Range<usize> = 43..53;
    let is_ours = payload.get(ID) == Some(br#"{"id":""#) && payload.get(KIND) == Some(br#"","kind":""#);
    if is_ours && !payload[KIND.end..].starts_with(b"member_") {
        return None;
    }
    let body = Event::decode(payload).ok()?.body;
    matches!(body, Body::MemberAdded { .. } | Body::MemberRemoved { .. }).then_some(body)
}
