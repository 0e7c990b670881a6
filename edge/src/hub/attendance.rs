//! Who is there. Presence never enters the log and no store keeps it: each edge knows its own connections, and an
//! edge that wants to know of a user asks those that hold connections of it.
//!
//! - An edge asks on the user's own topic, which exactly the edges listen to that hold connections of the user. Each
//!   answers on the user's presence topic, which exactly the edges listen to where somebody watches the user. So a user
//!   whom nobody watches costs nothing but a word when it comes and goes, which nobody hears.
//! - An answer holds for [`LEASE`] and is asked for anew every [`RENEWAL`]. An edge that dies answers no more, and what it
//!   had said fades.
//! - Who comes or goes is told at once. Who goes may be about to come back, so it stays for [`GRACE`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use log::{Log, Topic};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use types::notice::Status;
use types::{Notice, Timestamp, UserId};

use super::connection::Connection;
use super::{BEATS_PER_SECOND, Hub, Presence};
use crate::auth::Caller;
use crate::{ApiError, frame};

/// The most users that one connection watches.
pub(crate) const MAX_WATCHED: usize = 100;
/// The most users that are watched at one edge.
const MAX_WATCHED_HERE: usize = 100_000;
/// How often a watched user is asked for.
const RENEWAL: Duration = Duration::from_secs(20);
/// How long what an edge says of a user holds.
const LEASE: Duration = Duration::from_secs(50);
/// How long a user who has gone may take to come back unnoticed.
const GRACE: Duration = Duration::from_secs(3);
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_millis(250);
/// A user who has done nothing for so long is away, in beats.
const AWAY_BEATS: u64 = 5 * 60 * BEATS_PER_SECOND;

/// What this edge knows of the users that are watched here.
pub(super) struct Attendance {
    /// What tells this edge's answers from others'.
    edge: u64,
    log: Arc<dyn Log>,
    watched: Mutex<BTreeMap<UserId, Watched>>,
    answered: Notify,
}

/// A user who is watched here.
struct Watched {
    /// What each edge said that holds connections of it: seldom more than one.
    said: Vec<Said>,
    /// What watchers were told; `None` while nothing is known yet.
    shown: Option<Status>,
    last_seen: Option<Timestamp>,
    ask_at: Instant,
    /// Until when no answer means nothing.
    patience: Instant,
}

struct Said {
    edge: u64,
    status: Status,
    until: Instant,
}

/// Whether a user is online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether it is there.
    pub(crate) status: Status,
    /// When this edge last knew it to be there.
    pub(crate) last_seen: Option<Timestamp>,
}

impl Attendance {
    pub(super) fn new(log: Arc<dyn Log>) -> Self {
        Self { edge: rand::random(), log, watched: Mutex::default(), answered: Notify::new() }
    }

    async fn tell(&self, user: UserId, status: Status) {
        let notice = Notice::Presence { user, edge: self.edge, status };
        send(&*self.log, Topic::Presence(user), &notice).await;
    }

    /// Remembers that a user is watched here, if it is not remembered already. Gives what is known of it.
    fn remember(&self, user: UserId, now: Instant) -> Result<Option<Seen>, ApiError> {
        let mut watched = self.watched.lock();
        if !watched.contains_key(&user) && watched.len() >= MAX_WATCHED_HERE {
            return Err(ApiError::busy("too many users are being watched"));
        }
        let known = watched.entry(user).or_insert_with(|| Watched {
            said: Vec::new(),
            shown: None,
            last_seen: None,
            ask_at: now + RENEWAL,
            patience: now + ANSWER,
        });
        Ok(known.shown.map(|status| Seen { status, last_seen: known.last_seen }))
    }
}

impl Watched {
    /// What is to be shown now, if it is something else than before.
    fn settle(&mut self, now: Instant) -> Option<Status> {
        self.said.retain(|said| said.until > now);
        let status = self.said.iter().map(|said| said.status).max().unwrap_or_default();
        let is_early = self.shown.is_none() && status == Status::Offline && now < self.patience;
        if is_early || self.shown == Some(status) {
            return None;
        }
        self.shown = Some(status);
        Some(status)
    }

