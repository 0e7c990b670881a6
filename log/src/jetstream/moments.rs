//! When an event was stored: the server's acknowledgement does not say, yet whoever appended is told the moment that
//! every reader sees.
//!
//! The live copy of an event carries its moment, so where a feed of this process listens to the conversation the
//! copy tells it for nothing. Otherwise it is read back, many at a time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde_json::json;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use types::{ConversationId, Position, Timestamp};

use super::connection::closed;
use super::headers;
use super::reading::Reading;
use crate::{Appended, Error, Result, Topic};

/// How long it is waited for a live copy before the moment is read back.
const COPY: Duration = Duration::from_millis(100);
/// How long reading back is tried. The event is stored all the while.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a read that told nothing.
const PAUSE: Duration = Duration::from_millis(20);
/// Moments of each shard that are remembered for acknowledgements still to come.
const RECENT: usize = 8_192;
/// Events that one read may span.
const SPAN: u64 = 256;
/// A read that spans more than so many times what is wanted costs more than two reads.
const SPARSENESS: u64 = 4;

/// Where a receipt waits.
pub(super) type Waiter = oneshot::Sender<Result<Appended>>;

/// The moments of all shards.
pub(super) struct Moments {
    shards: Vec<Shard>,
    /// How many feeds of this process listen to a topic.
    heard: RwLock<HashMap<Topic, usize>>,
}

#[derive(Default)]
struct Shard {
    known: Mutex<Known>,
    wanted: Notify,
}

#[derive(Default)]
struct Known {
    moments: HashMap<u64, Timestamp>,
    /// The keys of `moments`, the oldest first.
    order: VecDeque<u64>,
    wanted: BTreeMap<u64, Vec<Wanted>>,
}

struct Wanted {
    waiter: Waiter,
    position: Position,
    duplicate: bool,
    /// When it is to be read back.
    due: Instant,
    /// When it is given up.
    ends: Instant,
}

impl Wanted {
    fn resolve(self, at: Timestamp) {
        let Self { waiter, position, duplicate, .. } = self;
        // Nobody may wait any more: the event is stored all the same.
        drop(waiter.send(Ok(Appended { position, at, duplicate })));
    }
}

impl Moments {
    pub(super) fn new(shards: u16) -> Self {
        Self { shards: (0..shards).map(|_| Shard::default()).collect(), heard: RwLock::default() }
    }

    /// A feed of this process surely listens to the topic.
    pub(super) fn listen(&self, topic: Topic) {
        *self.heard.write().entry(topic).or_default() += 1;
    }

    /// A feed of this process no longer does.
    pub(super) fn forget(&self, topic: Topic) {
        let mut heard = self.heard.write();
        if let Some(count) = heard.get_mut(&topic) {
            *count -= 1;
            if *count == 0 {
                heard.remove(&topic);
            }
        }
    }

    fn is_heard(&self, conversation: ConversationId) -> bool {
        let heard = self.heard.read();
        match conversation {
            ConversationId::Group(group) => heard.contains_key(&Topic::Group(group)),
            ConversationId::Direct(first, second) => {
                heard.contains_key(&Topic::User(first)) || heard.contains_key(&Topic::User(second))
            }
        }
    }

    /// A live copy tells when an event was stored.
    pub(super) fn tell(&self, shard: u16, seq: u64, at: Timestamp) {
        let Some(shard) = self.shards.get(usize::from(shard)) else { return };
        let mut known = shard.known.lock();
        if let Some(wanted) = known.wanted.remove(&seq) {
            for wanted in wanted {
                wanted.resolve(at);
            }
            return;
        }
        if known.moments.insert(seq, at).is_none() {
            known.order.push_back(seq);
        }
        if known.order.len() > RECENT
            && let Some(oldest) = known.order.pop_front()
        {
            known.moments.remove(&oldest);
        }
    }

    /// Resolves `waiter` once it is known when the event at `position` was stored.
    pub(super) fn resolve(&self, conversation: ConversationId, shard: u16, stored: (Position, bool), waiter: Waiter) {
        let Some(shard) = self.shards.get(usize::from(shard)) else { return };
        let (position, duplicate) = stored;
        let now = Instant::now();
        let is_heard = !duplicate && self.is_heard(conversation);
        let due = if is_heard { now + COPY } else { now };
        let wanted = Wanted { waiter, position, duplicate, due, ends: now + PATIENCE };
        let mut known = shard.known.lock();
        if let Some(at) = known.moments.get(&position.seq).copied() {
            return wanted.resolve(at);
        }
        let was_idle = known.wanted.is_empty();
        known.wanted.entry(position.seq).or_default().push(wanted);
        drop(known);
        if !is_heard || was_idle {
            shard.wanted.notify_one();
        }
    }

