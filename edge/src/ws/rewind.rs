//! Replays: what a client missed, then what comes, without a hole between them.
//!
//! While the older events of a conversation are sent, a gate before the outbox holds its live ones back; then the
//! gate is opened for those that were not sent yet. Both futures here are polled by the connection's own task.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use log::Topic;
use types::{ConversationId, Entry, GroupId, Position, Vector};

use super::job::Done;
use super::reply::{self, Incomplete, Reason, Resumed};
use super::request::From;
use crate::ApiError;
use crate::frame::Burst;
use crate::hub::connection::Connection;
use crate::hub::outbox::Join;
use crate::live::access::is_removal;
use crate::live::{Live, News};
use crate::timeline::is_whole;

/// Events that are read at a time.
const PAGE: usize = 64;
/// What an event takes beside its payload, about, in bytes.
const AROUND: usize = 256;
/// Events of one conversation that are replayed; a client that missed more reads pages.
pub(crate) const MAX_EVENTS: usize = 10_000;

/// How often, and how long apart, it is looked whether the event of a removal has come.
const FAREWELL: (usize, Duration) = (40, Duration::from_millis(25));

/// A replay stopped early: why, and after which `seq`.
struct Stopped {
    reason: Reason,
    after_seq: u64,
}

/// Sends all that came after the client's positions, then says whether that is whole.
pub(crate) async fn resume(
    live: Arc<Live>,
    connection: Arc<Connection>,
    reference: Option<String>,
    from: From,
) -> Done {
    let Starts { starts, until, mut incomplete } = starts(&live, &connection, from).await;
    connection.outbox.speak(starts.iter().map(|(conversation, _)| *conversation));
    for (conversation, after_seq) in starts {
        if let Err(Stopped { reason, after_seq }) = rewind(&live, &connection, conversation, after_seq).await {
            let is_known = !matches!(reason, Reason::NotFound);
            let position = is_known.then(|| Position { epoch: live.epoch(), seq: after_seq });
            incomplete.push(Incomplete { conversation: Some(conversation), reason, position });
        }
    }
    let complete = incomplete.is_empty();
    let outcome = if complete { "true" } else { "false" };
    metrics::counter!("rookery_edge_resumes_total", "complete" => outcome).increment(1);
    let mut position = live.hub.position();
    if let Some(until) = until.filter(|_| complete) {
        position.seqs.iter_mut().zip(until.seqs).for_each(|(seq, until)| *seq = until.max(*seq));
    }
    for (conversation, seq) in connection.outbox.held_back() {
        if let Some(reached) = position.seqs.get_mut(live.shard_of(conversation)) {
            *reached = seq.min(*reached);
        }
    }
    let position = position.to_string();
    Done::With(reply::resumed(&Resumed { reference, complete, position, incomplete }))
}

/// Joins a group that the user was added to while it was connected, or sees whether it may stay in one.
pub(crate) async fn join(live: Arc<Live>, connection: Arc<Connection>, join: Join) -> Done {
    let Join { group, after_seq } = join;
    if is_in(&live, &connection, group) {
        return match settle(&live, &connection, group).await {
            Ok(Settled::Believed) => {
                connection.outbox.release(group.into(), 0, true);
                Done::Quietly
            }
            Ok(Settled::Before) => Done::Quietly,
            Err(_) => Done::Adrift,
        };
    }
    let Some(after_seq) = after_seq else { return Done::Quietly };
    match admit(&live, &connection, group, after_seq).await {
        Ok(()) | Err(Stopped { reason: Reason::NotFound, .. }) => Done::Quietly,
        Err(_) => Done::Adrift,
    }
}

/// How it stands with the doubt whether the user may see a group.
enum Settled {
    /// The user may: what is held back is to be released.
    Believed,
    /// There is no doubt, and nothing that it holds back.
    Before,
}

/// Ends the doubt whether the user may see a group, if there is one. An error when the directory cannot be asked.
async fn settle(live: &Live, connection: &Connection, group: GroupId) -> Result<Settled, ApiError> {
    let conversation = ConversationId::Group(group);
    if !connection.outbox.is_in_doubt(conversation) {
        return Ok(Settled::Before);
    }
    if live.hub.is_member(connection.user, group).await? {
        connection.outbox.believe(conversation);
        return Ok(Settled::Believed);
    }
    // The event of the removal is on its way and takes the connection out of the room, after what it may still see.
    let (attempts, pause) = FAREWELL;
    for _ in 0..attempts {
        if !connection.outbox.is_in_doubt(conversation) {
            return Ok(Settled::Before);
        }
        tokio::time::sleep(pause).await;
    }
    live.hub.leave(group, connection);
    Ok(Settled::Before)
}

/// What is to be replayed.
struct Starts {
    /// Conversations in which there may be something after the client's positions.
    starts: Vec<(ConversationId, u64)>,
    /// Up to where these are all, if that is known.
    until: Option<Vector>,
    /// What cannot be replayed.
    incomplete: Vec<Incomplete>,
}

async fn starts(live: &Live, connection: &Connection, from: From) -> Starts {
    match from {
        From::Positions(positions) => {
            let is_ours = |(_, position): &(ConversationId, Position)| position.epoch == live.epoch();
            let (ours, others): (Vec<_>, Vec<_>) = positions.into_iter().partition(is_ours);
            let other = |(conversation, _)| Incomplete {
                conversation: Some(conversation),
                reason: Reason::OtherEpoch,
                position: None,
            };
            let starts = ours.into_iter().map(|(conversation, position)| (conversation, position.seq)).collect();
            Starts { starts, until: None, incomplete: others.into_iter().map(other).collect() }
        }
        From::Place(place) => since(live, connection, &place).await,
    }
}

