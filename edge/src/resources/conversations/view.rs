//! A conversation as one of its members sees it.

use std::collections::HashMap;

use directory::{Group, MemberRole};
use futures_util::{StreamExt, TryStreamExt, stream};
use history::{Order, Tail};
use serde::Serialize;
use types::{ConversationId, Epoch, GroupId, Position, Timestamp, UserId};
use utoipa::ToSchema;

use crate::resources::conversations::Kind;
use crate::resources::conversations::activity::Active;
use crate::resources::members::MemberRoleName;
use crate::resources::messages::Message;
use crate::resources::users::UserBrief;
use crate::{ApiError, Edge};

/// Unread messages are counted up to here.
const MAX_UNREAD: usize = 100;
/// Messages that are read at once to count the unread ones among them.
const PAGE: usize = MAX_UNREAD;
/// Pages that are read to count, at most: between unread messages there may be many of one's own.
const MAX_PAGES: usize = 10;
/// Conversations that are counted at the same time.
const AT_ONCE: usize = 8;

/// A conversation as the caller sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Conversation {
    /// A group's id, or the two users' ids in ascending order joined by `~`.
    pub(crate) id: ConversationId,
    pub(crate) kind: Kind,
    /// What a group is called; of a direct conversation, the other user's name.
    #[schema(example = "Analytical engines")]
    pub(crate) name: String,
    /// Of a direct conversation, the other user; oneself in notes to oneself.
    pub(crate) peer: Option<UserBrief>,
    /// Of a group, who may change it.
    pub(crate) owner: Option<UserId>,
    /// What the caller is in it.
    #[schema(value_type = MemberRoleName)]
    pub(crate) role: MemberRole,
    #[schema(example = 2)]
    pub(crate) members_count: u64,
    /// Of a group, when it was created.
    pub(crate) created_at: Option<Timestamp>,
    /// Of a group, when its name, owner or members last changed.
    pub(crate) updated_at: Option<Timestamp>,
    /// The place of the last event, 0 when nothing has happened yet.
    pub(crate) position: Position,
    pub(crate) last_message: Option<Message>,
    /// Messages of others that the caller has not read, exact up to 100.
    #[schema(minimum = 0, maximum = 100, example = 3)]
    pub(crate) unread: usize,
    /// How many of the unread messages call the caller by name.
    #[schema(minimum = 0, maximum = 100, example = 1)]
    pub(crate) mentions: usize,
    /// How far the caller has read.
    pub(crate) read: Read,
}

/// How far somebody has read.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ReadPosition)]
pub(crate) struct Read {
    /// Up to and with this `seq`.
    #[schema(example = 39)]
    pub(crate) seq: u64,
}

/// One conversation as a member of it sees it. Whoever asks has seen to it that `user` is one.
pub(crate) async fn describe_one(
    edge: &Edge,
    user: UserId,
    conversation: ConversationId,
) -> Result<Conversation, ApiError> {
    let tail = edge.timeline.tails(&[conversation]).await?.into_iter().next().flatten();
    let described = describe(edge, user, vec![Active::new(conversation, tail)]).await?;
    described.into_iter().next().ok_or_else(ApiError::not_found)
}

/// Conversations as a member of them sees them, in the order of the question. Those that are gone are left out.
pub(crate) async fn describe(edge: &Edge, user: UserId, active: Vec<Active>) -> Result<Vec<Conversation>, ApiError> {
    let ids: Vec<ConversationId> = active.iter().map(|active| active.conversation).collect();
    let groups = groups(edge, &ids).await?;
    let peers = peers(edge, user, &ids).await?;
    let marks = edge.history.read_marks(user, &ids).await?;
    let counting: Vec<_> =
        active.iter().zip(&marks).map(|(active, mark)| count_unread(edge, user, active, *mark)).collect();
    let unread: Vec<Unread> = stream::iter(counting).buffered(AT_ONCE).try_collect().await?;

    let epoch = edge.log.layout().epoch;
    let blanks = active.into_iter().zip(marks).zip(unread).map(|((active, mark), unread)| {
        let Active { conversation, tail, .. } = active;
        blank(conversation, tail, epoch, mark, unread)
    });
    let described = blanks.filter_map(|blank| match blank.id {
        ConversationId::Group(group) => Some(of_group(groups.get(&group)?, user, blank)),
        ConversationId::Direct(..) => Some(of_two(peers.get(&blank.id.peer_of(user)?)?, user, blank)),
    });
    Ok(described.collect())
}

