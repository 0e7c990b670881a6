//! Events on their way into the store: first everything else, the tail last, so that whoever sees a tail sees all
//! that lies before it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::{try_join, try_join_all};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use moka::sync::Cache;
use parking_lot::Mutex;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use types::{ConversationId, Entry, Epoch, EventId, UserId};

use super::buckets::{Buckets, sender_key};
use super::connection::Connection;
use super::events::{Events, Partition, Place, ROWS_NAMED};
use super::ids::Ids;
use super::pages::Pages;
use super::peers::Peers;
use super::plan::{Plan, What, Write};
use super::recent::{Recent, Remembered};
use super::stamp::{self, Bucket};
use super::tails::{TailRow, Tails};
use crate::reading::{Effect, Reading};
use crate::{Error, Result};

/// Conversations that are stored at once, by one call.
const CONVERSATIONS_AT_ONCE: usize = 64;
/// How many senders are remembered, with the bucket they were last noted in.
const REMEMBERED_SPEAKERS: u64 = 65_536;

/// Stores events.
pub(super) struct Writer {
    connection: Arc<Connection>,
    tails: Arc<Tails>,
    ids: Arc<Ids>,
    peers: Arc<Peers>,
    events: Arc<Events>,
    buckets: Arc<Buckets>,
    event: PreparedStatement,
    sent: PreparedStatement,
    id: PreparedStatement,
    edit: PreparedStatement,
    deletion: PreparedStatement,
    bucket: PreparedStatement,
    bucket_start: PreparedStatement,
    remembered: Remembered,
    /// Who is noted as a sender in which bucket.
    speakers: Cache<(ConversationId, UserId, Bucket), ()>,
}

/// The values stand in `plan.rs`, as [`Write`].
const WRITE_EVENT: &str = "INSERT INTO events (conversation, bucket, class, seq, epoch, prev, at, payload) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const WRITE_SENT: &str = "INSERT INTO sent (conversation, bucket, sender, seq) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
const WRITE_ID: &str = "INSERT INTO ids (conversation, bucket, id, seq, class, event_bucket) \
    VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const WRITE_EDIT: &str = "UPDATE events USING TIMESTAMP ? SET edited_at = ?, edited_text = ? \
    WHERE conversation = ? AND bucket = ? AND class = 0 AND seq = ?";
const WRITE_DELETION: &str = "UPDATE events USING TIMESTAMP ? SET deleted_at = ? \
    WHERE conversation = ? AND bucket = ? AND class = 0 AND seq = ?";
const WRITE_BUCKET: &str = "INSERT INTO buckets (conversation, sender, bucket) VALUES (?, ?, ?) USING TIMESTAMP ?";
const WRITE_BUCKET_START: &str =
    "INSERT INTO bucket_starts (conversation, first_seq, bucket) VALUES (?, ?, ?) USING TIMESTAMP ?";

impl Writer {
    pub(super) async fn prepare(
        connection: &Arc<Connection>,
        tails: Arc<Tails>,
        ids: Arc<Ids>,
        peers: Arc<Peers>,
        pages: &Pages,
    ) -> Result<Self> {
        Ok(Self {
            connection: Arc::clone(connection),
            tails,
            ids,
            peers,
            events: Arc::clone(&pages.events),
            buckets: Arc::clone(&pages.buckets),
            event: connection.prepare_write(WRITE_EVENT).await?,
            sent: connection.prepare_write(WRITE_SENT).await?,
            id: connection.prepare_write(WRITE_ID).await?,
            edit: connection.prepare_write(WRITE_EDIT).await?,
            deletion: connection.prepare_write(WRITE_DELETION).await?,
            bucket: connection.prepare_write(WRITE_BUCKET).await?,
            bucket_start: connection.prepare_write(WRITE_BUCKET_START).await?,
            remembered: Remembered::new(),
            speakers: Cache::new(REMEMBERED_SPEAKERS),
        })
    }

    /// See [`crate::History::store`]. What was begun and not ended, or failed in
    /// part, is done again by the next call with the same events.
    pub(super) async fn store(&self, entries: &[Entry]) -> Result<()> {
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_by_key(|entry| (entry.conversation, entry.position.seq));
        entries.dedup_by_key(|entry| (entry.conversation, entry.position.seq));
        let stretches = entries
            .chunk_by(|one, next| one.conversation == next.conversation)
            .filter_map(|entries| Some(Stretch { conversation: entries.first()?.conversation, entries }));
        let stores: Vec<_> = stretches.map(|stretch| self.store_stretch(stretch)).collect();
        stream::iter(stores).buffer_unordered(CONVERSATIONS_AT_ONCE).try_collect().await
    }

