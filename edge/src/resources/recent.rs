//! Direct messages that one was sent, over all senders.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt, stream};
use history::Order;
use serde::{Deserialize, Serialize};
use types::{ConversationId, EventId, Timestamp, UserId};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::cursor::{self, Page};
use crate::extract::{Limit, Query};
use crate::resources::conversations;
use crate::resources::messages::Message;
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(recent))
}

/// Conversations that are read at the same time.
const AT_ONCE: usize = 8;
/// Pages of one conversation that are passed over in search of where the last page ended.
const MAX_PAGES: usize = 20;
/// Senders of whom a cursor tells how far they were read.
const MAX_READ: usize = 16;

/// Which direct messages.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Recent {
    /// Only messages from this user.
    sender: Option<UserId>,
    /// Only messages stored at this time or later.
    since: Option<Timestamp>,
    /// The most items to return; default 50.
    limit: Option<Limit>,
    /// The `next` of the previous page, with the same parameters.
    cursor: Option<String>,
}

/// Where a page ended. What is before it is told by the time and the id of its last message; so that nothing has to
/// be read twice, it also tells for the senders that came last up to which `seq` they were read.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cursor {
    last: Place,
    read: Vec<(UserId, u64)>,
}

/// The time and the id of a message.
type Place = (Timestamp, EventId);

/// The direct messages that others sent to the caller, newest first.
#[utoipa::path(get, path = "/v1/messages/recent", tag = "messages", operation_id = "recent_messages",
    params(Recent), responses((status = 200, body = Page<Message>)))]
pub(crate) async fn recent(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(recent): Query<Recent>,
) -> Result<Answer<Page<Message>>, ApiError> {
    let before: Option<Cursor> = recent.cursor.as_deref().map(cursor::decode).transpose()?;
    let limit = recent.limit.unwrap_or_default().items();
    let search = Search { edge: &edge, caller: caller.user, since: recent.since, before, limit: limit + 1 };
    let senders = match recent.sender {
        Some(sender) => vec![sender],
        None => conversations::peers(&edge, caller.user).await?,
    };
    let mut messages = search.newest_of(&senders).await?;
    let next = if messages.len() > limit { Some(search.end_of(&messages[..limit])) } else { None };
    messages.truncate(limit);
    let items = messages.into_iter().map(Message::from).collect();
    Ok(Answer(Page { items, next: next.map(|next| cursor::encode(&next)) }))
}

struct Search<'a> {
    edge: &'a Edge,
    caller: UserId,
    since: Option<Timestamp>,
    before: Option<Cursor>,
    limit: usize,
}

impl Search<'_> {
    /// The newest messages of all these senders. Conversations are read in order of their last event, a few at
    /// once, until what is found is newer than anything that the rest may hold.
    async fn newest_of(&self, senders: &[UserId]) -> Result<Vec<history::Message>, ApiError> {
        let with = |sender: &UserId| ConversationId::direct(self.caller, *sender);
        let conversations: Vec<ConversationId> = senders.iter().map(with).collect();
        let ends = self.edge.timeline.ends(&conversations).await?;
        let mut active: Vec<(Timestamp, UserId)> =
            ends.into_iter().zip(senders).filter_map(|(end, sender)| Some((end?.at, *sender))).collect();
        active.retain(|(at, sender)| *sender != self.caller && self.since.is_none_or(|since| *at >= since));
        active.sort_unstable_by(|one, other| other.cmp(one));

        let mut found: Vec<history::Message> = Vec::new();
        for batch in active.chunks(AT_ONCE) {
            let newest_left = batch.first().map(|(at, _)| *at);
            let oldest_found = found.get(self.limit - 1).map(|message| message.created_at);
            if oldest_found > newest_left {
                break;
            }
            let reading: Vec<_> = batch.iter().map(|(_, sender)| self.newest_by(*sender)).collect();
            let pages: Vec<Vec<history::Message>> =
                stream::iter(reading).buffer_unordered(AT_ONCE).try_collect().await?;
            found.extend(pages.into_iter().flatten());
            found.sort_unstable_by_key(|message| std::cmp::Reverse(place(message)));
            found.truncate(self.limit);
        }
        Ok(found)
    }

    /// The newest messages of one sender, from where the last page ended.
    async fn newest_by(&self, sender: UserId) -> Result<Vec<history::Message>, ApiError> {
        let conversation = ConversationId::direct(self.caller, sender);
        let before = self.before.as_ref();
        let read = before.and_then(|before| before.read.iter().find(|(read, _)| *read == sender));
        let mut page = history::Page {
            before_seq: read.map(|(_, seq)| *seq),
            after_seq: None,
            since: self.since,
            sender: Some(sender),
            order: Order::Desc,
            limit: self.limit,
        };
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let messages = self.edge.timeline.messages(conversation, &page).await?;
            let is_last = messages.len() < page.limit;
            page.before_seq = messages.last().map(|message| message.seq);
            found.extend(
                messages.into_iter().filter(|message| before.is_none_or(|before| place(message) < before.last)),
            );
            if is_last || found.len() >= self.limit {
                found.truncate(self.limit);
                return Ok(found);
            }
        }
        Err(ApiError::invalid("cursor", "is too far back for all senders at once; give a `sender`"))
    }

    /// The cursor behind a page.
    fn end_of(&self, page: &[history::Message]) -> Cursor {
        let mut read: Vec<(UserId, u64)> = Vec::new();
        let earlier = self.before.iter().flat_map(|before| before.read.iter().copied());
        for (sender, seq) in page.iter().rev().map(|message| (message.sender, message.seq)).chain(earlier) {
            if read.len() < MAX_READ && read.iter().all(|(known, _)| *known != sender) {
                read.push((sender, seq));
            }
        }
        let last = page.last().map_or((Timestamp::MAX, EventId::generate(self.edge.config.region.number)), place);
        Cursor { last, read }
    }
}

fn place(message: &history::Message) -> Place {
    (message.created_at, message.id)
}
