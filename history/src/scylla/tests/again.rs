//! Events that come again: over a backup that was restored, from the hands of another process, and what it costs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use scylla::value::CqlTimestamp;
use types::{ConversationId, Entry, Timestamp};

use super::{migrated, open, open_at, remove, user};
use crate::contract::{Room, group};
use crate::scylla::Scylla;
use crate::scylla::connection::Connection;
use crate::{History, Order, Page};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A conversation of some weeks, in which a message was edited and another one deleted.
fn eventful() -> Room {
    let me = user();
    let mut room = Room { sender: me, ..Room::of(ConversationId::direct(me, user())) };
    let (corrected, withdrawn) = (room.say("as sent").id, room.say("a secret").id);
    room.later = 12 * DAY;
    room.edit(corrected, "as edited");
    room.delete(withdrawn);
    room.say("later");
    room
}

/// Whatever can be read of a conversation, by every way there is.
async fn seen(history: &dyn History, room: &Room, entries: &[Entry]) -> String {
    let mut seen = format!("{:?}\n{:?}\n", room.events(history).await, room.tail(history).await);
    for sender in [None, Some(room.sender)] {
        for before_seq in [None, Some(2), Some(4), Some(6)] {
            let page = Page { before_seq, after_seq: None, since: None, sender, order: Order::Desc, limit: 50 };
            seen += &format!("{:?}\n", history.messages(room.conversation, &page).await);
        }
    }
    for entry in entries {
        let id = types::Event::decode(&entry.payload).unwrap().id;
        seen += &format!("{:?}\n", history.message(room.conversation, id).await);
        seen += &format!("{:?}\n", history.event(room.conversation, id).await);
    }
    seen + &format!("{:?}", history.peers(room.sender, None, 10).await)
}

/// Nodes' snapshots are of different moments, so a restored store may have any part of what was written at once.
#[tokio::test]
async fn a_replay_brings_back_whatever_a_restored_backup_lacks() {
    let (server, connection) = migrated().await;
    let mut room = eventful();
    let history = open_at(&server).await.unwrap();
    let entries = room.store(&*history).await;
    let whole = seen(&*history, &room, &entries).await;
    assert!(whole.contains("as edited") && !room.texts(&*history).await.contains(&"a secret".to_owned()));
    for table in ["events", "ids", "sent", "buckets", "bucket_starts", "peers"] {
        connection.session.query_unpaged(format!("TRUNCATE {table}"), ()).await.unwrap();
        let restored = open_at(&server).await.unwrap();
        assert_ne!(seen(&*restored, &room, &entries).await, whole, "nothing is lost without {table}");
        restored.store(&entries).await.unwrap();
        assert_eq!(seen(&*restored, &room, &entries).await, whole, "after the loss of {table}");
    }
    without_changes(&connection, &room).await;
    let restored = open_at(&server).await.unwrap();
    assert_eq!(room.texts(&*restored).await, ["as sent", "a secret", "later"]);
    // As ingest hands it over: some now, some later.
    restored.store(&entries[..3]).await.unwrap();
    restored.store(&entries[3..]).await.unwrap();
    assert_eq!(seen(&*restored, &room, &entries).await, whole, "after the loss of what became of the messages");
    remove(&connection, &server.keyspace).await;
}

type Row = (i32, i8, i64, i64, i64, CqlTimestamp, Vec<u8>);

/// Leaves every row of a conversation, and takes from the messages what has become of them. (What is deleted by a
/// statement would count over the writes that are to bring it back, so the table is emptied and filled again.)
async fn without_changes(connection: &Connection, room: &Room) {
    const READ: &str =
        "SELECT bucket, class, seq, epoch, prev, at, payload FROM events WHERE conversation = ? ALLOW FILTERING";
    const WRITE: &str = "INSERT INTO events (conversation, bucket, class, seq, epoch, prev, at, payload) \
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    let (session, key) = (&connection.session, room.conversation.key());
    let rows = session.query_unpaged(READ, (&key,)).await.unwrap().into_rows_result().unwrap();
    let rows: Vec<Row> = rows.rows::<Row>().unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 5);
    session.query_unpaged("TRUNCATE events", ()).await.unwrap();
    for (bucket, class, seq, epoch, prev, at, payload) in rows {
        let values = (&key, bucket, class, seq, epoch, prev, at, payload, seq);
        session.query_unpaged(WRITE, values).await.unwrap();
    }
}

/// Where an event lies must not depend on what a process remembers.
#[tokio::test]
async fn processes_that_take_turns_agree_where_events_lie_though_time_falls() {
    let mut room = Room::new();
    let mut texts = Vec::new();
    for days in [0, 12, 1, 2, 13, 0, 25, 24] {
        room.later = days * DAY;
        texts.push(days.to_string());
        room.say(&days.to_string());
        let (one, other) = (open().await.0, open().await.0);
        let entries = room.store(&*one).await;
        other.store(&entries).await.unwrap();
        assert_eq!(room.texts(&*one).await, texts);
        let events = one.events(room.conversation, entries[0].position.seq - 1, 10).await.unwrap();
        assert_eq!(events, entries);
    }
}

#[tokio::test]
async fn a_redelivery_and_the_ends_of_many_conversations_cost_few_requests() {
    let (server, _) = migrated().await;
    let connection = std::sync::Arc::new(Connection::open(&server).await.unwrap());
    connection.session.use_keyspace(&server.keyspace, true).await.unwrap();
    let history = Scylla::over(&connection).await.unwrap();
    let cost = || connection.requests.swap(0, Ordering::Relaxed);
    // Ids are born when their events are stored, as they are in life.
    let since_2025 = u64::try_from(Timestamp::now().as_millis() - 1_760_000_000_000).unwrap();
    let mut room = Room { later: Duration::from_millis(since_2025), ..Room::new() };
    let say = |room: &mut Room| (0..20).for_each(|number| _ = room.say(&number.to_string()));
    cost();
    say(&mut room);
    room.store(&history).await;
    let first = cost();
    say(&mut room);
    let entries = room.store(&history).await;
    let going_on = cost();
    assert!(going_on <= 3, "the events, the ids if they lie in other ten days, the tail: {going_on}");
    history.store(&entries).await.unwrap();
    let again = cost();
    assert!(again <= first, "{again} requests to store again what goes on; {first} began all");

    let conversations: Vec<_> = (0..250).map(|_| group()).chain([room.conversation]).collect();
    let ends = history.ends(&conversations).await.unwrap();
    assert_eq!((ends.iter().flatten().count(), cost()), (1, 3));
    assert_eq!(history.ends(&[room.conversation]).await.unwrap(), ends[250..]);
    assert_eq!(cost(), 1, "and not the last message as well");
    remove(&connection, &server.keyspace).await;
}