async fn since(live: &Live, connection: &Connection, place: &Vector) -> Starts {
    let all = |reason| vec![Incomplete { conversation: None, reason, position: None }];
    if !live.knows(place) {
        return Starts { starts: Vec::new(), until: None, incomplete: all(Reason::OtherEpoch) };
    }
    match live.news_since(connection.user, place, &[]).await {
        Ok(News { starts, until, is_whole }) => {
            let incomplete = if is_whole { Vec::new() } else { all(Reason::Unavailable) };
            Starts { starts: starts.into_iter().collect(), until: Some(until), incomplete }
        }
        Err(_) => Starts { starts: Vec::new(), until: None, incomplete: all(Reason::Unavailable) },
    }
}

async fn rewind(
    live: &Live,
    connection: &Arc<Connection>,
    conversation: ConversationId,
    after_seq: u64,
) -> Result<(), Stopped> {
    let stopped = |reason| Stopped { reason, after_seq };
    if let ConversationId::Group(group) = conversation {
        // What a doubt held back is newer than what is replayed, and stays behind the gate.
        settle(live, connection, group).await.map_err(|_| stopped(Reason::Unavailable))?;
    }
    match conversation {
        ConversationId::Group(group) if !is_in(live, connection, group) => {
            admit(live, connection, group, after_seq).await
        }
        ConversationId::Direct(..) if conversation.peer_of(connection.user).is_none() => Err(stopped(Reason::NotFound)),
        _ => {
            connection.outbox.gate(conversation);
            replay(live, connection, conversation, after_seq).await
        }
    }
}

fn is_in(live: &Live, connection: &Connection, group: GroupId) -> bool {
    live.hub.rooms.find(Topic::Group(group)).is_some_and(|room| room.holds(connection))
}

/// Enters a group's room behind a gate, then asks the directory itself whether the user may, then replays. Removals
/// that come after the entry close the gate for good, those that came before are seen by the directory: so nothing
/// reaches who is no member.
async fn admit(live: &Live, connection: &Arc<Connection>, group: GroupId, after_seq: u64) -> Result<(), Stopped> {
    let (topic, conversation) = (Topic::Group(group), ConversationId::Group(group));
    connection.outbox.gate(conversation);
    let is_member = match live.hub.rooms.enter(topic, connection, usize::MAX).await {
        Ok(_) => live.hub.is_member(connection.user, group).await,
        Err(error) => Err(error.into()),
    };
    if matches!(is_member, Ok(true)) {
        return replay(live, connection, conversation, after_seq).await;
    }
    live.hub.rooms.leave(topic, connection);
    connection.outbox.discard(conversation);
    let reason = if is_member.is_ok() { Reason::NotFound } else { Reason::Unavailable };
    Err(Stopped { reason, after_seq })
}

/// Sends the events after `after_seq`, then opens the gate.
async fn replay(
    live: &Live,
    connection: &Connection,
    conversation: ConversationId,
    mut after_seq: u64,
) -> Result<(), Stopped> {
    let outcome = send_pages(live, connection, conversation, &mut after_seq).await;
    let is_passed = live.hub.progress.has_passed(conversation, after_seq);
    let was_gated = connection.outbox.release(conversation, after_seq, is_passed);
    match outcome {
        Ok(()) if was_gated => Ok(()),
        Ok(()) => Err(Stopped { reason: Reason::NotFound, after_seq }),
        Err(reason) => Err(Stopped { reason, after_seq }),
    }
}

async fn send_pages(
    live: &Live,
    connection: &Connection,
    conversation: ConversationId,
    after_seq: &mut u64,
) -> Result<(), Reason> {
    for _ in 0..MAX_EVENTS / PAGE {
        let page = live.timeline.events(conversation, *after_seq, PAGE).await;
        let entries = page.map_err(|_| Reason::Unavailable)?;
        if !is_whole(*after_seq, &entries) {
            return Err(Reason::Gone);
        }
        let is_last = entries.len() < PAGE;
        let farewell = entries.iter().position(|entry| is_removal(entry, connection.user));
        let entries = &entries[..farewell.map_or(entries.len(), |index| index + 1)];
        for chunk in chunks(entries, connection.outbox.step_bytes()) {
            // Nobody wakes this: the task that polls it does so after each write.
            poll_fn(|_| if connection.outbox.is_low() { Poll::Ready(()) } else { Poll::Pending }).await;
            let burst = Burst::of(chunk.iter());
            let last_seq = burst.last_seq();
            if !connection.outbox.replay(conversation, burst) {
                return Err(Reason::NotFound);
            }
            *after_seq = last_seq;
        }
        if farewell.is_some() {
            let is_member_again = live.is_member(connection.user, conversation).await;
            if !is_member_again.map_err(|_| Reason::Unavailable)? {
                return Err(Reason::NotFound);
            }
        }
        if is_last && farewell.is_none() {
            return Ok(());
        }
    }
    Err(Reason::TooMany)
}

/// Cuts entries into runs of at most so many bytes, of one entry at least.
fn chunks(entries: &[Entry], max_bytes: usize) -> impl Iterator<Item = &[Entry]> {
    let size = |entry: &Entry| AROUND + entry.payload.len();
    let mut bytes = entries.first().map_or(0, size);
    entries.chunk_by(move |_, next| {
        bytes += size(next);
        let fits = bytes <= max_bytes;
        if !fits {
            bytes = size(next);
        }
        fits
    })
}