    /// Events that are stored already are written again: each write says the same as before, and what the store has lost
    /// of them, as one does that was restored, is there again.
    async fn store_stretch(&self, stretch: Stretch<'_>) -> Result<()> {
        let conversation = stretch.conversation;
        let recent = self.recent(stretch).await?;
        let (tail, bucket) = {
            let recent = recent.lock();
            (recent.tail, recent.bucket)
        };
        let placed = stretch.placed(bucket);
        stretch.refuse_another_log(&self.events, &placed, tail.as_ref()).await?;
        let readings: Vec<Reading> = stretch.entries.iter().map(|entry| Reading::of(entry)).collect();
        let places = self.places(conversation, &recent, stretch.entries.iter().copied().zip(&readings)).await?;
        let mut plan = Plan::new(conversation, (tail, bucket), places);
        for ((entry, bucket), reading) in placed.into_iter().zip(readings) {
            plan.add(entry, bucket, reading);
        }
        let rows = try_join_all(plan.chunks().into_iter().map(|chunk| self.write(chunk)));
        try_join(try_join(self.note_peers(stretch, tail), self.note_buckets(conversation, &plan)), rows).await?;
        let Some(end) = plan.tail else { return Ok(()) };
        if tail != Some(end) {
            self.tails.write(conversation, &end).await?;
        }
        if stretch.reaches(&end) {
            recent.lock().go_on(plan.ids, (end, plan.bucket));
            self.remembered.keep(conversation, recent);
        }
        Ok(())
    }

    /// What lies before a stretch: what is remembered, if the stretch goes on right there, and else what is stored.
    async fn recent(&self, stretch: Stretch<'_>) -> Result<Arc<Mutex<Recent>>> {
        let goes_on = |recent: &Arc<Mutex<Recent>>| recent.lock().tail.is_some_and(|tail| stretch.goes_on_from(&tail));
        if let Some(recent) = self.remembered.get(stretch.conversation).filter(goes_on) {
            return Ok(recent);
        }
        let key = stretch.conversation.key();
        let bucket = self.buckets.of(&key, stretch.first_seq().saturating_sub(1));
        let (tail, bucket) = try_join(self.tails.read(stretch.conversation), bucket).await?;
        stretch.warn_of_gap(tail.as_ref());
        Ok(Arc::new(Mutex::new(Recent::from(tail, bucket))))
    }

    /// Where the first events of all ids are that these events name, as far as they are stored.
    async fn places(
        &self,
        conversation: ConversationId,
        recent: &Mutex<Recent>,
        events: impl Iterator<Item = (&Entry, &Reading)>,
    ) -> Result<HashMap<EventId, Place>> {
        let named = events.flat_map(|(entry, reading)| {
            let target = match reading.effect {
                Effect::Change { message, .. } => Some(message),
                _ => None,
            };
            reading.id.into_iter().chain(target).map(|id| (id, entry.at))
        });
        let (mut places, unknown) = recent.lock().places(named);
        places.extend(self.ids.find(conversation, unknown).await?);
        Ok(places)
    }

    /// Writes rows of one partition.
    async fn write(&self, chunk: Vec<Write<'_>>) -> Result<()> {
        if let [write] = &*chunk {
            return self.connection.write(self.statement(write), write).await;
        }
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        for write in &chunk {
            batch.append_statement(self.statement(write).clone());
        }
        self.connection.write_batch(&batch, &chunk).await
    }

    fn statement(&self, write: &Write<'_>) -> &PreparedStatement {
        match write.what {
            What::Event { .. } => &self.event,
            What::Sent { .. } => &self.sent,
            What::Id { .. } => &self.id,
            What::Edit { .. } => &self.edit,
            What::Deletion { .. } => &self.deletion,
        }
    }

    /// Notes a direct conversation of which nothing is stored, or whose first event comes again.
    async fn note_peers(&self, stretch: Stretch<'_>, tail: Option<TailRow>) -> Result<()> {
        match stretch.entries.first() {
            Some(first) if tail.is_none() || first.prev == 0 => {
                self.peers.write(stretch.conversation, first.position.seq).await
            }
            _ => Ok(()),
        }
    }