    fn note(&mut self, edge: u64, status: Status, now: Instant) {
        let known = self.said.iter_mut().find(|said| said.edge == edge);
        match (known, status) {
            (Some(said), Status::Offline) => said.until = said.until.min(now + GRACE),
            (None, Status::Offline) => return,
            (Some(said), status) => (said.status, said.until) = (status, now + LEASE),
            (None, status) => self.said.push(Said { edge, status, until: now + LEASE }),
        }
        self.last_seen = Some(Timestamp::now());
    }
}

impl Hub {
    /// What this edge itself sees of a user.
    fn sees(&self, user: UserId) -> Status {
        let now = self.now();
        let idle = self.rooms.of_user(user).iter().map(|connection| connection.idle(now)).min();
        match idle {
            None => Status::Offline,
            Some(idle) if idle >= AWAY_BEATS => Status::Away,
            Some(_) => Status::Online,
        }
    }

    /// A connection of the user has come. The oldest one that is there is told of: of several that come at once, each
    /// of which sees the others, exactly one is it.
    pub(super) async fn has_come(&self, connection: &Connection) {
        let user = connection.user;
        let oldest = self.rooms.of_user(user).iter().map(|present| present.number).min();
        if oldest == Some(connection.number) {
            self.attendance.tell(user, Status::Online).await;
        }
    }

    /// A connection of the user has gone. Its last one is told of.
    pub(super) fn may_have_gone(self: &Arc<Self>, user: UserId) {
        let is_gone = self.sees(user) == Status::Offline;
        if let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| is_gone) {
            let hub = self.clone();
            runtime.spawn(async move { hub.attendance.tell(user, Status::Offline).await });
        }
    }

    /// Some edge asks for a user.
    pub(super) fn asked_for(self: &Arc<Self>, user: UserId) {
        let status = self.sees(user);
        if status != Status::Offline {
            let hub = self.clone();
            tokio::spawn(async move { hub.attendance.tell(user, status).await });
        }
    }

    /// Some edge says what it sees of a user.
    pub(super) fn note_presence(&self, user: UserId, edge: u64, status: Status) {
        let mut watched = self.attendance.watched.lock();
        let Some(known) = watched.get_mut(&user) else { return };
        let now = Instant::now();
        known.note(edge, status, now);
        let change = known.settle(now).map(|status| Seen { status, last_seen: known.last_seen });
        drop(watched);
        self.attendance.answered.notify_waiters();
        if let Some(seen) = change {
            self.show(user, seen);
        }
    }

    fn show(&self, user: UserId, Seen { status, last_seen }: Seen) {
        let Some(room) = self.rooms.find(Topic::Presence(user)) else { return };
        let frame = frame::presence(user, status, last_seen);
        room.each(|connection| {
            connection.outbox.push(frame.clone());
        });
    }

    /// Has a connection watch exactly these users. What is known of them is told at once, the rest when it is known.
    ///
    /// # Errors
    /// 503 when this edge watches as many as it can, or the topics cannot be listened to.
    pub(crate) async fn watch(&self, connection: &Arc<Connection>, users: &[UserId]) -> Result<(), ApiError> {
        self.rooms.keep_watched(connection, users);
        for user in users {
            if self.rooms.find(Topic::Presence(*user)).is_none() {
                // What was known is of a time since which nobody has listened.
                self.attendance.watched.lock().remove(user);
            }
            self.rooms.enter(Topic::Presence(*user), connection, usize::MAX).await?;
            match self.attendance.remember(*user, Instant::now())? {
                Some(Seen { status, last_seen }) => {
                    connection.outbox.push(frame::presence(*user, status, last_seen));
                }
                None => send(&*self.attendance.log, Topic::User(*user), &Notice::PresenceAsked { user: *user }).await,
            }
        }
        Ok(())
    }

    /// Whether these users are there, in the order of the question. Waits a moment for answers.
    ///
    /// # Errors
    /// As [`Hub::watch`].
    pub(crate) async fn look_up(self: &Arc<Self>, caller: &Caller, users: &[UserId]) -> Result<Vec<Seen>, ApiError> {
        let presence = self.aside(caller);
        self.watch(&presence.connection, users).await?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let mut answered = std::pin::pin!(self.attendance.answered.notified());
            answered.as_mut().enable();
            let seen = self.known(users);
            let is_over = seen.iter().all(Option::is_some);
            if is_over || tokio::time::timeout_at(deadline, answered).await.is_err() {
                let nowhere = Seen { status: Status::Offline, last_seen: None };
                return Ok(seen.into_iter().map(|seen| seen.unwrap_or(nowhere)).collect());
            }
        }
    }

    /// A connection that is in no room yet, nor seen by anybody.
    fn aside(self: &Arc<Self>, caller: &Caller) -> Presence {
        let connection = Arc::new(Connection::new(self.next_number(), caller, self.now(), self.outbox_bytes));
        connection.outbox.only_hear();
        self.gauge.increment(1.0);
        Presence { hub: self.clone(), connection }
    }

    fn known(&self, users: &[UserId]) -> Vec<Option<Seen>> {
        let watched = self.attendance.watched.lock();
        let known = users.iter().map(|user| {
            let known = watched.get(user)?;
            known.shown.map(|status| Seen { status, last_seen: known.last_seen })
        });
        known.collect()
    }

    /// Somebody may no longer share a conversation with the user: nobody watches it any more and it watches nobody,
    /// until they ask again.
    pub(super) fn unwatch(&self, user: UserId) {
        for connection in self.rooms.of_user(user) {
            for watched in self.rooms.watched_by(&connection) {
                self.leave_watch(watched, &connection);
            }
        }
        for connection in self.rooms.within(Topic::Presence(user)) {
            self.leave_watch(user, &connection);
        }
    }

    fn leave_watch(&self, user: UserId, connection: &Connection) {
        if connection.user != user && self.rooms.leave(Topic::Presence(user), connection) {
            connection.outbox.push(frame::unwatched(user));
        }
    }

    /// Forgets whom nobody watches any more, shows who has faded, and asks for those whose time has come.
    pub(super) fn look_who_is_there(self: &Arc<Self>) {
        let now = Instant::now();
        let (mut changes, mut due) = (Vec::new(), Vec::new());
        let mut watched = self.attendance.watched.lock();
        watched.retain(|user, _| self.rooms.find(Topic::Presence(*user)).is_some());
        for (user, known) in watched.iter_mut() {
            if let Some(status) = known.settle(now) {
                changes.push((*user, Seen { status, last_seen: known.last_seen }));
            }
            if known.ask_at <= now {
                known.ask_at = now + RENEWAL;
                due.push(*user);
            }
        }
        drop(watched);
        for (user, seen) in changes {
            self.show(user, seen);
        }
        if !due.is_empty() {
            tokio::spawn(self.clone().ask_for(due));
        }
    }

    async fn ask_for(self: Arc<Self>, users: Vec<UserId>) {
        for user in users {
            send(&*self.attendance.log, Topic::User(user), &Notice::PresenceAsked { user }).await;
        }
    }
}

