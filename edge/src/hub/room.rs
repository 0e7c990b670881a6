//! Who listens to what: a room per topic, with the connections in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Topic, Topics};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use types::{GroupId, UserId};

use super::connection::Connection;

/// The rooms of one edge. The first connection that enters a room subscribes its topic, the last that leaves
/// unsubscribes it.
pub(crate) struct Rooms {
    open: Mutex<HashMap<Topic, Open>>,
    topics: Topics,
}

/// A room that exists because somebody is in it or about to enter.
struct Open {
    room: Arc<Room>,
    /// Connections that are in it or about to enter.
    seats: usize,
}

/// The connections that listen to one topic.
pub(crate) struct Room {
    topic: Topic,
    /// Set once the topic is subscribed.
    subscribed: OnceCell<()>,
    /// In order of their numbers, so that one is found by halving.
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Of a user's room: how often its memberships may have changed.
    changes: AtomicU64,
}

/// Whether a connection is in the room it wanted to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// It is, now.
    Now,
    /// It was already.
    Before,
    /// It is not: the room is full.
    Full,
}

/// Keeps a room open for a connection that is about to enter.
struct Seat<'a> {
    rooms: &'a Rooms,
    room: Arc<Room>,
    is_taken: bool,
}

impl Rooms {
    pub(crate) fn new(topics: Topics) -> Self {
        Self { open: Mutex::default(), topics }
    }

    /// Enters the room of a topic, unless `limit` connections are in it. Once this returns [`Entered::Now`], the
    /// connection gets everything of the topic that is stored from now on.
    pub(crate) async fn enter(
        &self,
        topic: Topic,
        connection: &Arc<Connection>,
        limit: usize,
    ) -> Result<Entered, log::Error> {
        let mut seat = self.reserve(topic);
        let room = seat.room.clone();
        room.subscribed.get_or_try_init(|| self.topics.subscribe(topic)).await?;
        let entered = room.admit(connection, limit);
        if entered == Entered::Now {
            connection.rooms.lock().push(room);
            seat.is_taken = true;
        }
        Ok(entered)
    }

    /// Leaves the room of a topic. Gives false for a connection that is not in it.
    pub(crate) fn leave(&self, topic: Topic, connection: &Connection) -> bool {
        let Some(room) = self.find(topic) else { return false };
        let was_in = room.remove(connection);
        if was_in {
            connection.rooms.lock().retain(|entered| !Arc::ptr_eq(entered, &room));
            self.release(topic);
        }
        was_in
    }

    /// Leaves the rooms of all groups but these, which are in order of their ids.
    pub(crate) fn keep_groups(&self, connection: &Connection, groups: &[GroupId]) {
        let entered: Vec<Topic> = connection.rooms.lock().iter().map(|room| room.topic).collect();
        for topic in entered {
            if matches!(topic, Topic::Group(group) if groups.binary_search(&group).is_err()) {
                self.leave(topic, connection);
            }
        }
    }

    /// Leaves the rooms of the presence of all users but these.
    pub(crate) fn keep_watched(&self, connection: &Connection, users: &[UserId]) {
        for user in self.watched_by(connection) {
            if !users.contains(&user) {
                self.leave(Topic::Presence(user), connection);
            }
        }
    }

    /// The users whose presence a connection watches.
    pub(crate) fn watched_by(&self, connection: &Connection) -> Vec<UserId> {
        let rooms = connection.rooms.lock();
        let watched = |room: &Arc<Room>| if let Topic::Presence(user) = room.topic { Some(user) } else { None };
        rooms.iter().filter_map(watched).collect()
    }

    /// Leaves all rooms.
    pub(crate) fn leave_all(&self, connection: &Connection) {
        let rooms = std::mem::take(&mut *connection.rooms.lock());
        for room in rooms {
            if room.remove(connection) {
                self.release(room.topic);
            }
        }
    }

    /// The room of a topic, if anybody is in it.
    pub(crate) fn find(&self, topic: Topic) -> Option<Arc<Room>> {
        self.open.lock().get(&topic).map(|open| open.room.clone())
    }

    /// The connections of a user.
    pub(crate) fn of_user(&self, user: UserId) -> Vec<Arc<Connection>> {
        self.within(Topic::User(user))
    }

    /// The connections in the room of a topic.
    pub(crate) fn within(&self, topic: Topic) -> Vec<Arc<Connection>> {
        self.find(topic).map(|room| room.connections.lock().clone()).unwrap_or_default()
    }

    /// Everybody. For the rare things that concern all.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        let open = self.open.lock();
        let users = open.values().filter(|open| matches!(open.room.topic, Topic::User(_)));
        users.flat_map(|open| open.room.connections.lock().clone()).collect()
    }

    /// How many rooms there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.open.lock().len()
    }

    fn reserve(&self, topic: Topic) -> Seat<'_> {
        let mut open = self.open.lock();
        let entry = open.entry(topic).or_insert_with(|| Open { room: Arc::new(Room::new(topic)), seats: 0 });
        entry.seats += 1;
        Seat { rooms: self, room: entry.room.clone(), is_taken: false }
    }

    /// Gives a seat back. Unsubscribing under the lock keeps it before the subscription of whoever comes next.
    fn release(&self, topic: Topic) {
        let mut open = self.open.lock();
        let Some(entry) = open.get_mut(&topic) else { return };
        entry.seats -= 1;
        if entry.seats == 0 {
            open.remove(&topic);
            self.topics.unsubscribe(topic);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if !self.is_taken {
            self.rooms.release(self.room.topic);
        }
    }
}

impl Room {
    fn new(topic: Topic) -> Self {
        Self { topic, subscribed: OnceCell::new(), connections: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// Calls `each` with every connection in the room and gives how many there are.
    pub(crate) fn each(&self, each: impl FnMut(&Arc<Connection>)) -> usize {
        let connections = self.connections.lock();
        connections.iter().for_each(each);
        connections.len()
    }

    /// Whether the connection is in the room.
    pub(crate) fn holds(&self, connection: &Connection) -> bool {
        place(&self.connections.lock(), connection).is_ok()
    }

    /// How often the memberships of the user whose room this is may have changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Notes that a membership of the user whose room this is may have changed.
    pub(crate) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn admit(&self, connection: &Arc<Connection>, limit: usize) -> Entered {
        let mut connections = self.connections.lock();
        match place(&connections, connection) {
            Ok(_) => Entered::Before,
            Err(_) if connections.len() >= limit => Entered::Full,
            Err(index) => {
                connections.insert(index, connection.clone());
                Entered::Now
            }
        }
    }

    fn remove(&self, connection: &Connection) -> bool {
        let mut connections = self.connections.lock();
        let Ok(index) = place(&connections, connection) else { return false };
        connections.remove(index);
        // A room that was once large gives its memory back.
        if connections.capacity() > 4 * connections.len() + 16 {
            connections.shrink_to_fit();
        }
        true
    }
}

/// Where the connection is, or would be.
fn place(connections: &[Arc<Connection>], connection: &Connection) -> Result<usize, usize> {
    connections.binary_search_by_key(&connection.number, |known| known.number)
}
