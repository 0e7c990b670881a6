//! Fan-out: what the log delivers to this edge goes to the connections that listen.
//!
//! One task reads the log's feed in batches, splices the events of each conversation into one [`Burst`], and hands
//! it to every connection in the topic's room; the connections' own tasks write. Nothing is encoded per receiver.
//!
//! [`Burst`]: crate::frame::Burst

mod attendance;
pub(crate) mod connection;
mod dispatch;
pub(crate) mod outbox;
mod progress;
mod rejoining;
mod revocations;
pub(crate) mod room;
mod traced;
mod wheel;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use directory::Directory;
use log::{Log, Topic};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::{GroupId, SessionId, Timestamp, UserId, Vector};

use crate::auth::{Caller, Tokens};
use crate::membership::Membership;
use crate::timeline::Timeline;
use crate::{ApiError, Error, frame};
use attendance::Attendance;
pub(crate) use attendance::{MAX_WATCHED, Seen};
use connection::Connection;
use dispatch::Dispatcher;
pub(crate) use dispatch::change_of_members;
use outbox::{Ending, Join};
use progress::Progress;
use rejoining::Interruption;
pub(crate) use revocations::LOOK_EVERY;
use revocations::Revocations;
use room::{Entered, Rooms};
use wheel::Wheel;

/// Close code: the server goes away; come back.
pub(crate) const GOING_AWAY: u16 = 1001;
/// Close code: the token has expired, or its session was ended.
pub(crate) const SIGNED_OUT: u16 = 4401;
/// Close code: the client reads too slowly; resume.
pub(crate) const TOO_SLOW: u16 = 4408;
/// Close code: the user has too many connections.
pub(crate) const TOO_MANY: u16 = 4429;

/// How long a beat is: what happens "after a while" happens at a beat.
const BEAT: Duration = Duration::from_millis(250);
/// Beats in a second.
const BEATS_PER_SECOND: u64 = 4;
/// How long a client that has been greeted may take to say from where it wants live events, in beats.
const EARLY_BEATS: u64 = 2;
/// How long a connection that ends may take to write what it must, in beats.
const GRACE_BEATS: u64 = 5 * BEATS_PER_SECOND;
/// Clients that were all sent away come back spread over this time.
const RETURN_WITHIN: Duration = Duration::from_secs(5);
/// How often a connection begins anew because its user's memberships changed while it listed them.
const JOIN_ATTEMPTS: usize = 5;

/// The connections of this edge, and what they listen to.
pub(crate) struct Hub {
    pub(crate) rooms: Rooms,
    pub(crate) progress: Progress,
    directory: Arc<dyn Directory>,
    membership: Arc<Membership>,
    timeline: Arc<Timeline>,
    tokens: Arc<Tokens>,
    /// Has somebody look for sessions that have ended: a notice of one may have been lost.
    look_again: Notify,
    wheel: Wheel,
    beat: AtomicU64,
    heartbeat_beats: u64,
    outbox_bytes: usize,
    connections_per_user: usize,
    numbers: AtomicU64,
    is_closed: AtomicBool,
    gauge: metrics::Gauge,
    attendance: Attendance,
    interruption: Interruption,
}

/// What a [`Hub`] is made of.
pub(crate) struct Parts {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) tokens: Arc<Tokens>,
    /// How often is looked for sessions that have ended.
    pub(crate) look_every: Duration,
    pub(crate) limits: HubLimits,
}

/// What one connection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HubLimits {
    /// Connections of one user.
    pub(crate) connections_per_user: usize,
    /// What may wait to be written to one connection, in bytes.
    pub(crate) outbox_bytes: usize,
    /// A connection that has been silent for so long is sent a ping; after twice the time it is closed.
    pub(crate) heartbeat_seconds: u64,
}

/// What a connection wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    /// The frames themselves.
    ForFrames,
    /// Only where something happens.
    ForWhere,
}

/// A connection that is in its rooms. Dropping it leaves them.
pub(crate) struct Presence {
    pub(crate) hub: Arc<Hub>,
    pub(crate) connection: Arc<Connection>,
}

