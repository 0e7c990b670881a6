//! A connection, as the hub knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use types::{SessionId, Timestamp, UserId};

use super::outbox::Outbox;
use super::room::Room;
use crate::auth::Caller;

/// A client that listens: a WebSocket, or a long-poll that waits.
pub(crate) struct Connection {
    /// Given out in ascending order.
    pub(crate) number: u64,
    /// Whose it is.
    pub(crate) user: UserId,
    /// By which log-in.
    pub(crate) session: SessionId,
    /// When its token ceases to be good.
    pub(crate) expires_at: Timestamp,
    /// What waits to be written.
    pub(crate) outbox: Outbox,
    /// The rooms that it has entered.
    pub(super) rooms: Mutex<Vec<Arc<Room>>>,
    /// The beat at which something last came from the client.
    heard: AtomicU64,
    /// The beat at which its user last did something.
    acted: AtomicU32,
    /// One more than the beat at which it was seen to end, 0 before.
    ended: AtomicU64,
    /// Whether a ping is out that nothing has answered.
    is_probed: AtomicBool,
}

impl Connection {
    pub(super) fn new(number: u64, caller: &Caller, beat: u64, outbox_bytes: usize) -> Self {
        Self {
            number,
            user: caller.user,
            session: caller.session,
            expires_at: caller.expires_at,
            outbox: Outbox::new(outbox_bytes),
            rooms: Mutex::default(),
            heard: AtomicU64::new(beat),
            acted: AtomicU32::new(short(beat)),
            ended: AtomicU64::new(0),
            is_probed: AtomicBool::new(false),
        }
    }

    /// Something came from the client.
    pub(crate) fn hear(&self, beat: u64) {
        self.heard.store(beat, Ordering::Relaxed);
        self.is_probed.store(false, Ordering::Relaxed);
    }

    /// Its user did something: what came was no sign of life of the client alone.
    pub(crate) fn act(&self, beat: u64) {
        self.acted.store(short(beat), Ordering::Relaxed);
    }

    /// For how many beats its user has done nothing.
    pub(super) fn idle(&self, beat: u64) -> u64 {
        short(beat).saturating_sub(self.acted.load(Ordering::Relaxed)).into()
    }

    /// The beat at which something last came.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Its task has seen that it ends.
    pub(super) fn note_end(&self, beat: u64) {
        self.ended.store(beat + 1, Ordering::Relaxed);
    }

    /// The beat at which its task has seen that it ends.
    pub(super) fn ended(&self) -> Option<u64> {
        self.ended.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Notes that a ping goes out. Gives whether one was out already.
    pub(super) fn probe(&self) -> bool {
        self.is_probed.swap(true, Ordering::Relaxed)
    }
}

/// Beats are counted from the start of the process, and this many last for decades.
fn short(beat: u64) -> u32 {
    u32::try_from(beat).unwrap_or(u32::MAX)
}
