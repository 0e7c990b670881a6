//! Who is to be looked at when: one timer for all connections.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::connection::Connection;

/// Beats in one turn.
const SLOTS: usize = 256;

/// Connections by the beat at which they are to be looked at.
pub(crate) struct Wheel {
    state: Mutex<State>,
}

struct State {
    beat: u64,
    slots: Vec<Vec<Weak<Connection>>>,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { beat: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() }) }
    }

    /// Has a connection looked at `beats` from now, or sooner when that is more than a turn away.
    pub(crate) fn add(&self, connection: &Arc<Connection>, beats: u64) {
        let mut state = self.state.lock();
        let at = state.beat + beats.clamp(1, SLOTS as u64 - 1);
        state.slot(at).push(Arc::downgrade(connection));
    }

    /// The next beat, and those who are to be looked at in it.
    pub(crate) fn turn(&self) -> (u64, Vec<Weak<Connection>>) {
        let mut state = self.state.lock();
        state.beat += 1;
        let beat = state.beat;
        (beat, std::mem::take(state.slot(beat)))
    }
}

impl State {
    fn slot(&mut self, beat: u64) -> &mut Vec<Weak<Connection>> {
        let index = usize::try_from(beat % SLOTS as u64).unwrap_or_default();
        &mut self.slots[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::connection;

    #[test]
    fn a_connection_comes_up_at_its_beat_and_once() {
        let (wheel, connection) = (Wheel::new(), connection());
        wheel.add(&connection, 3);
        let came: Vec<usize> = (0..SLOTS * 2).map(|_| wheel.turn().1.len()).collect();
        let expected: Vec<usize> = (0..SLOTS * 2).map(|index| usize::from(index == 2)).collect();
        assert_eq!(came, expected);
    }

    #[test]
    fn what_is_too_far_away_comes_up_within_a_turn() {
        let (wheel, connection) = (Wheel::new(), connection());
        wheel.add(&connection, 1_000_000);
        let beat = std::iter::repeat_with(|| wheel.turn()).find(|(_, due)| !due.is_empty()).unwrap().0;
        assert_eq!(beat, SLOTS as u64 - 1);
    }
}
