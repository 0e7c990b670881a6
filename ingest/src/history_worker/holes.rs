//! Holes of a shard: events that left the log before they were stored.
//!
//! A log that no longer has the event before another one gives `prev` as 0, which says that there was none. Behind a hole
//! that may be wrong: the event before may be a missing one. So `prev` becomes the last place of the hole, where the
//! conversation may have been then. Whoever reads across it finds that nothing stored precedes the event, and that
//! something is missing. The first event of a conversation behind a hole may come at any time, so a hole is remembered
//! for as long as the process runs; where it cannot be told, whole counts as not whole.

use std::time::Duration;

use types::{Entry, Timestamp};

/// How far the clocks of those who make ids and of those who store events may differ.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// What is known of the holes of a shard.
#[derive(Default)]
pub(super) struct Holes {
    /// The last `seq` that is known to be stored, 0 when none is.
    through_seq: u64,
    last: Option<Hole>,
}

/// Missing events.
#[derive(Clone, Copy)]
pub(super) struct Hole {
    /// The `seq` before the first of them.
    pub(super) after_seq: u64,
    /// The `seq` of the last of them.
    pub(super) end_seq: u64,
    /// None of them was stored in the log later than then.
    ended_at: Timestamp,
}

impl Holes {
    /// Whether nothing is missing before an event that is not known to be.
    pub(super) fn are_followed_by(&self, first: &Entry) -> bool {
        let missing = self.last.map_or(0, |hole| hole.end_seq);
        first.position.seq <= self.through_seq.max(missing).saturating_add(1)
    }

    /// Everything up to `seq` is stored.
    pub(super) fn go_on(&mut self, seq: u64) {
        self.through_seq = self.through_seq.max(seq);
    }

    /// Goes through events that come next, and gives the holes before and between them. Behind a hole no event says that
    /// it is the first of its conversation unless that is certain.
    pub(super) fn pass(&mut self, entries: &mut [Entry]) -> Vec<Hole> {
        let (mut through_seq, mut found) = (self.through_seq, Vec::new());
        for entry in entries {
            let hole = self.before(entry, through_seq);
            self.last = hole.or(self.last);
            found.extend(hole);
            through_seq = through_seq.max(entry.position.seq);
            if entry.prev == 0 && self.last.is_some_and(|hole| hole.may_have_held_one_before(entry)) {
                entry.prev = self.last.map_or(0, |hole| hole.end_seq);
            }
        }
        found
    }

    /// The hole between an event and what comes last before it, if there is one. Events that could not be stored come
    /// again, but a hole is found once.
    fn before(&self, entry: &Entry, through_seq: u64) -> Option<Hole> {
        let end_seq = entry.position.seq.saturating_sub(1);
        let is_known = self.last.is_some_and(|last| last.end_seq >= end_seq);
        let is_hole = through_seq > 0 && end_seq > through_seq && !is_known;
        is_hole.then_some(Hole { after_seq: through_seq, end_seq, ended_at: entry.at })
    }
}

impl Hole {
    /// Whether an event of the same conversation may be missing.
    fn may_have_held_one_before(&self, entry: &Entry) -> bool {
        entry.position.seq > self.end_seq && entry.conversation.born_at() <= self.ended_at.plus(CLOCK_SKEW)
    }
}