impl Hub {
    /// Starts to listen, and the tasks that run until `shutdown`: the dispatcher, the timer, and those that look for
    /// what notices that were lost told. It knows of those that ended before.
    ///
    /// # Errors
    /// When the log cannot be listened to, or the directory does not tell which sessions have ended.
    pub(crate) async fn start(parts: Parts, shutdown: CancellationToken) -> Result<Arc<Self>, Error> {
        let Parts { log, directory, membership, timeline, tokens, look_every, limits } = parts;
        let feed = log.feed().await.map_err(away("log"))?;
        feed.topics().subscribe(Topic::Directory).await.map_err(away("log"))?;
        let hub = Arc::new(Self {
            rooms: Rooms::new(feed.topics()),
            progress: Progress::begin(&*log).await,
            directory,
            membership,
            timeline,
            tokens,
            look_again: Notify::new(),
            wheel: Wheel::new(),
            beat: AtomicU64::new(0),
            heartbeat_beats: limits.heartbeat_seconds.max(1) * BEATS_PER_SECOND,
            outbox_bytes: limits.outbox_bytes,
            connections_per_user: limits.connections_per_user,
            numbers: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            gauge: metrics::gauge!("rookery_edge_connections"),
            attendance: Attendance::new(log),
            interruption: Interruption::default(),
        });
        // Asked once notices are listened to, so that no session ends unseen between the two.
        let revocations = Revocations::begin(hub.clone(), look_every).await.map_err(away("directory"))?;
        tokio::spawn(revocations.run(shutdown.clone()));
        tokio::spawn(Dispatcher::new(hub.clone(), feed).run(shutdown.clone()));
        tokio::spawn(rejoining::run(hub.clone(), shutdown.clone()));
        tokio::spawn(tick(hub.clone(), shutdown));
        Ok(hub)
    }

    /// A new connection of the caller, in the rooms of all its conversations: it gets everything that is stored
    /// from now on. When the user has too many connections it is ending already.
    ///
    /// # Errors
    /// 503 when the rooms cannot be entered now, or this edge is closing. 401 when the session has ended since its token
    /// was looked at.
    pub(crate) async fn join(self: &Arc<Self>, caller: &Caller, listening: Listening) -> Result<Presence, ApiError> {
        if self.is_closed() {
            return Err(ApiError::unavailable());
        }
        let connection = Arc::new(Connection::new(self.next_number(), caller, self.now(), self.outbox_bytes));
        match listening {
            Listening::ForFrames => connection.outbox.listen_first(),
            Listening::ForWhere => connection.outbox.only_hear(),
        }
        self.gauge.increment(1.0);
        let presence = Presence { hub: self.clone(), connection };
        let connection = &presence.connection;
        // First the user's own topic, so that no change of its memberships is missed while they are listed.
        let entered = self.rooms.enter(Topic::User(caller.user), connection, self.connections_per_user).await?;
        if entered == Entered::Full {
            let reason = r#"{"reason":"too many connections"}"#.to_owned();
            connection.outbox.end(Ending::Close { code: TOO_MANY, reason, flush: false });
            return Ok(presence);
        }
        // Once more: before it was in the room, whoever ended the session did not find it there.
        self.tokens.check_session(caller.session)?;
        self.has_come(connection).await;
        self.enter_groups(connection).await?;
        self.wheel.add(connection, EARLY_BEATS);
        if self.is_closed() {
            self.send_away(connection);
        }
        Ok(presence)
    }