    /// Notes the buckets that begin, and who has not sent in them before, as far as this process remembers.
    async fn note_buckets(&self, conversation: ConversationId, plan: &Plan<'_>) -> Result<()> {
        let key = conversation.key();
        let starts = plan.starts.iter().map(async |(bucket, seq)| {
            let stamp = stamp::first_wins(*seq);
            self.connection.write(&self.bucket_start, (&key, stamp::number(*seq), bucket.0, stamp)).await?;
            self.connection.write(&self.bucket, (&key, sender_key(None), bucket.0, stamp)).await
        });
        let speakers = plan.speakers.iter().map(async |((sender, bucket), seq)| {
            let noted = (conversation, *sender, *bucket);
            if !self.speakers.contains_key(&noted) {
                let values = (&key, sender_key(Some(sender)), bucket.0, stamp::first_wins(*seq));
                self.connection.write(&self.bucket, values).await?;
                self.speakers.insert(noted, ());
            }
            Ok::<_, Error>(())
        });
        try_join(try_join_all(starts), try_join_all(speakers)).await.map(drop)
    }
}

/// Events of one conversation, in order of `seq`, none twice, at least one.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    conversation: ConversationId,
    entries: &'a [&'a Entry],
}

impl<'a> Stretch<'a> {
    fn goes_on_from(&self, tail: &TailRow) -> bool {
        let Some(first) = self.entries.first() else { return false };
        first.prev == tail.position.seq && first.position.seq > tail.position.seq
    }

    /// Nothing may be left out, but what the log no longer has cannot be waited for.
    fn warn_of_gap(&self, tail: Option<&TailRow>) {
        let (conversation, end) = (self.conversation, tail.map_or(0, |tail| tail.position.seq));
        let first_new = self.entries.iter().find(|entry| entry.position.seq > end);
        if let Some(Entry { position, prev, .. }) = first_new
            && *prev > end
        {
            tracing::warn!(%conversation, prev, seq = position.seq, "events before this one were never given to history");
        }
    }

    fn first_seq(&self) -> u64 {
        self.entries.first().map_or(0, |first| first.position.seq)
    }

    /// Whether this is all that is stored up to its end.
    fn reaches(&self, tail: &TailRow) -> bool {
        self.entries.last().is_some_and(|last| last.position.seq >= tail.position.seq)
    }

    /// The events with their buckets, behind an event in the bucket `before`.
    fn placed(&self, before: Option<Bucket>) -> Vec<(&'a Entry, Bucket)> {
        let place = |before: &mut Option<Bucket>, entry: &&'a Entry| {
            let bucket = Bucket::follow(*before, entry.at);
            *before = Some(bucket);
            Some((*entry, bucket))
        };
        self.entries.iter().scan(before, place).collect()
    }

    /// Events up to the tail must come from the log that those at their places come from.
    async fn refuse_another_log(
        &self,
        events: &Events,
        placed: &[(&Entry, Bucket)],
        tail: Option<&TailRow>,
    ) -> Result<()> {
        let Some(tail) = tail else { return Ok(()) };
        let old = placed.partition_point(|(entry, _)| entry.position.seq <= tail.position.seq);
        let stored = self.stored_epochs(events, &placed[..old]).await?;
        placed[..old].iter().try_for_each(|(entry, _)| self.refuse(entry, stored.get(&entry.position.seq), tail))
    }

    async fn stored_epochs(&self, events: &Events, placed: &[(&Entry, Bucket)]) -> Result<HashMap<u64, Epoch>> {
        let mut buckets: BTreeMap<Bucket, Vec<u64>> = BTreeMap::new();
        for (entry, bucket) in placed {
            buckets.entry(*bucket).or_default().push(entry.position.seq);
        }
        let key = self.conversation.key();
        let questions = buckets.iter().flat_map(|(bucket, seqs)| {
            let partition = Partition { conversation: self.conversation, key: &key, bucket: *bucket };
            seqs.chunks(ROWS_NAMED).map(move |seqs| events.epochs(partition, seqs))
        });
        Ok(try_join_all(questions).await?.into_iter().flatten().collect())
    }

    fn refuse(&self, entry: &Entry, stored: Option<&Epoch>, tail: &TailRow) -> Result<()> {
        let (conversation, epoch, seq) = (self.conversation, entry.position.epoch, entry.position.seq);
        let (end, log) = (tail.position.seq, stored.copied().unwrap_or(tail.position.epoch));
        if log == epoch {
            if stored.is_none() {
                tracing::warn!(%conversation, seq, end, "an event comes after later ones");
            }
            return Ok(());
        }
        let why =
            format!("event {seq} of {conversation} comes from log {epoch}, but is stored up to {end} from log {log}");
        Err(Error::Damaged(why))
    }
}
