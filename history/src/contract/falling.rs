//! Times that fall: another machine goes on with the log whose clock is behind. The order is that of `seq` all the same.

use std::time::Duration;

use types::Entry;

use super::{PAGE, Room};
use crate::{History, Order, Page};

/// Days after the first message. Every fall is longer than what an implementation may keep together by time.
const DAYS: [u64; 10] = [0, 12, 1, 13, 0, 25, 24, 2, 30, 29];

pub(crate) async fn the_order_is_the_logs_though_its_time_falls(history: &dyn History) {
    let mut room = Room::new();
    let (mut sent, mut all) = (Vec::new(), Vec::new());
    for days in DAYS {
        room.later = Duration::from_secs(days * 24 * 60 * 60);
        sent.push(room.say(&days.to_string()).id);
        all.extend(room.store(history).await);
    }
    room.edit(sent[1], "edited");
    room.delete(sent[2]);
    room.edit(sent[4], "edited too");
    all.extend(room.store(history).await);
    let texts = ["0", "edited", "", "13", "edited too", "25", "24", "2", "30", "29"];
    assert_eq!(room.texts(history).await, texts);
    check(history, &room, &all).await;

    // Again, as after an end that was not acknowledged: all at once, a part, and one by one.
    history.store(&all).await.unwrap();
    history.store(&all[3..7]).await.unwrap();
    for entry in &all {
        history.store(std::slice::from_ref(entry)).await.unwrap();
    }
    assert_eq!(room.texts(history).await, texts);
    check(history, &room, &all).await;
}

/// Every part of the conversation, from every place.
async fn check(history: &dyn History, room: &Room, all: &[Entry]) {
    let messages: Vec<u64> = (1..=DAYS.len() as u64).collect();
    for place in 0..=all.len() as u64 + 1 {
        assert_eq!(history.last_seq(room.conversation, place).await.unwrap(), place.min(all.len() as u64));
        for limit in [1, 3, 100] {
            let events = history.events(room.conversation, place, limit).await.unwrap();
            let later: Vec<Entry> =
                all.iter().filter(|entry| entry.position.seq > place).take(limit).cloned().collect();
            assert_eq!(events, later, "{limit} after {place}");
            for sender in [None, Some(room.sender)] {
                let after = Page { after_seq: Some(place), sender, limit, ..PAGE };
                let later = messages.iter().filter(|seq| **seq > place);
                assert_eq!(seqs(history, room, &after).await, later.take(limit).copied().collect::<Vec<_>>());
                let before = Page { before_seq: Some(place), order: Order::Desc, sender, limit, ..PAGE };
                let earlier = messages.iter().rev().filter(|seq| **seq < place);
                assert_eq!(seqs(history, room, &before).await, earlier.take(limit).copied().collect::<Vec<_>>());
            }
        }
    }
    let (tail, last) = (room.tail(history).await.unwrap(), &all[all.len() - 1]);
    assert_eq!((tail.position, tail.at), (last.position, last.at));
    assert_eq!(tail.last_message.unwrap().seq, DAYS.len() as u64);
}

async fn seqs(history: &dyn History, room: &Room, page: &Page) -> Vec<u64> {
    let messages = history.messages(room.conversation, page).await.unwrap();
    messages.into_iter().map(|message| message.seq).collect()
}