/// What is known of a conversation of either kind.
fn blank(conversation: ConversationId, tail: Option<Tail>, epoch: Epoch, mark: u64, unread: Unread) -> Conversation {
    Conversation {
        id: conversation,
        kind: Kind::Group,
        name: String::new(),
        peer: None,
        owner: None,
        role: MemberRole::Member,
        members_count: 0,
        created_at: None,
        updated_at: None,
        position: tail.as_ref().map_or(Position { epoch, seq: 0 }, |tail| tail.position),
        last_message: tail.and_then(|tail| tail.last_message).map(Message::from),
        unread: unread.messages,
        mentions: unread.mentions,
        read: Read { seq: mark },
    }
}

fn of_group(group: &Group, user: UserId, blank: Conversation) -> Conversation {
    Conversation {
        kind: Kind::Group,
        name: group.name.clone(),
        owner: Some(group.owner),
        role: if group.owner == user { MemberRole::Owner } else { MemberRole::Member },
        members_count: group.members_count,
        created_at: Some(group.created_at),
        updated_at: Some(group.updated_at),
        ..blank
    }
}

fn of_two(peer: &directory::User, user: UserId, blank: Conversation) -> Conversation {
    let peer = UserBrief::from(peer.clone());
    Conversation {
        kind: Kind::Direct,
        name: peer.name.clone(),
        members_count: if peer.id == user { 1 } else { 2 },
        peer: Some(peer),
        ..blank
    }
}

async fn groups(edge: &Edge, ids: &[ConversationId]) -> Result<HashMap<GroupId, Group>, ApiError> {
    let group = |id: &ConversationId| if let ConversationId::Group(group) = *id { Some(group) } else { None };
    let wanted: Vec<GroupId> = ids.iter().filter_map(group).collect();
    let found = edge.directory.groups(&wanted).await?;
    Ok(found.into_iter().flatten().map(|group| (group.id, group)).collect())
}

async fn peers(
    edge: &Edge,
    user: UserId,
    ids: &[ConversationId],
) -> Result<HashMap<UserId, directory::User>, ApiError> {
    let wanted: Vec<UserId> = ids.iter().filter_map(|id| id.peer_of(user)).collect();
    let found = edge.directory.users(&wanted).await?;
    Ok(found.into_iter().flatten().map(|user| (user.id, user)).collect())
}

#[derive(Clone, Copy, Debug, Default)]
struct Unread {
    messages: usize,
    mentions: usize,
}

/// Counts the messages of others after the mark.
async fn count_unread(edge: &Edge, user: UserId, active: &Active, mark: u64) -> Result<Unread, ApiError> {
    let mut unread = Unread::default();
    let end = active.tail.as_ref().map_or(0, |tail: &Tail| tail.position.seq);
    let mut after_seq = mark;
    for _ in 0..MAX_PAGES {
        if after_seq >= end {
            break;
        }
        let page = history::Page {
            before_seq: None,
            after_seq: Some(after_seq),
            since: None,
            sender: None,
            order: Order::Asc,
            limit: PAGE,
        };
        let messages = edge.timeline.messages(active.conversation, &page).await?;
        let is_last = messages.len() < PAGE;
        after_seq = messages.last().map_or(end, |message| message.seq);
        for message in messages.iter().filter(|message| message.sender != user && !message.deleted) {
            unread.messages += 1;
            unread.mentions += usize::from(message.content.mentions.contains(&user));
            if unread.messages == MAX_UNREAD {
                return Ok(unread);
            }
        }
        if is_last {
            break;
        }
    }
    Ok(unread)
}
