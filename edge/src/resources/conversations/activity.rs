//! Which conversations a user has, by their latest activity.

use std::time::Duration;

use history::Tail;
use serde::{Deserialize, Serialize};
use types::{ConversationId, Timestamp, UserId};

use crate::resources::conversations::Kind;
use crate::{ApiError, Edge};

/// Direct conversations of one user that are looked at, at most.
const MAX_PEERS: usize = 10_000;
/// How long history may take to catch up with the log.
const PATIENCE: Duration = Duration::from_millis(250);
/// Peers that are asked for at once.
const PEERS_AT_ONCE: usize = 1_000;

/// A conversation with the time of its latest activity.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) conversation: ConversationId,
    pub(crate) tail: Option<Tail>,
    at: Timestamp,
}

/// A place in a user's list. Activity in between moves conversations to its front, before this place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    at: Timestamp,
    conversation: ConversationId,
}

impl Active {
    /// Of a group in which nothing has happened yet the latest activity is its creation.
    pub(crate) fn new(conversation: ConversationId, tail: Option<Tail>) -> Self {
        let at = match (&tail, conversation) {
            (Some(tail), _) => tail.at,
            (None, ConversationId::Group(group)) => group.born_at().min(Timestamp::now()),
            (None, ConversationId::Direct(..)) => Timestamp::default(),
        };
        Self { conversation, tail, at }
    }

    pub(crate) fn place(&self) -> Place {
        Place { at: self.at, conversation: self.conversation }
    }
}

/// The conversations of a user, all or those of a kind.
pub(crate) async fn of(edge: &Edge, user: UserId, kind: Option<Kind>) -> Result<Vec<ConversationId>, ApiError> {
    let mut conversations = Vec::new();
    if kind != Some(Kind::Direct) {
        conversations.extend(edge.directory.groups_of(user).await?.into_iter().map(ConversationId::Group));
    }
    if kind != Some(Kind::Group) {
        let peers = peers(edge, user).await?;
        conversations.extend(peers.into_iter().map(|peer| ConversationId::direct(user, peer)));
    }
    Ok(conversations)
}

/// Those of these conversations with the latest activity, latest first, behind a place, at most `limit`.
pub(crate) async fn latest(
    edge: &Edge,
    conversations: Vec<ConversationId>,
    before: Option<Place>,
    limit: usize,
) -> Result<Vec<Active>, ApiError> {
    let tails = edge.timeline.tails(&conversations).await?;
    let mut active: Vec<Active> =
        conversations.into_iter().zip(tails).map(|(conversation, tail)| Active::new(conversation, tail)).collect();
    active.retain(|active| before.as_ref().is_none_or(|before| active.place() < *before));
    active.sort_unstable_by_key(|active| std::cmp::Reverse(active.place()));
    active.truncate(limit);
    Ok(active)
}

/// With whom a user has direct conversations. Who wrote for the first time is known from history alone, so it is
/// given a moment to catch up.
pub(crate) async fn peers(edge: &Edge, user: UserId) -> Result<Vec<UserId>, ApiError> {
    edge.timeline.settle(PATIENCE).await?;
    let mut peers: Vec<UserId> = Vec::new();
    while peers.len() < MAX_PEERS {
        let more = edge.history.peers(user, peers.last().copied(), PEERS_AT_ONCE).await?;
        let is_last = more.len() < PEERS_AT_ONCE;
        peers.extend(more);
        if is_last {
            break;
        }
    }
    Ok(peers)
}
