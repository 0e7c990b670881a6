//! What a feed has delivered, so that it can tell what is missing and what comes again.

use std::collections::HashMap;
use std::sync::Arc;

use types::{ConversationId, Entry};

use crate::Topic;

/// Conversations of one user whose last event is remembered. When there are more, all are forgotten: then a gap is not
/// noticed here, and whoever reads still sees it by `prev`. Of what is read back, the last of each shard that was
/// delivered counts for each of its conversations.
const PEERS: usize = 4_096;

/// The topics that a feed listens to.
#[derive(Default)]
pub(super) struct Topics {
    known: HashMap<Topic, Heard>,
}

/// One topic.
struct Heard {
    /// The number of its subscriptions.
    number: u64,
    /// Of each shard, a `seq` up to which everything was stored before it was listened to.
    since: Arc<[u64]>,
    /// The last `seq` that was delivered of the topic's one conversation, or of each of them.
    last: Last,
}

enum Last {
    One(u64),
    Each(HashMap<ConversationId, u64>),
}

/// What is to be done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is the next one.
    Deliver,
    /// It is not listened to, or it was delivered before.
    Drop,
    /// Something between this `seq` and the event is missing.
    Refill(u64),
}

impl Topics {
    /// Adds a topic, all of whose events up to `since`, of each shard, are none of its; false when it is known already.
    pub(super) fn add(&mut self, topic: Topic, number: u64, since: &Arc<[u64]>) -> bool {
        if self.known.contains_key(&topic) {
            return false;
        }
        let last = if matches!(topic, Topic::User(_)) { Last::Each(HashMap::new()) } else { Last::One(0) };
        self.known.insert(topic, Heard { number, since: Arc::clone(since), last });
        true
    }

