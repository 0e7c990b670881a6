//! Whether events were stored already, however long ago that was.
//!
//! An event cannot have been stored before it was made, and its id tells when that was. So of each conversation
//! only what the log stored since then is read: the cost grows with the conversation's traffic since the event
//! was made, and not with its length. Events that have left the log meanwhile are found in history; only what is
//! old is looked for there, so that new events do not wait for a history that is down.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use directory::OutboxRow;
use log::{Head, Log};
use types::{ConversationId, Event, EventId, Timestamp};

use crate::{Result, Seams};

/// Events that are read at a time.
const PAGE: usize = 512;
/// How far the clock of whoever made an event may be ahead of the log's.
const CLOCK_SLACK: Duration = Duration::from_secs(600);

/// For how long an event is in the log at the least. Set far lower than any log is set to keep its events.
const CERTAINLY_KEPT: Duration = Duration::from_secs(3600);

/// Those of `rows` that were stored, with their `seq`.
pub(super) async fn find(seams: &Seams, rows: &[OutboxRow]) -> Result<BTreeMap<EventId, u64>> {
    let mut found = find_in_log(&*seams.log, rows).await?;
    let old = Timestamp::now().minus(CERTAINLY_KEPT);
    for row in rows.iter().filter(|row| row.id.born_at() < old) {
        if found.contains_key(&row.id) {
            continue;
        }
        if let Some(entry) = seams.history.event(row.conversation, row.id).await? {
            found.insert(row.id, entry.position.seq);
        }
    }
    Ok(found)
}

async fn find_in_log(log: &dyn Log, rows: &[OutboxRow]) -> Result<BTreeMap<EventId, u64>> {
    // The oldest row of each conversation.
    let mut made = BTreeMap::<ConversationId, Timestamp>::new();
    for row in rows {
        let at = row.id.born_at();
        made.entry(row.conversation).and_modify(|oldest| *oldest = at.min(*oldest)).or_insert(at);
    }
    let conversations: Vec<_> = made.keys().copied().collect();
    let heads = log.heads(&conversations).await?;
    let wanted: HashSet<_> = rows.iter().map(|row| row.id).collect();
    let mut found = BTreeMap::new();
    for ((conversation, made), head) in made.into_iter().zip(heads) {
        let Some(head) = head else { continue };
        let since = made.minus(CLOCK_SLACK);
        let after_seq = seq_before(log, conversation, head, since).await?;
        let events = scan(log, conversation, after_seq..head.position.seq, &wanted).await?;
        found.extend(events);
    }
    Ok(found)
}

/// A `seq` before everything that was stored at `since` or later. Steps back from the head, twice as far each
/// time, so it reads at most 53 events and comes out at most twice as far back as need be. It ends at the first event of
/// the conversation.
async fn seq_before(log: &dyn Log, conversation: ConversationId, head: Head, since: Timestamp) -> Result<u64> {
    if head.at < since {
        return Ok(head.position.seq);
    }
    let mut step = PAGE as u64;
    loop {
        let after_seq = head.position.seq.saturating_sub(step);
        let next = log.read(conversation, after_seq, 1).await?;
        let is_before = next.first().is_some_and(|entry| entry.at < since || entry.prev == 0);
        if is_before || after_seq == 0 {
            return Ok(after_seq);
        }
        step = step.saturating_mul(2);
    }
}

