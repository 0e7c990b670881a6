//! Counts made by hand, and facts and filters drawn by lot.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use types::{ConversationId, GroupId, Region, Timestamp, UserId};

use crate::{Fact, Filter, Ranked};

pub(super) const HOUR_MS: i64 = 60 * 60 * 1000;
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

/// The first of ninety days on which messages are sent. It is a midnight.
const FIRST_DAY_MS: i64 = 20_000 * DAY_MS;
const DAYS: i64 = 90;

/// What has been recorded, counted from anew for every question.
#[derive(Default)]
pub(super) struct Model {
    facts: Vec<Fact>,
    recorded: HashMap<u16, u64>,
}

impl Model {
    pub(super) fn record(&mut self, shard: u16, facts: Vec<Fact>) {
        if let Some(last) = facts.last() {
            self.recorded.insert(shard, last.seq);
        }
        self.facts.extend(facts);
    }

    pub(super) fn recorded_seq(&self, shard: u16) -> u64 {
        self.recorded.get(&shard).copied().unwrap_or(0)
    }

    fn taken(&self, filter: &Filter) -> impl Iterator<Item = &Fact> {
        let filter = filter.clone();
        self.facts.iter().filter(move |fact| {
            filter.start.is_none_or(|start| fact.at >= start)
                && filter.end.is_none_or(|end| fact.at < end)
                && filter.region.is_none_or(|region| fact.region == region)
                && (filter.include_direct || matches!(fact.conversation, ConversationId::Group(_)))
        })
    }

    pub(super) fn total(&self, filter: &Filter) -> u64 {
        self.taken(filter).count() as u64
    }

    pub(super) fn top_users(&self, filter: &Filter) -> Vec<Ranked<UserId>> {
        ranking(self.taken(filter).map(|fact| fact.sender))
    }

    pub(super) fn top_conversations(&self, filter: &Filter) -> Vec<Ranked<ConversationId>> {
        ranking(self.taken(filter).map(|fact| fact.conversation))
    }

    pub(super) fn activity(&self, filter: &Filter, step_ms: i64) -> Vec<Ranked<Timestamp>> {
        let mut steps = BTreeMap::<i64, u64>::new();
        for fact in self.taken(filter) {
            *steps.entry(fact.at.as_millis() / step_ms * step_ms).or_default() += 1;
        }
        steps.into_iter().map(|(at, messages)| Ranked { key: Timestamp::from_millis(at), messages }).collect()
    }
}

fn ranking<T: Hash + Eq + Copy + ToString>(keys: impl Iterator<Item = T>) -> Vec<Ranked<T>> {
    let mut counts = HashMap::<T, u64>::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    let mut ranked: Vec<_> = counts.into_iter().map(|(key, messages)| Ranked { key, messages }).collect();
    ranked.sort_by_cached_key(|ranked| (std::cmp::Reverse(ranked.messages), ranked.key.to_string()));
    ranked
}

/// Draws facts and filters: the same ones for the same seed.
pub(super) struct Draw {
    lot: StdRng,
    users: Vec<UserId>,
    conversations: Vec<ConversationId>,
}

impl Draw {
    pub(super) const SHARDS: u16 = 3;
    const REGIONS: u16 = 3;

    pub(super) fn seeded(seed: u64) -> Self {
        let mut lot = StdRng::seed_from_u64(seed);
        let users: Vec<_> = (0..80).map(|_| UserId::from_bytes(id_bytes(&mut lot)).unwrap()).collect();
        let groups = (0..30).map(|_| GroupId::from_bytes(id_bytes(&mut lot)).unwrap().into()).collect::<Vec<_>>();
        let directs = (0..40).map(|number| ConversationId::direct(users[number], users[(number * 7) % users.len()]));
        let conversations = directs.chain(groups).collect();
        Self { lot, users, conversations }
    }

    /// The next facts of a shard, with holes between their `seq`.
    pub(super) fn range(&mut self, model: &Model) -> (u16, Vec<Fact>) {
        let shard = self.lot.random_range(0..Self::SHARDS);
        let mut seq = model.recorded_seq(shard);
        let facts = (0..self.lot.random_range(1..60))
            .map(|_| {
                seq += self.lot.random_range(1..4);
                self.fact(seq)
            })
            .collect();
        (shard, facts)
    }

    pub(super) fn users(self) -> impl Iterator<Item = UserId> {
        self.users.into_iter()
    }

    /// A number from 1 to `most`.
    pub(super) fn length(&mut self, most: u64) -> u64 {
        self.lot.random_range(1..=most)
    }

    fn fact(&mut self, seq: u64) -> Fact {
        // The smaller of two numbers: some are far more talkative than others.
        let skewed = |lot: &mut StdRng, length| lot.random_range(0..length).min(lot.random_range(0..length));
        let sender = self.users[skewed(&mut self.lot, self.users.len())];
        let conversation = self.conversations[skewed(&mut self.lot, self.conversations.len())];
        Fact { seq, at: self.moment(), region: sender.region(), conversation, sender }
    }

    /// A moment of the ninety days, often within a millisecond of a full hour or of midnight.
    fn moment(&mut self) -> Timestamp {
        let at = FIRST_DAY_MS + self.lot.random_range(0..DAYS * DAY_MS);
        let near = self.lot.random_range(-1..=1);
        Timestamp::from_millis(match self.lot.random_range(0..10) {
            0 => at / DAY_MS * DAY_MS + near,
            1 => at / HOUR_MS * HOUR_MS + near,
            _ => at,
        })
    }

    /// Any range: none, one end, both; over weeks or within a day; all regions or one.
    pub(super) fn filter(&mut self) -> Filter {
        let start = self.moment();
        let end = match self.lot.random_range(0..3) {
            0 => Timestamp::from_millis(start.as_millis() + self.lot.random_range(0..2 * DAY_MS)),
            1 => Timestamp::from_millis(start.as_millis() / DAY_MS * DAY_MS + DAY_MS),
            _ => self.moment().max(start),
        };
        Filter {
            start: self.lot.random_bool(0.7).then_some(start),
            end: self.lot.random_bool(0.7).then_some(end),
            region: self.lot.random_bool(0.3).then(|| region(&mut self.lot)),
            include_direct: self.lot.random(),
        }
    }
}

fn region(lot: &mut StdRng) -> Region {
    Region::new(lot.random_range(0..Draw::REGIONS)).unwrap()
}

fn id_bytes(lot: &mut StdRng) -> [u8; 16] {
    let mut bytes = [0; 16];
    lot.fill_bytes(&mut bytes);
    let [high, low] = region(lot).number().to_be_bytes();
    bytes[6] = 0x70 | high;
    bytes[7] = low;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}
