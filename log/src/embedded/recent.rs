//! Which event ids were stored within the duplicate window.
//!
//! Ten thousand events a second make a million ids in two minutes, so an id takes eight bytes here: forty bits of a
//! keyed hash and twenty-four of its place. What is found is a suspicion, and the record at that place tells.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

use types::EventId;

/// Ids that are remembered, at most, whatever the window: some 250 MB. It takes 110,000 events a second for two
/// minutes to come so far; further events are then refused until older ones have left the window.
const CAPACITY: usize = 16 << 20;
/// The window is forgotten in so many steps, so an id is remembered for up to a quarter longer than it must be.
const STEPS: u32 = 4;
/// The bits of a slot that hold the place.
const OFFSET_BITS: u32 = 24;

/// The ids of the duplicate window and where their events lie.
pub(crate) struct Recent {
    window: Duration,
    hasher: RandomState,
    /// Oldest first; never empty.
    generations: VecDeque<Generation>,
    remembered: usize,
}

/// The ids of one step of the window.
struct Generation {
    began: Instant,
    /// The place of its first event, from which offsets count.
    base_seq: u64,
    slots: HashSet<Slot, BuildHasherDefault<Spread>>,
    /// Those whose forty bits were taken: one in a million at most.
    crowded: Vec<Slot>,
}

/// Forty bits of an id's hash, then the event's offset from its generation's base. Equal when the hash is.
#[derive(Clone, Copy)]
struct Slot(u64);

impl Slot {
    fn fingerprint(self) -> u64 {
        self.0 >> OFFSET_BITS
    }

    fn offset(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl Eq for Slot {}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint());
    }
}

/// Fingerprints are a keyed hash already: one multiplication spreads their forty bits over sixty-four.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

impl Recent {
    /// Nothing remembered yet. `now` is when the first step begins.
    pub(crate) fn new(window: Duration, now: Instant) -> Self {
        Self {
            window,
            hasher: RandomState::new(),
            generations: VecDeque::from([Generation::new(now, 0)]),
            remembered: 0,
        }
    }

    /// Whether no further id can be remembered.
    pub(crate) fn is_full(&self) -> bool {
        self.remembered >= CAPACITY
    }

    /// Remembers that the event at `seq` has this id. Sequence numbers must grow.
    pub(crate) fn insert(&mut self, id: &EventId, seq: u64, now: Instant) {
        let fingerprint = self.fingerprint(id);
        self.begin_generation_if_due(seq, now);
        let Some(newest) = self.generations.back_mut() else { return };
        if newest.is_empty() {
            newest.base_seq = seq;
        }
        let slot = Slot(fingerprint << OFFSET_BITS | (seq - newest.base_seq));
        if !newest.slots.insert(slot) {
            newest.crowded.push(slot);
        }
        self.remembered += 1;
    }

    /// The places, newest first, at one of which the event with this id lies if it was stored within the window.
    pub(crate) fn candidates(&self, id: &EventId) -> impl Iterator<Item = u64> + '_ {
        let wanted = Slot(self.fingerprint(id) << OFFSET_BITS);
        self.generations.iter().rev().flat_map(move |generation| generation.candidates(wanted))
    }

    /// The oldest place that [`Recent::candidates`] may give, `None` when there is none.
    pub(crate) fn oldest_seq(&self) -> Option<u64> {
        self.generations.iter().find(|generation| !generation.is_empty()).map(|generation| generation.base_seq)
    }

    /// Forgets what has left the window. To be called now and then, also when nothing is inserted.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.begin_generation_if_due(0, now);
        // A generation ends when the next begins, and may be forgotten a window later.
        while self.generations.get(1).is_some_and(|next| now.duration_since(next.began) >= self.window) {
            let Some(oldest) = self.generations.pop_front() else { break };
            self.remembered -= oldest.len();
        }
        if let [only] = self.generations.make_contiguous()
            && only.is_empty()
        {
            // Idle for a whole window: the room that was made for as many ids as before goes too.
            only.slots.shrink_to_fit();
        }
    }

    fn begin_generation_if_due(&mut self, seq: u64, now: Instant) {
        let Some(newest) = self.generations.back().filter(|newest| !newest.is_empty()) else { return };
        let is_old = now.duration_since(newest.began) >= self.window / STEPS;
        let is_long = seq.saturating_sub(newest.base_seq) >> OFFSET_BITS > 0;
        if is_old || is_long {
            let expected = newest.len();
            self.generations.push_back(Generation::new(now, expected));
        }
    }

    fn fingerprint(&self, id: &EventId) -> u64 {
        self.hasher.hash_one(id.as_bytes()) >> OFFSET_BITS
    }
}

impl Generation {
    fn new(began: Instant, expected: usize) -> Self {
        let slots = HashSet::with_capacity_and_hasher(expected, BuildHasherDefault::default());
        Self { began, base_seq: 0, slots, crowded: Vec::new() }
    }

    fn len(&self) -> usize {
        self.slots.len() + self.crowded.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn candidates(&self, wanted: Slot) -> impl Iterator<Item = u64> + '_ {
        let crowded = self.crowded.iter().rev().filter(move |slot| **slot == wanted);
        crowded.chain(self.slots.get(&wanted)).map(|slot| self.base_seq + slot.offset())
    }
}

#[cfg(test)]
mod tests {
    use types::Region;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(120);

    fn id() -> EventId {
        EventId::generate(Region::default())
    }

    fn find(recent: &Recent, id: &EventId) -> Vec<u64> {
        recent.candidates(id).collect()
    }

    #[test]
    fn an_id_is_remembered_for_the_window_and_then_forgotten() {
        let start = Instant::now();
        let mut recent = Recent::new(WINDOW, start);
        let mut stored = Vec::new();
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            recent.expire(now);
            let id = id();
            recent.insert(&id, second + 1, now);
            stored.push(id);
            for (age, id) in stored.iter().rev().take(121).enumerate() {
                assert_eq!(find(&recent, id), [second + 1 - age as u64], "after {second} s");
            }
        }
        assert!(recent.remembered <= 120 + 30 + 1, "{}", recent.remembered);
        assert!(find(&recent, &stored[0]).is_empty());
    }

    #[test]
    fn an_idle_log_forgets_too() {
        let start = Instant::now();
        let mut recent = Recent::new(WINDOW, start);
        let id = id();
        recent.insert(&id, 1, start);
        for second in [1, 31, 100, 150, 151] {
            recent.expire(start + Duration::from_secs(second));
        }
        assert_eq!((recent.remembered, find(&recent, &id)), (0, vec![]));
    }

    #[test]
    fn ids_with_one_fingerprint_are_all_found() {
        let mut generation = Generation::new(Instant::now(), 0);
        generation.base_seq = 10;
        for offset in [0, 3] {
            let slot = Slot(77 << OFFSET_BITS | offset);
            if !generation.slots.insert(slot) {
                generation.crowded.push(slot);
            }
        }
        let found: Vec<u64> = generation.candidates(Slot(77 << OFFSET_BITS)).collect();
        assert_eq!(found, [13, 10]);
    }

    #[test]
    fn an_offset_too_large_for_a_slot_begins_a_generation() {
        let start = Instant::now();
        let mut recent = Recent::new(WINDOW, start);
        let (first, second) = (id(), id());
        recent.insert(&first, 5, start);
        recent.insert(&second, 5 + (1 << OFFSET_BITS), start);
        assert_eq!(find(&recent, &first), [5]);
        assert_eq!(find(&recent, &second), [5 + (1 << OFFSET_BITS)]);
    }
}