    /// Waits until every receipt is resolved, and gives up those that take longer than `patience`.
    pub(super) async fn settle(&self, patience: Duration) {
        let began = Instant::now();
        while self.shards.iter().any(|shard| shard.next_due().is_some()) && began.elapsed() < patience {
            sleep(Duration::from_millis(1)).await;
        }
        self.shards.iter().for_each(Shard::close);
    }

    /// Reads back what no copy tells, until `stop`.
    pub(super) fn start(self: &Arc<Self>, reading: &Arc<Reading>, stop: &CancellationToken) {
        for shard in 0..reading.names.shards {
            let (moments, reading, stop) = (Arc::clone(self), Arc::clone(reading), stop.clone());
            drop(tokio::spawn(async move {
                stop.run_until_cancelled(moments.shards[usize::from(shard)].follow(shard, &reading)).await;
            }));
        }
    }
}

impl Shard {
    async fn follow(&self, shard: u16, reading: &Reading) {
        loop {
            let wanted = self.wanted.notified();
            match self.next_due() {
                None => wanted.await,
                Some(due) if due > Instant::now() => {
                    tokio::select! {
                        () = wanted => {}
                        () = sleep_until(due) => {}
                    }
                }
                Some(_) => self.read_back(shard, reading).await,
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let known = self.known.lock();
        known.wanted.values().flatten().map(|wanted| wanted.due).min()
    }

    /// Reads back a stretch of what is due.
    async fn read_back(&self, shard: u16, reading: &Reading) {
        let Some((first, last)) = self.due_stretch() else { return };
        let length = last - first + 1;
        let question = json!({ "seq": first, "batch": length });
        let most = usize::try_from(length).unwrap_or(1);
        let mut told = 0;
        if let Ok(batch) = reading.direct(shard, &question, most).await {
            for message in batch.messages {
                let stored = message.headers.as_ref().and_then(|found| headers::stored(found, reading.epoch));
                told += stored.map_or(0, |stored| self.settle(stored.position.seq, Ok(stored.at)));
            }
        }
        if told == 0 {
            // A lagging replica, perhaps: the leader surely knows.
            if let Ok(moment) = reading.moment(shard, first).await {
                let gone = || Error::Unavailable("the event is stored, and has left the log since".into());
                self.settle(first, moment.ok_or_else(gone));
            } else {
                self.give_up();
                sleep(PAUSE).await;
            }
        }
    }

    /// The first and the last `seq` of what is due and lies close together.
    fn due_stretch(&self) -> Option<(u64, u64)> {
        let now = Instant::now();
        let known = self.known.lock();
        let mut due = known.wanted.iter().filter(|(_, wanted)| wanted.iter().any(|wanted| wanted.due <= now));
        let (first, _) = due.next()?;
        let (mut last, mut count) = (*first, 1);
        for (seq, _) in due {
            count += 1;
            let span = *seq - *first + 1;
            if span > SPAN || span > count * SPARSENESS {
                break;
            }
            last = *seq;
        }
        Some((*first, last))
    }

    fn settle(&self, seq: u64, moment: Result<Timestamp>) -> usize {
        let Some(wanted) = self.known.lock().wanted.remove(&seq) else { return 0 };
        let count = wanted.len();
        for wanted in wanted {
            match &moment {
                Ok(at) => wanted.resolve(*at),
                Err(error) => drop(wanted.waiter.send(Err(Error::Unavailable(error.to_string())))),
            }
        }
        count
    }

    /// Gives up what cannot be told for too long.
    fn give_up(&self) {
        let now = Instant::now();
        for waiting in self.known.lock().wanted.values_mut() {
            for given_up in waiting.extract_if(.., |wanted| wanted.ends <= now) {
                drop(given_up.waiter.send(Err(Error::Unavailable("it is not known when it was stored".into()))));
            }
        }
        self.known.lock().wanted.retain(|_, waiting| !waiting.is_empty());
    }

    fn close(&self) {
        for given_up in std::mem::take(&mut self.known.lock().wanted).into_values().flatten() {
            drop(given_up.waiter.send(Err(closed())));
        }
    }
}
