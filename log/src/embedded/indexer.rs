//! Writes the index on disk: late, off the path of an append, and many entries in one go, so that a conversation's
//! events become one key and not many.

use std::sync::Arc;

use types::{ConversationId, Entry, Timestamp};

use super::layout::{Head, Span};
use super::shard::Shard;
use super::store::Store;
use crate::Result;

/// Conversations that are written in one go: appends wait no longer than for that.
const STEP: usize = 256;

/// One entry, as the index sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    conversation: ConversationId,
    distance: u16,
    at: Timestamp,
}

/// Indexes what is not, as one span.
///
/// The span itself is written last. When the process ends before, the entries are indexed anew from the same
/// first one on, and what was written already is written over.
pub(crate) fn advance(shard: &Shard, store: &Store) -> Result<()> {
    let _turn = shard.indexing.lock();
    let batches = shard.tail.unindexed();
    let Some(first) = batches.first().and_then(|batch| batch.first()).map(|entry| entry.position.seq) else {
        return Ok(());
    };
    let (places, last) = places(&batches, first);
    let conversations: Vec<&[Place]> = places.chunk_by(|one, next| one.conversation == next.conversation).collect();
    let mut distances = Vec::new();
    for step in conversations.chunks(STEP) {
        let mut batch = store.batch(step.len() * 2);
        for places in step {
            let Some(head) = places.last() else { continue };
            distances.clear();
            distances.extend(places.iter().flat_map(|place| place.distance.to_be_bytes()));
            store.put_in_span(&mut batch, head.conversation, first, &distances);
            let seq = first + u64::from(head.distance);
            store.put_head(&mut batch, head.conversation, Head { seq, at: head.at });
        }
        store.commit_lazily(batch)?;
    }
    let mut batch = store.batch(1);
    store.put_span(&mut batch, Span { first, last });
    store.commit_lazily(batch)?;
    shard.tail.set_indexed(last);
    Ok(())
}

/// The entries of as many whole batches as fit into a span, by conversation, and the last one's `seq`.
fn places(batches: &[Arc<[Entry]>], first: u64) -> (Vec<Place>, u64) {
    let mut places = Vec::new();
    let mut last = first;
    for batch in batches {
        let Some(end) = batch.last().map(|entry| entry.position.seq) else { continue };
        if end - first >= Span::MAX_ENTRIES {
            break;
        }
        last = end;
        places.extend(batch.iter().filter_map(|entry| {
            let distance = u16::try_from(entry.position.seq - first).ok()?;
            Some(Place { conversation: entry.conversation, distance, at: entry.at })
        }));
    }
    places.sort_unstable();
    (places, last)
}
