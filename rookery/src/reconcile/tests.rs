//! Differences, and none.

use std::path::Path;

use analytics::{Fact, Range};
use directory::{Command, NewUser};
use types::{Body, Content, Entry, Epoch, Event, EventId, GroupId, Position, Region};

use super::*;
use crate::config::Config;
use crate::stores::{self, Stores};

/// Stores, a group of one user, and messages at each minute.
struct Scene {
    stores: Stores,
    user: UserId,
    group: ConversationId,
    recorded_seq: u64,
}

impl Scene {
    async fn new(data: &Path) -> Self {
        let config = Config { data: data.to_owned(), ..Config::default() };
        let stores = stores::open(&config).await.unwrap();
        let (user, group) = (UserId::generate(Region::default()), GroupId::generate(Region::default()));
        let (username, at) = ("ada".to_owned(), Timestamp::from_millis(1));
        let new = NewUser {
            id: user,
            username,
            name: String::new(),
            email: "ada@example.com".into(),
            password_hash: "$".into(),
            at,
        };
        let register = Command::Register { user: new, session: None };
        let create = Command::CreateGroup { group, name: "one".into(), owner: user, members: vec![], at };
        for command in [register, create] {
            stores.seams.directory.execute(&command).await.unwrap().unwrap();
        }
        Self { stores, user, group: group.into(), recorded_seq: 0 }
    }

    /// A message in history.
    async fn store(&self, conversation: ConversationId, seq: u64, minute: i64) {
        self.import(conversation, seq, (minute, None)).await;
    }

    /// A message in history that was perhaps said at another minute than it was stored.
    async fn import(&self, conversation: ConversationId, seq: u64, (minute, said): (i64, Option<i64>)) {
        let id = EventId::generate(Region::default());
        let sent_at = said.map(|minute| Timestamp::from_millis(minute * 60_000));
        let event = Event { id, sender: self.user, body: Body::Message(Content { sent_at, ..Content::default() }) };
        let position = Position { epoch: Epoch::new(1), seq };
        let at = Timestamp::from_millis(minute * 60_000);
        let entry = Entry { conversation, position, prev: 0, at, payload: event.encode(), trace: None };
        self.stores.seams.history.store(&[entry]).await.unwrap();
    }

    /// A message in the counts.
    async fn count(&mut self, conversation: ConversationId, minute: i64) {
        let (after_seq, seq) = (self.recorded_seq, self.recorded_seq + 1);
        let at = Timestamp::from_millis(minute * 60_000);
        let fact = Fact { seq, at, region: self.user.region(), conversation, sender: self.user };
        let range = Range { shard: 0, after_seq, through_seq: seq, facts: &[fact] };
        self.stores.seams.analytics.record(range).await.unwrap();
        self.recorded_seq = seq;
    }

    async fn differences(&self, start: Option<i64>, end: i64) -> (Vec<String>, Compared) {
        let minute = |minute: i64| Timestamp::from_millis(minute * 60_000);
        let bounds = Bounds { start: start.map(minute), end: minute(end) };
        let mut lines = Vec::new();
        let compared = reconcile(&self.stores.seams, bounds, |line| lines.push(line)).await.unwrap();
        assert_eq!(lines.len() as u64, compared.differences);
        (lines, compared)
    }
}

#[tokio::test]
async fn equal_numbers_are_no_difference_over_many_pages_and_any_range() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(folder.path()).await;
    let notes = ConversationId::direct(scene.user, scene.user);
    for minute in 1..=1200_i64 {
        let conversation = if minute % 10 == 0 { notes } else { scene.group };
        scene.store(conversation, minute.unsigned_abs(), minute).await;
        scene.count(conversation, minute).await;
    }
    let (lines, compared) = scene.differences(None, 5000).await;
    assert_eq!(lines, Vec::<String>::new());
    assert_eq!(compared, Compared { conversations: 2, users: 1, messages: 1200, differences: 0 });
    let (lines, compared) = scene.differences(Some(17), 901).await;
    assert_eq!((lines.len(), compared.messages), (0, 884));
}

#[tokio::test]
async fn an_imported_message_is_looked_for_at_the_time_when_it_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(folder.path()).await;
    let group = scene.group;
    // Stored after the end of the first range, between messages that were not, and counted in it.
    for (seq, minute, said) in [(1, 10, None), (2, 500, Some(20)), (3, 501, Some(5)), (4, 502, None)] {
        scene.import(group, seq, (minute, said)).await;
        scene.count(group, said.unwrap_or(minute)).await;
    }
    for (start, end, messages) in [(None, 100, 3), (Some(8), 100, 2), (Some(100), 1000, 1), (None, 1000, 4)] {
        let (lines, compared) = scene.differences(start, end).await;
        assert_eq!((lines, compared.messages), (vec![], messages), "{start:?} to {end}");
    }
}

#[tokio::test]
async fn every_difference_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(folder.path()).await;
    let (group, user) = (scene.group, scene.user);
    // Counted once more than it was sent.
    scene.store(group, 1, 1).await;
    scene.count(group, 1).await;
    scene.count(group, 1).await;
    let (lines, _) = scene.differences(None, 100).await;
    assert_eq!(
        lines,
        [format!("conversation {group}: 2 counted, 1 in history"), format!("user {user}: 2 counted, 1 in history")]
    );
    // Sent and not counted, where nothing is counted: the numbers of the user are equal again.
    let notes = ConversationId::direct(user, user);
    scene.store(notes, 2, 2).await;
    let (lines, compared) = scene.differences(None, 100).await;
    assert_eq!(
        lines,
        [
            format!("conversation {group}: 2 counted, 1 in history"),
            format!("conversation {notes}: 0 counted, 1 in history")
        ]
    );
    assert_eq!(compared, Compared { conversations: 2, users: 1, messages: 2, differences: 2 });
    // In a range without them there is no difference.
    assert_eq!(scene.differences(Some(3), 100).await.1, Compared::default());
    // Counted in a conversation that history does not know.
    let unknown: ConversationId = GroupId::generate(Region::default()).into();
    scene.count(unknown, 4).await;
    let (lines, _) = scene.differences(Some(3), 100).await;
    assert_eq!(lines[0], format!("conversation {unknown}: 1 counted, 0 in history"));
}