/// The wanted events of a conversation within `range`: after its start, up to and with its end.
async fn scan(
    log: &dyn Log,
    conversation: ConversationId,
    range: std::ops::Range<u64>,
    wanted: &HashSet<EventId>,
) -> Result<Vec<(EventId, u64)>> {
    let mut found = Vec::new();
    let mut after_seq = range.start;
    while after_seq < range.end {
        let page = log.read(conversation, after_seq, PAGE).await?;
        let Some(last) = page.last() else { break };
        after_seq = last.position.seq;
        let events = page.iter().filter_map(|entry| Some((Event::decode(&entry.payload).ok()?.id, entry.position.seq)));
        found.extend(events.filter(|(id, _)| wanted.contains(id)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use log::Append;
    use types::{Body, GroupId, Region, UserId};

    use super::*;

    async fn append(log: &Arc<dyn Log>, conversation: ConversationId, count: usize) -> Vec<OutboxRow> {
        let mut rows = Vec::new();
        let mut receipts = Vec::new();
        for _ in 0..count {
            let id = EventId::generate(Region::default());
            let sender = UserId::generate(Region::default());
            let payload = Event { id, sender, body: Body::MemberAdded { user: sender } }.encode();
            rows.push(OutboxRow { id, conversation, payload: payload.clone() });
            receipts.push(log.append(Append { conversation, id, payload, trace: None }).await.unwrap());
        }
        for stored in futures_util::future::join_all(receipts).await {
            stored.unwrap();
        }
        rows
    }

    async fn head(log: &Arc<dyn Log>, conversation: ConversationId) -> Head {
        log.heads(&[conversation]).await.unwrap()[0].unwrap()
    }

    /// A moment after all that is stored and before all that will be.
    async fn next_moment(log: &Arc<dyn Log>, conversation: ConversationId) -> Timestamp {
        let moment = head(log, conversation).await.at.plus(Duration::from_millis(1));
        while Timestamp::now() < moment {
            tokio::task::yield_now().await;
        }
        moment
    }

    #[tokio::test]
    async fn only_what_was_stored_since_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let log = log::open(&log::Config::default(), folder.path(), Region::default()).await.unwrap();
        let conversation = GroupId::generate(Region::default()).into();
        append(&log, conversation, 5_000).await;
        let old = head(&log, conversation).await;
        let since = next_moment(&log, conversation).await;
        append(&log, conversation, 700).await;
        let new = head(&log, conversation).await;
        let stored_since = new.position.seq - old.position.seq;

        let after_seq = seq_before(&*log, conversation, new, since).await.unwrap();
        assert!(after_seq <= old.position.seq, "an event could be missed");
        assert!(new.position.seq - after_seq <= 2 * stored_since, "too much is read");
        assert_eq!(seq_before(&*log, conversation, new, Timestamp::from_millis(0)).await.unwrap(), 0);
        let since = next_moment(&log, conversation).await;
        assert_eq!(seq_before(&*log, conversation, new, since).await.unwrap(), new.position.seq);
    }

    #[tokio::test]
    async fn events_are_found_wherever_they_lie_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let log = log::open(&log::Config::default(), folder.path(), Region::default()).await.unwrap();
        let conversations = [(); 3].map(|()| ConversationId::from(GroupId::generate(Region::default())));
        let mut rows = append(&log, conversations[0], 1_200).await;
        rows.extend(append(&log, conversations[1], 3).await);
        let asked: Vec<_> = [0, 511, 512, 1_199, 1_200, 1_202].map(|index| rows[index].clone()).to_vec();
        let mut with_new = asked.clone();
        for conversation in conversations {
            let id = EventId::generate(Region::default());
            with_new.push(OutboxRow { id, conversation, payload: rows[0].payload.clone() });
        }
        let found = find_in_log(&*log, &with_new).await.unwrap();
        assert_eq!(found.len(), asked.len());
        for row in &asked {
            let at = log.read(row.conversation, found[&row.id] - 1, 1).await.unwrap();
            assert_eq!(at[0].payload, row.payload);
        }
    }

    /// An id that was made so long ago.
    fn old_id(age: Duration) -> EventId {
        let mut bytes = *EventId::generate(Region::default()).as_bytes();
        let millis = Timestamp::now().minus(age).as_millis().to_be_bytes();
        bytes[..6].copy_from_slice(&millis[2..]);
        EventId::from_bytes(bytes).unwrap()
    }

    #[tokio::test]
    async fn an_event_that_has_left_the_log_is_found_in_history() {
        let folder = tempfile::tempdir().unwrap();
        let log = log::open(&log::Config::default(), folder.path(), Region::default()).await.unwrap();
        let history = history::open(&history::Config::default(), folder.path()).await.unwrap();
        let directory = directory::open(&directory::Config::default(), folder.path()).await.unwrap();
        let blobs = blobs::open(&blobs::Config::default(), folder.path()).await.unwrap();
        let conversation = GroupId::generate(Region::default()).into();
        append(&log, conversation, 1).await;
        let last = log.read(conversation, 0, 1).await.unwrap().remove(0);
        let row = |age| {
            let (id, sender) = (old_id(age), UserId::generate(Region::default()));
            let payload = Event { id, sender, body: Body::MemberAdded { user: sender } }.encode();
            OutboxRow { id, conversation, payload }
        };
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        let (stored, lost) = (row(days(30)), row(days(30)));
        let entry = types::Entry { payload: stored.payload.clone(), ..last };
        history.store(std::slice::from_ref(&entry)).await.unwrap();
        let seams = Seams { log, history, directory, blobs };
        let found = find(&seams, &[stored.clone(), lost, row(days(0))]).await.unwrap();
        assert_eq!(found, BTreeMap::from([(stored.id, entry.position.seq)]));
    }
}
