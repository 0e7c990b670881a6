//! What holds while much happens at once.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{join, join_all, try_join_all};
use types::Body;

use super::{PAGE, Room, text};
use crate::History;

pub(crate) async fn conversations_may_be_stored_at_once(history: &dyn History) {
    let mut rooms: Vec<_> = (0..8).map(|_| Room::new()).collect();
    let stores = rooms.iter_mut().map(|room| async move {
        for number in 0..20 {
            room.say(&number.to_string());
            room.store(history).await;
        }
    });
    join_all(stores).await;
    let all: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    for room in rooms {
        assert_eq!(room.texts(history).await, all);
    }
}

/// As two processes do of which each takes the other for dead.
pub(crate) async fn events_may_be_stored_twice_at_once(history: &dyn History) {
    let mut room = Room::new();
    let first = room.say("first");
    room.edit(first.id, "corrected");
    room.add_as(first.id, Body::Message(text("said twice")));
    let second = room.say("second");
    room.delete(second.id);
    let entries = std::mem::take(&mut room.entries);
    let stores = (0..8).map(|number| history.store(&entries[..entries.len() - number % 3]));
    try_join_all(stores).await.unwrap();
    assert_eq!(room.texts(history).await, ["corrected", ""]);
    assert_eq!(room.events(history).await, entries);
    let tail = room.tail(history).await.unwrap();
    assert_eq!((tail.position.seq, tail.last_message.unwrap().seq), (room.seq, second.seq));
}

/// However many ask the same at the same time.
pub(crate) async fn whoever_asks_after_a_store_sees_it(history: &dyn History) {
    const MESSAGES: u64 = 20;
    let stored = AtomicU64::new(0);
    let mut room = Room::new();
    let conversation = room.conversation;
    let storing = async {
        for number in 1..=MESSAGES {
            room.say(&number.to_string());
            room.store(history).await;
            stored.store(number, Ordering::SeqCst);
        }
    };
    let known = || stored.load(Ordering::SeqCst);
    let ask = async || {
        let mut seen = 0;
        while seen < MESSAGES {
            let before = known();
            let tail = history.tails(&[conversation]).await.unwrap().remove(0).map_or(0, |tail| tail.position.seq);
            assert!(tail >= before, "the tail is {tail} after {before} were stored");
            let before = known();
            let messages = history.messages(conversation, &PAGE).await.unwrap().len() as u64;
            assert!(messages >= before, "{messages} messages after {before} were stored");
            let before = known();
            let events = history.events(conversation, 0, 100).await.unwrap().len() as u64;
            assert!(events >= before, "{events} events after {before} were stored");
            seen = tail.min(messages).min(events);
            tokio::task::yield_now().await;
        }
    };
    let asking = join_all((0..8).map(|_| ask()));
    join(storing, asking).await;
}

pub(crate) async fn whoever_sees_the_tail_sees_everything_before_it(history: &dyn History) {
    const BATCHES: u64 = 30;
    const EVENTS: u64 = 2 * BATCHES;
    let mut room = Room::new();
    let conversation = room.conversation;
    let storing = async {
        for number in 0..BATCHES {
            let sent = room.say(&number.to_string());
            room.edit(sent.id, "edited");
            room.store(history).await;
        }
    };
    let reading = async {
        let mut end = 0;
        while end < EVENTS {
            end = history.tails(&[conversation]).await.unwrap().remove(0).map_or(0, |tail| tail.position.seq);
            let events = history.events(conversation, 0, 100).await.unwrap();
            assert!(events.len() as u64 >= end, "{} events up to {end}", events.len());
            let messages = history.messages(conversation, &PAGE).await.unwrap();
            assert!(messages.iter().all(|message| message.content.text == "edited"));
            assert!(messages.len() as u64 >= end / 2, "{} messages up to {end}", messages.len());
            tokio::task::yield_now().await;
        }
    };
    join(storing, reading).await;
}
