//! What must hold once the faults are over: none lost, none twice, one order, history equals the log, counts equal
//! history.

use std::collections::BTreeMap;

use analytics::Filter;
use edge::Seams;
use testkit::{Client, eventually};
use types::{ConversationId, Entry, Event};

use crate::load::{Load, Places};

/// Entries that are read at once.
const PAGE: usize = 1_000;

/// Compares what clients know with what the API and the stores say. The senders have ended.
pub(crate) async fn check(load: &Load, seams: &Seams) {
    let acked = load.ledger.acked.lock().clone();
    let mut messages = BTreeMap::new();
    for conversation in &load.conversations {
        let expected = acked.get(conversation).cloned().unwrap_or_default();
        for edge in 0..2 {
            let reader = load.edges.client(&load.users[edge], edge);
            let history = pages(&reader, conversation).await;
            assert_eq!(history, expected, "what edge {edge} reads of {conversation} is what was acked, in its places");
        }
        messages.insert(conversation.clone(), expected.len() as u64);
        let id: ConversationId = conversation.parse().expect("a conversation's id");
        let logged = every_event(seams, id).await;
        every_reader_saw(load, conversation, &logged).await;
    }
    counts_equal(seams, &messages).await;
}

/// A conversation's messages as pages of the API give them.
async fn pages(client: &Client, conversation: &str) -> Places {
    let (mut places, mut cursor, mut last) = (Places::new(), String::new(), 0);
    loop {
        let path = format!("/v1/conversations/{conversation}/messages?order=asc&limit=100{cursor}");
        // What was down a moment ago may be refused once more.
        let page = eventually("a page is read", || async {
            let page = client.get(&path).await;
            (!page.is(503)).then_some(page)
        });
        let page = page.await.expect(200);
        for message in page["items"].as_array().expect("a page has items") {
            let seq = message["seq"].as_u64().expect("a message has a seq");
            assert!(seq > last, "history is in order");
            last = seq;
            places.insert(seq, message["id"].as_str().expect("a message has an id").to_owned());
        }
        let Some(next) = page["next"].as_str() else { return places };
        cursor = format!("&cursor={next}");
    }
}

/// Everything that the log holds of a conversation, once history holds the same, byte for byte.
async fn every_event(seams: &Seams, conversation: ConversationId) -> Places {
    let mut logged: Vec<Entry> = Vec::new();
    loop {
        let after_seq = logged.last().map_or(0, |last| last.position.seq);
        let more = seams.log.read(conversation, after_seq, PAGE).await.expect("the log can be read");
        if more.is_empty() {
            break;
        }
        logged.extend(more);
    }
    for pair in logged.windows(2) {
        assert_eq!(pair[1].prev, pair[0].position.seq, "the log's own chain holds");
    }
    let last_seq = logged.last().map_or(0, |last| last.position.seq);
    let stored = eventually("history has all that the log has", || async {
        let mut stored: Vec<Entry> = Vec::new();
        loop {
            let after_seq = stored.last().map_or(0, |last| last.position.seq);
            let more = seams.history.events(conversation, after_seq, PAGE).await.ok()?;
            if more.is_empty() {
                break;
            }
            stored.extend(more);
        }
        (stored.last().map_or(0, |last| last.position.seq) == last_seq).then_some(stored)
    })
    .await;
    assert_eq!(stored.len(), logged.len(), "history has no fewer and no more events than the log");
    for (stored, logged) in stored.iter().zip(&logged) {
        let place = |entry: &Entry| (entry.position, entry.prev, entry.at, entry.payload.clone());
        assert_eq!(place(stored), place(logged), "history equals the log");
    }
    let id = |entry: &Entry| Event::decode(&entry.payload).expect("the log holds events").id.to_string();
    logged.iter().map(|entry| (entry.position.seq, id(entry))).collect()
}

async fn every_reader_saw(load: &Load, conversation: &str, logged: &Places) {
    for reader in 0..load.users.len() {
        let key = (reader, conversation.to_owned());
        eventually("every reader has seen everything", || async {
            let seen = load.ledger.seen.lock().get(&key).cloned().unwrap_or_default();
            (seen.last_key_value() == logged.last_key_value()).then_some(())
        })
        .await;
        let seen = load.ledger.seen.lock().get(&key).cloned().unwrap_or_default();
        let first = seen.first_key_value().map_or(0, |(first, _)| *first);
        let expected: Places = logged.range(first..).map(|(seq, id)| (*seq, id.clone())).collect();
        assert_eq!(seen, expected, "reader {reader} saw {conversation} whole and in one order");
    }
}

/// Waits until every message is counted once. A count that is too high would never come down.
async fn counts_equal(seams: &Seams, messages: &BTreeMap<String, u64>) {
    let filter = Filter { include_direct: true, ..Filter::default() };
    eventually("the counts equal history", || async {
        let ranked = seams.analytics.top_conversations(&filter, 0, PAGE).await.ok()?;
        let ours = ranked.iter().map(|row| (row.key.to_string(), row.messages));
        let counted: BTreeMap<String, u64> = ours.filter(|(id, _)| messages.contains_key(id)).collect();
        for (conversation, counted) in &counted {
            let sent = messages.get(conversation).copied().unwrap_or_default();
            assert!(*counted <= sent, "{conversation} is counted {counted} times, {sent} were sent");
        }
        (counted == *messages).then_some(())
    })
    .await;
}
