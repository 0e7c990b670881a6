//! What a writer knows of conversations that it wrote to of late, so that it need not ask.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use types::{ConversationId, EventId, Timestamp};

use super::events::Place;
use super::stamp::Bucket;
use super::tails::TailRow;

/// How many conversations and ids of theirs are remembered, together.
const REMEMBERED: u64 = 500_000;
/// How many ids of one conversation are remembered. A busier one is asked for its ids, many at a time.
const REMEMBERED_IDS: usize = 4_096;
/// How far an id's birth may lie ahead of the log's clock when it is first used: edges let half a minute pass, and as
/// much again is left to clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);

/// The conversations.
pub(super) struct Remembered(Cache<ConversationId, Arc<Mutex<Recent>>>);

impl Remembered {
    pub(super) fn new() -> Self {
        let weigh = |_: &ConversationId, recent: &Arc<Mutex<Recent>>| {
            u32::try_from(1 + recent.lock().ids.len()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(REMEMBERED).weigher(weigh).build())
    }

    pub(super) fn get(&self, conversation: ConversationId) -> Option<Arc<Mutex<Recent>>> {
        self.0.get(&conversation)
    }

    /// Remembers a conversation, or that what is remembered of it has changed.
    pub(super) fn keep(&self, conversation: ConversationId, recent: Arc<Mutex<Recent>>) {
        self.0.insert(conversation, recent);
    }
}

/// The end of a conversation, and the ids of its latest events. Another process may have gone on from there; that
/// shows in the next event's `prev`.
pub(super) struct Recent {
    /// `None` when nothing is stored.
    pub(super) tail: Option<TailRow>,
    /// The bucket of the event at the tail; while nothing has been added, of the one before what is to be.
    pub(super) bucket: Option<Bucket>,
    /// The ids of all events that were stored after this are here, and perhaps more.
    since: Timestamp,
    ids: HashMap<EventId, Place>,
    /// The same ids with when they were stored, in the order in which they are forgotten.
    order: VecDeque<(Timestamp, EventId)>,
}

impl Recent {
    /// Of a conversation that ends here.
    pub(super) fn from(tail: Option<TailRow>, bucket: Option<Bucket>) -> Self {
        let since = tail.map_or(Timestamp::default(), |tail| tail.at);
        Self { tail, bucket, since, ids: HashMap::new(), order: VecDeque::new() }
    }

    /// Where the first events of these ids are, as far as that is remembered; then the ids to ask for. Each id comes with
    /// when the event was stored that names it.
    pub(super) fn places(
        &self,
        named: impl Iterator<Item = (EventId, Timestamp)>,
    ) -> (HashMap<EventId, Place>, Vec<EventId>) {
        let (mut places, mut unknown) = (HashMap::new(), Vec::new());
        for (id, at) in named {
            match self.ids.get(&id) {
                Some(place) => _ = places.insert(id, *place),
                None if self.knows(id, at) => {}
                None => unknown.push(id),
            }
        }
        (places, unknown)
    }

    /// Whether the id of an event stored at `at` can be of none but those that are remembered. Edges refuse ids from the
    /// future, so nobody can have used it long before its birth.
    fn knows(&self, id: EventId, at: Timestamp) -> bool {
        self.ids.contains_key(&id) || (self.since.plus(MARGIN) < id.born_at() && id.born_at() <= at.plus(MARGIN))
    }

    /// The conversation goes on with events of these ids, the first of each, to another end, which lies in this bucket.
    pub(super) fn go_on(
        &mut self,
        ids: impl IntoIterator<Item = (EventId, Place, Timestamp)>,
        (end, bucket): (TailRow, Option<Bucket>),
    ) {
        for (id, place, at) in ids {
            self.ids.insert(id, place);
            self.order.push_back((at, id));
        }
        (self.tail, self.bucket) = (Some(end), bucket);
        self.forget(end.at.minus(2 * MARGIN));
    }

    /// Forgets what was stored before a moment, and the oldest of too many.
    fn forget(&mut self, before: Timestamp) {
        while let Some(&(at, id)) = self.order.front()
            && (at < before || self.order.len() > REMEMBERED_IDS)
        {
            self.order.pop_front();
            self.ids.remove(&id);
            self.since = self.since.max(at);
        }
        self.since = self.since.max(before.minus(Duration::from_millis(1)));
    }
}

#[cfg(test)]
mod tests {
    use types::{Epoch, Position, Region};

    use super::*;
    use crate::scylla::events::Class;

    fn tail(seq: u64, at: Timestamp) -> TailRow {
        TailRow { position: Position { epoch: Epoch::default(), seq }, at, last_message: None }
    }

    fn place(seq: u64) -> Place {
        Place { bucket: Bucket::FIRST, class: Class::Message, seq }
    }

    /// A conversation whose end was stored long before `now`.
    fn old(now: Timestamp) -> Recent {
        Recent::from(Some(tail(1, now.minus(3 * MARGIN))), None)
    }

    #[test]
    fn a_new_id_in_a_quiet_conversation_is_known_to_be_new() {
        let (id, now) = (EventId::generate(Region::default()), Timestamp::now());
        assert!(old(now).knows(id, now) && old(now).ids.is_empty());
        assert!(Recent::from(None, None).knows(id, now), "nothing is stored at all");
    }

    #[test]
    fn an_id_that_may_have_been_used_unseen_is_not_known() {
        let (id, now) = (EventId::generate(Region::default()), Timestamp::now());
        let recent = Recent::from(Some(tail(1, now.minus(MARGIN / 2))), None);
        assert!(!recent.knows(id, now), "another process stored events just now");
        assert!(!old(now).knows(id, now.minus(2 * MARGIN)), "an id from the future");
    }

    #[test]
    fn what_was_stored_of_late_is_found_and_what_was_stored_before_is_asked_for() {
        let (first, now) = (EventId::generate(Region::default()), Timestamp::now());
        let mut recent = old(now);
        recent.go_on([(first, place(2), now)], (tail(2, now), None));
        assert_eq!(recent.places([(first, now)].into_iter()), (HashMap::from([(first, place(2))]), vec![]));
        let later = now.plus(3 * MARGIN);
        recent.go_on([(EventId::generate(Region::default()), place(3), later)], (tail(3, later), None));
        assert_eq!(recent.places([(first, later)].into_iter()), (HashMap::new(), vec![first]));
    }

    #[test]
    fn of_too_many_ids_the_oldest_are_asked_for() {
        let now = Timestamp::now();
        let mut recent = old(now);
        let ids: Vec<EventId> = (0..=REMEMBERED_IDS).map(|_| EventId::generate(Region::default())).collect();
        recent.go_on(ids.iter().zip(2..).map(|(id, seq)| (*id, place(seq), now)), (tail(9_999, now), None));
        assert_eq!(recent.ids.len(), REMEMBERED_IDS);
        assert!(!recent.knows(ids[0], now) && recent.knows(ids[REMEMBERED_IDS], now));
    }
}