    async fn enter_groups(&self, connection: &Arc<Connection>) -> Result<(), ApiError> {
        for attempt in 0..JOIN_ATTEMPTS {
            let changes = self.membership_changes(connection.user);
            let groups = self.directory.groups_of(connection.user).await?;
            if attempt > 0 {
                self.rooms.keep_groups(connection, &groups);
            }
            for group in groups {
                self.rooms.enter(Topic::Group(group), connection, usize::MAX).await?;
            }
            if self.membership_changes(connection.user) == changes {
                return Ok(());
            }
        }
        Err(ApiError::unavailable())
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn membership_changes(&self, user: UserId) -> u64 {
        self.rooms.find(Topic::User(user)).map_or(0, |room| room.changes())
    }

    /// The present beat.
    pub(crate) fn now(&self) -> u64 {
        self.beat.load(Ordering::Relaxed)
    }

    /// Up to where everything has been handed to whoever listened. For one connection it may be held back there: see
    /// [`Presence::place`].
    pub(crate) fn position(&self) -> Vector {
        let reached = self.progress.vector();
        self.interruption.since().unwrap_or(reached)
    }

    /// Sees to it that a connection that ends is cut when it takes too long.
    pub(crate) fn give_grace(&self, connection: &Arc<Connection>) {
        connection.note_end(self.now());
        self.wheel.add(connection, GRACE_BEATS);
    }

    /// Whether this edge takes no connections any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Takes no more connections and sends away those that are there, each with a hint when to come back.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.rooms.all().iter().for_each(|connection| self.send_away(connection));
    }

    /// Cuts all connections that are left.
    pub(crate) fn cut_all(&self) {
        self.rooms.all().iter().for_each(|connection| connection.outbox.end(Ending::Cut));
    }

    fn send_away(&self, connection: &Connection) {
        connection.outbox.end(come_back("the server goes away", true));
    }

    /// Something was lost: nobody's stream is whole any more. All come back and resume.
    fn start_anew(&self) {
        self.membership.clear();
        self.look_again.notify_one();
        for connection in self.rooms.all() {
            connection.outbox.end(come_back("the stream was interrupted", false));
        }
    }

    /// Notices may have been lost: of memberships, and of sessions that ended.
    fn interrupted(&self) {
        self.interruption.begin(self.progress.vector());
        self.membership.clear();
        self.look_again.notify_one();
    }

    /// The user has access to the group after `after_seq`, as far as is known.
    fn added(&self, group: GroupId, user: UserId, after_seq: u64) {
        self.membership.set(group, user, true);
        let Some(room) = self.rooms.find(Topic::User(user)) else { return };
        room.note_change();
        room.each(|connection| connection.outbox.ask_to_join(Join { group, after_seq: Some(after_seq) }));
    }

    /// The user has no more access to the group: its connections get nothing of it from here on.
    fn removed(&self, group: GroupId, user: UserId) {
        self.membership.set(group, user, false);
        self.unwatch(user);
        let Some(room) = self.rooms.find(Topic::User(user)) else { return };
        room.note_change();
        for connection in self.rooms.of_user(user) {
            // What was only doubted was the user's to see: up to here.
            if connection.outbox.is_in_doubt(group.into()) {
                connection.outbox.release(group.into(), 0, true);
            }
            self.leave(group, &connection);
        }
    }

    /// The user may have no more access to the group. Notices are in no order with events, so this may be long past:
    /// its connections get nothing of the group until the directory was asked.
    fn doubted(&self, group: GroupId, user: UserId) {
        self.membership.set(group, user, false);
        self.unwatch(user);
        let Some(room) = self.rooms.find(Topic::User(user)) else { return };
        room.note_change();
        let Some(room) = self.rooms.find(Topic::Group(group)) else { return };
        let after_seq = self.progress.seq(self.progress.shard_of(group.into()));
        for connection in self.rooms.of_user(user).iter().filter(|connection| room.holds(connection)) {
            if connection.outbox.doubt(group.into()) {
                connection.outbox.ask_to_join(Join { group, after_seq: None });
            } else if !connection.outbox.is_in_doubt(group.into()) {
                // Something is being replayed to it: that must end.
                self.leave(group, connection);
                connection.outbox.ask_to_join(Join { group, after_seq: Some(after_seq) });
            }
        }
    }

    /// Takes a connection out of a group's room and tells it.
    pub(crate) fn leave(&self, group: GroupId, connection: &Connection) {
        let was_in = self.rooms.leave(Topic::Group(group), connection);
        connection.outbox.discard(group.into());
        if was_in {
            connection.outbox.push(frame::removed(group.into()));
        }
    }