    /// Removes a topic and gives its number.
    pub(super) fn remove(&mut self, topic: Topic) -> Option<u64> {
        self.known.remove(&topic).map(|heard| heard.number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn number_of(&self, topic: Topic) -> Option<u64> {
        self.known.get(&topic).map(|heard| heard.number)
    }

    #[expect(clippy::iter_over_hash_type, reason = "the order in which subscriptions are made does not matter")]
    pub(super) fn each(&self, mut see: impl FnMut(Topic, u64)) {
        for (topic, heard) in &self.known {
            see(*topic, heard.number);
        }
    }

    /// What is to be done with an event of the topic.
    pub(super) fn step(&self, topic: Topic, entry: &Entry) -> Step {
        let Some(heard) = self.known.get(&topic) else { return Step::Drop };
        let last = heard.last.of(entry.conversation);
        if entry.position.seq <= last {
            return Step::Drop;
        }
        // Of a conversation of which nothing was delivered yet, whatever comes is the first: what came before it may have
        // been stored before it was listened to.
        if last > 0 && entry.prev > last {
            return Step::Refill(last);
        }
        Step::Deliver
    }

    /// Whether an event of the topic is to be delivered and was not.
    pub(super) fn lacks(&self, topic: Topic, shard: u16, entry: &Entry) -> bool {
        self.known.get(&topic).is_some_and(|heard| entry.position.seq > heard.known(shard, entry.conversation))
    }

    /// Notes that nothing up to `seq` will be delivered of these conversations.
    #[expect(clippy::iter_over_hash_type, reason = "each is changed by itself")]
    pub(super) fn pass_over(&mut self, seq: u64, is_concerned: impl Fn(ConversationId) -> bool) {
        let pass = |conversation: ConversationId, last: &mut u64| {
            *last = if is_concerned(conversation) { seq.max(*last) } else { *last };
        };
        for (topic, heard) in &mut self.known {
            match (topic, &mut heard.last) {
                (Topic::Group(group), Last::One(last)) => pass((*group).into(), last),
                (_, Last::One(_)) => {}
                (_, Last::Each(each)) => each.iter_mut().for_each(|(conversation, last)| pass(*conversation, last)),
            }
        }
    }

    /// Notes that an event was delivered.
    pub(super) fn delivered(&mut self, topic: Topic, conversation: ConversationId, seq: u64) {
        let Some(heard) = self.known.get_mut(&topic) else { return };
        match &mut heard.last {
            Last::One(last) => *last = seq,
            Last::Each(each) => {
                if each.len() >= PEERS && !each.contains_key(&conversation) {
                    heard.since = raised(&heard.since, each);
                    each.clear();
                }
                each.insert(conversation, seq);
            }
        }
    }
}

impl Heard {
    /// The `seq` up to which nothing of a conversation is missing.
    fn known(&self, shard: u16, conversation: ConversationId) -> u64 {
        self.last.of(conversation).max(self.since.get(usize::from(shard)).copied().unwrap_or(0))
    }
}

/// The places of `since`, raised to what was delivered of each shard.
#[expect(clippy::iter_over_hash_type, reason = "the greatest is the greatest in any order")]
fn raised(since: &[u64], delivered: &HashMap<ConversationId, u64>) -> Arc<[u64]> {
    let mut raised = since.to_vec();
    let shards = u16::try_from(raised.len()).unwrap_or(u16::MAX);
    for (conversation, seq) in delivered {
        if let Some(place) = raised.get_mut(usize::from(conversation.shard(shards))) {
            *place = (*seq).max(*place);
        }
    }
    raised.into()
}

impl Last {
    fn of(&self, conversation: ConversationId) -> u64 {
        match self {
            Self::One(last) => *last,
            Self::Each(each) => each.get(&conversation).copied().unwrap_or(0),
        }
    }
}

/// The topics of a conversation's events: the group, or each of the two users once.
pub(super) fn topics_of(conversation: ConversationId) -> impl Iterator<Item = Topic> {
    let topics = match conversation {
        ConversationId::Group(group) => [Some(Topic::Group(group)), None],
        ConversationId::Direct(first, second) => {
            [Some(Topic::User(first)), (first != second).then_some(Topic::User(second))]
        }
    };
    topics.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use types::{Epoch, Position, Region, Timestamp, UserId};

    use super::*;

    fn entry(conversation: ConversationId, seq: u64, prev: u64) -> Entry {
        let (position, at) = (Position { epoch: Epoch::new(1), seq }, Timestamp::from_millis(0));
        Entry { conversation, position, prev, at, payload: Bytes::new(), trace: None }
    }

    fn user() -> UserId {
        UserId::generate(Region::default())
    }

    #[test]
    fn a_gap_is_seen_behind_what_was_delivered_and_nothing_comes_that_was_stored_before() {
        let (me, conversation) = (user(), ConversationId::direct(user(), user()));
        let mut topics = Topics::default();
        topics.add(Topic::User(me), 1, &Arc::from([10]));
        let step = |topics: &Topics, seq, prev| topics.step(Topic::User(me), &entry(conversation, seq, prev));
        let lacks = |topics: &Topics, seq| topics.lacks(Topic::User(me), 0, &entry(conversation, seq, 0));
        assert!(!lacks(&topics, 10) && lacks(&topics, 11));
        assert_eq!(step(&topics, 13, 12), Step::Deliver, "12 may be older than the subscription");
        topics.delivered(Topic::User(me), conversation, 13);
        assert_eq!(step(&topics, 13, 12), Step::Drop);
        assert_eq!(step(&topics, 15, 13), Step::Deliver);
        assert_eq!(step(&topics, 15, 14), Step::Refill(13));
        assert!(!lacks(&topics, 13) && lacks(&topics, 14));
    }

    #[test]
    fn of_more_conversations_than_are_remembered_nothing_comes_twice() {
        const SHARDS: u16 = 4;
        let me = user();
        let mut topics = Topics::default();
        topics.add(Topic::User(me), 1, &Arc::from([0; SHARDS as usize]));
        let conversations: Vec<_> = (0..=PEERS).map(|_| ConversationId::direct(me, user())).collect();
        for (seq, conversation) in (1..).zip(&conversations) {
            topics.delivered(Topic::User(me), *conversation, seq);
        }
        for (seq, conversation) in (1..).zip(&conversations) {
            let shard = conversation.shard(SHARDS);
            assert!(!topics.lacks(Topic::User(me), shard, &entry(*conversation, seq, 0)));
            assert!(topics.lacks(Topic::User(me), shard, &entry(*conversation, PEERS as u64 + 2, seq)));
        }
    }
}
