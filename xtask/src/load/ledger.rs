//! Which message was seen by whom: each member of its room sees a message once, and all see a room's messages in
//! one order.
//!
//! The first connection to see a message sets its place in the room's order; every other must see the same message
//! at the same place. So a message that is lost, doubled or moved shows as soon as it happens, at the cost of two
//! look-ups per delivery.

use std::time::Instant;

/// How many errors are told in full.
const MAX_ERRORS: usize = 10;

/// What was sent and what arrived. All rooms are of one size.
#[derive(Debug)]
pub(super) struct Ledger {
    room_size: u32,
    /// The number of the first message of this phase. Numbers never repeat, so a late copy is known.
    base: u32,
    messages: Vec<Message>,
    rooms: Vec<Vec<u32>>,
    /// Messages that are not at all members yet or not acknowledged.
    open: usize,
    deliveries: u64,
    acks: u64,
    errors: Vec<String>,
}

#[derive(Debug)]
struct Message {
    room: u32,
    delivered: u32,
    is_acked: bool,
    /// When it was to be sent.
    at: Instant,
}

/// Where a connection stands in its room's order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) room: u32,
    pub(super) seen: u32,
}

impl Ledger {
    pub(super) fn new(rooms: usize, room_size: usize) -> Self {
        let room_size = u32::try_from(room_size).unwrap_or(u32::MAX);
        Self {
            room_size,
            base: 0,
            messages: Vec::new(),
            rooms: vec![Vec::new(); rooms],
            open: 0,
            deliveries: 0,
            acks: 0,
            errors: Vec::new(),
        }
    }

    /// Starts anew. Readers must stand at 0.
    pub(super) fn begin(&mut self) {
        self.base += self.sent();
        self.messages.clear();
        self.rooms.iter_mut().for_each(Vec::clear);
        self.open = 0;
        self.deliveries = 0;
        self.acks = 0;
    }

    /// A message is sent to a room: its number.
    pub(super) fn send(&mut self, room: u32, at: Instant) -> u32 {
        let number = self.base + self.sent();
        self.messages.push(Message { room, delivered: 0, is_acked: false, at });
        self.open += 1;
        number
    }

    /// A reader saw a message. Answers when that was due.
    #[inline]
    pub(super) fn deliver(&mut self, reader: &mut Reader, number: u32) -> Option<Instant> {
        let index = number.wrapping_sub(self.base) as usize;
        let known = self.messages.get_mut(index).filter(|message| message.room == reader.room);
        let Some(message) = known else {
            self.error(format!("message {number} is not of this phase and room"));
            return None;
        };
        let order = &mut self.rooms[reader.room as usize];
        let expected = order.get(reader.seen as usize).copied();
        reader.seen += 1;
        let is_in_order = match expected {
            Some(expected) => expected == number,
            None => {
                order.push(number);
                message.delivered == 0
            }
        };
        if !is_in_order {
            self.error(format!("message {number} came where {expected:?} was expected"));
            return None;
        }
        let at = message.at;
        message.delivered += 1;
        self.open -= usize::from(message.is_acked && message.delivered == self.room_size);
        self.deliveries += 1;
        Some(at)
    }

    /// A message was acknowledged to its sender.
    pub(super) fn ack(&mut self, number: u32) {
        let index = number.wrapping_sub(self.base) as usize;
        let Some(message) = self.messages.get_mut(index).filter(|message| !message.is_acked) else {
            return self.error(format!("the acknowledgement of {number} was not due"));
        };
        message.is_acked = true;
        self.open -= usize::from(message.delivered == self.room_size);
        self.acks += 1;
    }

    pub(super) fn error(&mut self, error: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// What went wrong since it was asked last.
    pub(super) fn take_errors(&mut self) -> Vec<String> {
        std::mem::take(&mut self.errors)
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Messages in flight.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Messages sent in this phase.
    pub(super) fn sent(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    pub(super) fn acks(&self) -> u64 {
        self.acks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Reader = Reader { room: 0, seen: 0 };

    #[test]
    fn a_message_is_open_until_all_have_it_and_its_sender_knows() {
        let mut ledger = Ledger::new(1, 2);
        let (mut one, mut other) = (START, START);
        let number = ledger.send(0, Instant::now());
        ledger.deliver(&mut one, number);
        ledger.deliver(&mut other, number);
        assert_eq!(ledger.open(), 1);
        ledger.ack(number);
        assert_eq!((ledger.open(), ledger.deliveries(), ledger.acks()), (0, 2, 1));
        assert!(!ledger.has_errors());
    }

    #[test]
    fn another_order_is_an_error() {
        let mut ledger = Ledger::new(1, 2);
        let (mut one, mut other) = (START, START);
        let (first, second) = (ledger.send(0, Instant::now()), ledger.send(0, Instant::now()));
        ledger.deliver(&mut one, second);
        ledger.deliver(&mut one, first);
        ledger.deliver(&mut other, first);
        assert!(ledger.has_errors());
    }

    #[test]
    fn a_message_twice_is_an_error_even_for_the_fastest_reader() {
        let mut ledger = Ledger::new(1, 3);
        let mut one = START;
        let number = ledger.send(0, Instant::now());
        ledger.ack(number);
        ledger.deliver(&mut one, number);
        assert!(!ledger.has_errors());
        ledger.deliver(&mut one, number);
        assert!(ledger.has_errors());
    }

    #[test]
    fn a_message_of_another_room_or_an_earlier_phase_is_an_error() {
        let mut ledger = Ledger::new(2, 1);
        let number = ledger.send(1, Instant::now());
        assert_eq!(ledger.deliver(&mut START.clone(), number), None);
        assert_eq!(ledger.take_errors().len(), 1);
        ledger.begin();
        assert_eq!(ledger.deliver(&mut Reader { room: 1, seen: 0 }, number), None);
        assert!(ledger.has_errors());
    }

    #[test]
    fn an_acknowledgement_twice_is_an_error() {
        let mut ledger = Ledger::new(1, 1);
        let number = ledger.send(0, Instant::now());
        ledger.ack(number);
        ledger.ack(number);
        assert!(ledger.has_errors());
    }
}