    fn revoked(&self, user: UserId, session: SessionId) {
        self.tokens.revoke(session);
        for connection in self.rooms.of_user(user) {
            if connection.session == session {
                connection.outbox.end(signed_out("the session has ended"));
            }
        }
    }

    /// Whether the user is in the group, asked of the directory itself.
    pub(crate) async fn is_member(&self, user: UserId, group: GroupId) -> Result<bool, ApiError> {
        let version = self.membership.version();
        let is_member = self.directory.role(group, user).await?.is_some();
        self.membership.learn(group, user, is_member, version);
        Ok(is_member)
    }

    /// Looks at a connection whose time has come.
    fn look(&self, connection: &Arc<Connection>, beat: u64) {
        if let Some(ended) = connection.ended() {
            if beat >= ended + GRACE_BEATS {
                connection.outbox.end(Ending::Cut);
            }
            return;
        }
        connection.outbox.stop_waiting();
        let silent = beat.saturating_sub(connection.heard());
        if connection.expires_at <= Timestamp::now() {
            connection.outbox.end(signed_out("the token has expired"));
        } else if silent >= 2 * self.heartbeat_beats {
            connection.outbox.end(come_back("nothing came from you", false));
        } else {
            if silent >= self.heartbeat_beats && !connection.probe() {
                connection.outbox.push(frame::ping());
            }
            self.wheel.add(connection, self.until_next_look(connection));
        }
    }

    /// The beats until the connection's token expires, or it has been silent for one or two heartbeats.
    fn until_next_look(&self, connection: &Connection) -> u64 {
        let silent = self.now().saturating_sub(connection.heard());
        let patience = if silent < self.heartbeat_beats { self.heartbeat_beats } else { 2 * self.heartbeat_beats };
        let left = connection.expires_at.as_millis().saturating_sub(Timestamp::now().as_millis());
        let expiry = u64::try_from(left).unwrap_or_default().div_ceil(1_000 / BEATS_PER_SECOND);
        patience.saturating_sub(silent).min(expiry)
    }
}

impl Presence {
    /// A place that this client may resume from later: everything up to it was written to it, or is queued before
    /// whatever is queued next. `None` while something is held back.
    pub(crate) fn place(&self) -> Option<Vector> {
        // First: what comes after it may be held back already.
        let position = self.hub.position();
        self.connection.outbox.holds_nothing_back().then_some(position)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.connection.outbox.forget_task();
        self.hub.rooms.leave_all(&self.connection);
        self.hub.may_have_gone(self.connection.user);
        self.hub.gauge.decrement(1.0);
    }
}

async fn tick(hub: Arc<Hub>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while let Some(_instant) = shutdown.run_until_cancelled(ticks.tick()).await {
        let (beat, due) = hub.wheel.turn();
        hub.beat.store(beat, Ordering::Relaxed);
        for connection in due.iter().filter_map(std::sync::Weak::upgrade) {
            hub.look(&connection, beat);
        }
        if beat % BEATS_PER_SECOND == 0 {
            hub.look_who_is_there();
        }
    }
}

fn away<E: std::fmt::Display>(store: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Unavailable { store, reason: error.to_string() }
}

/// The client should come back and resume, not everybody at once.
pub(crate) fn come_back(reason: &str, flush: bool) -> Ending {
    let after_ms: u64 = rand::random_range(0..=u64::try_from(RETURN_WITHIN.as_millis()).unwrap_or_default());
    let reason = format!(r#"{{"reason":"{reason}","resume":true,"after_ms":{after_ms}}}"#);
    Ending::Close { code: GOING_AWAY, reason, flush }
}

fn signed_out(reason: &str) -> Ending {
    Ending::Close { code: SIGNED_OUT, reason: format!(r#"{{"reason":"{reason}"}}"#), flush: false }
}

#[cfg(test)]
pub(crate) mod tests;
