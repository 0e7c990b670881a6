//! Which conversations a user has, by their latest activity.

use std::time::Duration;

use history::End;
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

/// A place in a user's list. Activity in between moves conversations to its front, before this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    at: Timestamp,
    pub(crate) conversation: ConversationId,
}

impl Place {
    /// Of a group in which nothing has happened yet the latest activity is its creation.
    fn of(conversation: ConversationId, end: Option<End>) -> Self {
        let at = match (end, conversation) {
            (Some(end), _) => end.at,
            (None, ConversationId::Group(group)) => group.born_at().min(Timestamp::now()),
            (None, ConversationId::Direct(..)) => Timestamp::default(),
        };
        Self { at, conversation }
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

/// Where conversations stand in a list.
pub(crate) struct Found {
    /// Latest activity first.
    pub(crate) places: Vec<Place>,
    /// Whether others follow whose places are not known now.
    pub(crate) is_cut: bool,
}

/// Those of these groups with the latest activity, latest first, behind a place, at most `limit`. While history is away,
/// those that the log knows to come first, for it has kept everything of late.
pub(crate) async fn latest_groups(
    edge: &Edge,
    groups: Vec<ConversationId>,
    before: Option<Place>,
    limit: usize,
) -> Result<Found, ApiError> {
    let (ends, known_since) = edge.timeline.known_ends(&groups).await?;
    let mut places: Vec<Place> = groups.into_iter().zip(ends).map(|(group, end)| Place::of(group, end)).collect();
    let all = places.len();
    // The log's silence about an older group says no more than that nothing has happened there since.
    places.retain(|place| known_since.is_none_or(|since| place.at > since));
    let is_cut = places.len() < all;
    let places = first_behind(places, before, limit);
    if is_cut && places.is_empty() {
        return Err(ApiError::unavailable());
    }
    Ok(Found { places, is_cut })
}

/// Those of these conversations with the latest activity, latest first, behind a place, at most `limit`.
pub(crate) async fn latest(
    edge: &Edge,
    conversations: Vec<ConversationId>,
    before: Option<Place>,
    limit: usize,
) -> Result<Found, ApiError> {
    let ends = edge.timeline.ends(&conversations).await?;
    let places = conversations.into_iter().zip(ends).map(|(conversation, end)| Place::of(conversation, end));
    Ok(Found { places: first_behind(places.collect(), before, limit), is_cut: false })
}

fn first_behind(mut places: Vec<Place>, before: Option<Place>, limit: usize) -> Vec<Place> {
    places.retain(|place| before.is_none_or(|before| *place < before));
    places.sort_unstable_by_key(|place| std::cmp::Reverse(*place));
    places.truncate(limit);
    places
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
