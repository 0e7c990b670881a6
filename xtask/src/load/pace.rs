//! When the next message is due, and from whom.

use std::time::{Duration, Instant};

use super::Phase;

/// The pace of one phase.
pub(super) struct Pace {
    phase: Phase,
    started: Instant,
    rooms: usize,
    room_size: usize,
    /// Messages handed out.
    sent: usize,
    /// Connections that may send, for a loop of acknowledgements.
    ready: Vec<usize>,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send from this connection a message that was due then.
    Send(usize, Instant),
    /// Nothing before something has arrived.
    Wait,
    /// Look again at once: the clock alone decides.
    Spin,
    /// No more will be sent.
    Finished,
}

impl Pace {
    pub(super) fn new(phase: Phase, started: Instant, rooms: usize, room_size: usize) -> Self {
        let ready = match phase {
            Phase::Acks { in_flight_each, .. } => {
                let connections = 0..rooms * room_size;
                connections.flat_map(|connection| std::iter::repeat_n(connection, in_flight_each)).collect()
            }
            _ => Vec::new(),
        };
        Self { phase, started, rooms, room_size, sent: 0, ready }
    }

    /// What to do at `now`, with so many messages in flight.
    pub(super) fn next(&mut self, now: Instant, open: usize) -> Next {
        let is_over = |seconds: f64| now.duration_since(self.started).as_secs_f64() >= seconds;
        match self.phase {
            Phase::Closed { seconds, .. } if is_over(seconds) => Next::Finished,
            Phase::Burst { messages, .. } if self.sent >= messages => Next::Finished,
            Phase::Closed { in_flight, .. } | Phase::Burst { in_flight, .. } if open >= in_flight => Next::Wait,
            Phase::Closed { .. } | Phase::Burst { .. } => Next::Send(self.sender(), now),
            Phase::Acks { seconds, .. } if is_over(seconds) => Next::Finished,
            Phase::Acks { .. } => self.ready.pop().map_or(Next::Wait, |connection| Next::Send(connection, now)),
            Phase::Open { rate, seconds } => {
                let due = Duration::from_secs_f64(self.sent as f64 / rate);
                if due.as_secs_f64() >= seconds {
                    return Next::Finished;
                }
                let due = self.started + due;
                if due > now { Next::Spin } else { Next::Send(self.sender(), due) }
            }
        }
    }

    /// A connection's message was acknowledged.
    pub(super) fn acked(&mut self, connection: usize) {
        if matches!(self.phase, Phase::Acks { .. }) {
            self.ready.push(connection);
        }
    }

    /// Whether latencies are recorded.
    pub(super) fn is_open_loop(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Takes turns over the rooms, and within each over its members.
    fn sender(&mut self) -> usize {
        let turn = self.sent;
        self.sent += 1;
        turn % self.rooms * self.room_size + turn / self.rooms % self.room_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_loop_waits_while_enough_is_in_flight_and_takes_turns() {
        let now = Instant::now();
        let mut pace = Pace::new(Phase::Closed { in_flight: 2, seconds: 1.0 }, now, 2, 3);
        let senders: Vec<Next> = (0..7).map(|_| pace.next(now, 1)).collect();
        assert_eq!(senders, [0, 3, 1, 4, 2, 5, 0].map(|sender| Next::Send(sender, now)));
        assert_eq!(pace.next(now, 2), Next::Wait);
        assert_eq!(pace.next(now + Duration::from_secs(1), 0), Next::Finished);
    }

    #[test]
    fn an_open_loop_goes_by_the_clock_and_counts_from_it() {
        let start = Instant::now();
        let mut pace = Pace::new(Phase::Open { rate: 100.0, seconds: 0.03 }, start, 1, 1);
        let late = start + Duration::from_millis(15);
        assert_eq!(pace.next(late, 9), Next::Send(0, start));
        assert_eq!(pace.next(late, 9), Next::Send(0, start + Duration::from_millis(10)));
        assert_eq!(pace.next(late, 9), Next::Spin);
        assert_eq!(pace.next(late + Duration::from_secs(1), 9), Next::Send(0, start + Duration::from_millis(20)));
        assert_eq!(pace.next(late + Duration::from_secs(1), 9), Next::Finished);
    }

    #[test]
    fn a_loop_of_acknowledgements_keeps_as_many_of_each_in_flight_as_it_is_told() {
        let now = Instant::now();
        let mut pace = Pace::new(Phase::Acks { in_flight_each: 2, seconds: 1.0 }, now, 1, 2);
        let mut senders: Vec<Next> = (0..4).map(|open| pace.next(now, open)).collect();
        senders.sort_by_key(|next| format!("{next:?}"));
        assert_eq!(senders, [0, 0, 1, 1].map(|sender| Next::Send(sender, now)));
        assert_eq!(pace.next(now, 4), Next::Wait);
        pace.acked(0);
        assert_eq!(pace.next(now, 3), Next::Send(0, now));
        assert_eq!(pace.next(now, 4), Next::Wait);
    }

    #[test]
    fn a_loop_of_acknowledgements_has_one_message_of_each_in_flight() {
        let now = Instant::now();
        let mut pace = Pace::new(Phase::Acks { in_flight_each: 1, seconds: 1.0 }, now, 1, 2);
        assert_eq!(pace.next(now, 0), Next::Send(1, now));
        assert_eq!(pace.next(now, 1), Next::Send(0, now));
        assert_eq!(pace.next(now, 2), Next::Wait);
        pace.acked(1);
        assert_eq!(pace.next(now, 2), Next::Send(1, now));
    }
}
