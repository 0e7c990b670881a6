//! A conversation as one of its members sees it.

use std::collections::HashMap;

use directory::{Group, MemberRole};
use futures_util::{StreamExt, TryStreamExt, stream};
use history::Order;
use serde::Serialize;
use types::{ConversationId, GroupId, Position, Timestamp, UserId};
use utoipa::ToSchema;

use crate::resources::conversations::Kind;
use crate::resources::members::MemberRoleName;
use crate::resources::messages::Message;
use crate::resources::users::UserBrief;
use crate::timeline::Latest;
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
    /// The group's name; of a direct conversation, the other user's name.
    #[schema(example = "Analytical engines")]
    pub(crate) name: String,
    /// The other user of a direct conversation; the caller in notes to oneself.
    pub(crate) peer: Option<UserBrief>,
    /// The owner of a group, who may change it.
    pub(crate) owner: Option<UserId>,
    /// The caller's role in it.
    #[schema(value_type = MemberRoleName)]
    pub(crate) role: MemberRole,
    #[schema(example = 2)]
    pub(crate) members_count: u64,
    /// When a group was created.
    pub(crate) created_at: Option<Timestamp>,
    /// When a group's name, owner or members last changed.
    pub(crate) updated_at: Option<Timestamp>,
    /// The place of the last event; 0 if there is none, `null` if it is not known now.
    pub(crate) position: Option<Position>,
    /// `null` if there is none; while `unread` is `null`, also if it is not known.
    pub(crate) last_message: Option<Message>,
    /// Messages from others that the caller has not read; exact up to 100, `null` if it is not known now.
    #[schema(minimum = 0, maximum = 100, example = 3)]
    pub(crate) unread: Option<usize>,
    /// How many of the unread messages mention the caller; `null` if it is not known now.
    #[schema(minimum = 0, maximum = 100, example = 1)]
    pub(crate) mentions: Option<usize>,
    /// How far the caller has read; `null` if it is not known now.
    pub(crate) read: Option<Read>,
}

impl Conversation {
    /// Whether it is known that nothing has happened in it.
    pub(crate) fn has_no_events(&self) -> bool {
        self.position.is_some_and(|position| position.seq == 0)
    }
}

/// How far somebody has read.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ReadPosition)]
pub(crate) struct Read {
    /// Up to and including this `seq`.
    #[schema(example = 39)]
    pub(crate) seq: u64,
}

/// One conversation as a member of it sees it. Whoever asks has seen to it that `user` is one.
pub(crate) async fn describe_one(
    edge: &Edge,
    user: UserId,
    conversation: ConversationId,
) -> Result<Conversation, ApiError> {
    let latest = edge.timeline.latest(&[conversation]).await?.into_iter().next();
    one(edge, user, (conversation, latest.unwrap_or_else(Latest::unknown))).await
}

/// As [`describe_one`], of one that `user` has just changed. That must not be refused any more, so what cannot be read now
/// is left open.
pub(crate) async fn describe_changed(
    edge: &Edge,
    user: UserId,
    conversation: ConversationId,
) -> Result<Conversation, ApiError> {
    let latest = edge.timeline.latest(&[conversation]).await.ok().and_then(|latest| latest.into_iter().next());
    one(edge, user, (conversation, latest.unwrap_or_else(Latest::unknown))).await
}

/// As [`describe_changed`], of a group that `user` has just made. It needs no history, for nothing was there before.
pub(super) async fn describe_new(edge: &Edge, user: UserId, group: GroupId) -> Result<Conversation, ApiError> {
    let latest = edge.timeline.latest_of_new(group.into()).await.unwrap_or_else(|_| Latest::unknown());
    let known = vec![Known { conversation: group.into(), latest, mark: Some(0) }];
    described(edge, user, known).await?.into_iter().next().ok_or_else(ApiError::not_found)
}

async fn one(edge: &Edge, user: UserId, known: (ConversationId, Latest)) -> Result<Conversation, ApiError> {
    describe(edge, user, vec![known]).await?.into_iter().next().ok_or_else(ApiError::not_found)
}

/// Conversations as a member of them sees them, in the order of the question. Those that are gone are left out.
pub(super) async fn describe(
    edge: &Edge,
    user: UserId,
    latest: Vec<(ConversationId, Latest)>,
) -> Result<Vec<Conversation>, ApiError> {
    let ids: Vec<ConversationId> = latest.iter().map(|(conversation, _)| *conversation).collect();
    let marks: Vec<Option<u64>> = match edge.timeline.read_marks(user, &ids).await? {
        Some(marks) => marks.into_iter().map(Some).collect(),
        None => vec![None; ids.len()],
    };
    let known =
        latest.into_iter().zip(marks).map(|((conversation, latest), mark)| Known { conversation, latest, mark });
    described(edge, user, known.collect()).await
}

/// What the log and history know of a conversation.
struct Known {
    conversation: ConversationId,
    latest: Latest,
    /// How far the caller has read; `None` when history is away.
    mark: Option<u64>,
}

async fn described(edge: &Edge, user: UserId, known: Vec<Known>) -> Result<Vec<Conversation>, ApiError> {
    let ids: Vec<ConversationId> = known.iter().map(|known| known.conversation).collect();
    let groups = groups(edge, &ids).await?;
    let peers = peers(edge, user, &ids).await?;
    let counting: Vec<_> = known.iter().map(|known| count_unread(edge, user, known)).collect();
    let unread: Vec<Option<Unread>> = stream::iter(counting).buffered(AT_ONCE).try_collect().await?;

    let blanks = known.into_iter().zip(unread).map(|(known, unread)| blank(known, unread));
    let described = blanks.filter_map(|blank| match blank.id {
        ConversationId::Group(group) => Some(of_group(groups.get(&group)?, user, blank)),
        ConversationId::Direct(..) => Some(of_two(peers.get(&blank.id.peer_of(user)?)?, user, blank)),
    });
    Ok(described.collect())
}

/// What is known of a conversation of either kind.
fn blank(Known { conversation, latest, mark }: Known, unread: Option<Unread>) -> Conversation {
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
        position: latest.position,
        last_message: latest.last_message.map(Message::from),
        unread: unread.map(|unread| unread.messages),
        mentions: unread.map(|unread| unread.mentions),
        read: mark.map(|seq| Read { seq }),
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

/// Counts the messages of others after the mark; `None` when it is not known, or they cannot all be read now.
async fn count_unread(edge: &Edge, user: UserId, known: &Known) -> Result<Option<Unread>, ApiError> {
    let Known { conversation, ref latest, mark: Some(mark) } = *known else { return Ok(None) };
    if latest.is_whole && latest.last_message.is_none() {
        return Ok(Some(Unread::default()));
    }
    match count_after(edge, user, (conversation, mark), latest.position).await {
        Ok(unread) => Ok(Some(unread)),
        Err(error) if error.code() == "unavailable" => Ok(None),
        Err(error) => Err(error),
    }
}

async fn count_after(
    edge: &Edge,
    user: UserId,
    (conversation, mark): (ConversationId, u64),
    end: Option<Position>,
) -> Result<Unread, ApiError> {
    let mut unread = Unread::default();
    let end = end.map_or(u64::MAX, |end| end.seq);
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
        let messages = edge.timeline.messages(conversation, &page).await?;
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