async fn send(log: &dyn Log, topic: Topic, notice: &Notice) {
    if let Err(error) = log.notify(topic, notice.encode()).await {
        tracing::debug!(%error, "a word about presence was not heard");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(now: Instant) -> Watched {
        Watched { said: Vec::new(), shown: None, last_seen: None, ask_at: now + RENEWAL, patience: now + ANSWER }
    }

    #[test]
    fn the_most_that_any_edge_sees_is_shown() {
        let now = Instant::now();
        let mut user = watched(now);
        assert_eq!(user.settle(now), None, "nothing is known yet");
        user.note(1, Status::Away, now);
        assert_eq!(user.settle(now), Some(Status::Away));
        user.note(2, Status::Online, now);
        assert_eq!(user.settle(now), Some(Status::Online));
        assert_eq!(user.settle(now), None, "nothing is shown twice");
        user.note(2, Status::Offline, now);
        assert_eq!(user.settle(now + GRACE / 2), None, "it may come back");
        assert_eq!(user.settle(now + GRACE), Some(Status::Away));
    }

    #[test]
    fn what_a_dead_edge_said_fades() {
        let now = Instant::now();
        let mut user = watched(now);
        user.note(1, Status::Online, now);
        user.settle(now);
        assert_eq!(user.settle(now + LEASE - Duration::from_millis(1)), None);
        assert_eq!(user.settle(now + LEASE), Some(Status::Offline));
        assert!(user.last_seen.is_some());
    }

    #[test]
    fn whoever_is_nowhere_is_offline_after_a_moment() {
        let now = Instant::now();
        let mut user = watched(now);
        user.note(1, Status::Offline, now);
        assert_eq!(user.settle(now), None);
        assert_eq!(user.settle(now + ANSWER), Some(Status::Offline));
        user.note(1, Status::Offline, now);
        assert_eq!(user.last_seen, None, "an edge that never saw it does not say when it was seen");
    }
}
