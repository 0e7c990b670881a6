//! The dialect of the two-party chat: `/messages`. Its `/users` is in [`super::accounts`].
//!
//! It names sender and recipient in the request. The caller must be the sender, or may import; to read, it must be
//! one of the two.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use history::Order;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::event::{Image, Video};
use types::{ConversationId, EventId, Timestamp};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::cursor;
use crate::extract::{Json, Limit, Query};
use crate::resources::messages::{self, Kind, Message, NewMessage};
use crate::resources::users;
use crate::{ApiError, Edge};

pub(super) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list, send))
}

/// Messages that are passed over to come to a page by its number, at most.
const MAX_SKIPPED: usize = 10_000;
/// Messages that are passed over at once.
const SKIPPED_AT_ONCE: usize = 100;

/// A message from one user to another: a text, a link to an image, or a link to a video.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Letter {
    /// The sender, by id or user name.
    #[schema(example = "ada")]
    sender: String,
    /// The recipient, by id or user name.
    #[schema(example = "bob")]
    recipient: String,
    /// A UUIDv7 chosen by the client. Repeating the request with it does not send the message twice.
    id: Option<EventId>,
    /// The kind of message; optional, and must match the content.
    kind: Option<Kind>,
    /// Plain text. Optional with an image or a video.
    #[serde(default)]
    #[schema(example = "Hello, Bob!")]
    text: String,
    /// A link to an image, with its width and height.
    image: Option<Image>,
    /// A link to a video, with its length and its source; a missing source is derived from the link.
    video: Option<Video>,
    /// When it was written, if that was elsewhere and earlier: with the role `import` only.
    sent_at: Option<Timestamp>,
}

/// Sends a message from one user to another.
#[utoipa::path(post, path = "/messages", tag = "alias: two-party chat", operation_id = "alias_send_letter",
    responses(
        (status = 201, body = Message),
        (status = 200, description = "The message had been sent before", body = Message),
        (status = 403, description = "The sender is another user, and the caller lacks the role `import`"),
        (status = 409, description = "The id is already in use for another message"),
    ))]
async fn send(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Json(letter): Json<Letter>,
) -> Result<(StatusCode, Answer<Message>), ApiError> {
    let Letter { sender, recipient, id, kind, text, image, video, sent_at } = letter;
    let sender = users::named(&edge, "/sender", &sender).await?;
    messages::author(&caller, Some(sender), sent_at)?;
    let recipient = users::named(&edge, "/recipient", &recipient).await?;
    let new = NewMessage { id, kind, text, image, video, sender: Some(sender), sent_at, ..NewMessage::default() };
    let sent = messages::post(&edge, &caller, ConversationId::direct(sender, recipient), new).await;
    sent.map_err(|error| match error.code() {
        // Of a direct conversation everybody is a member who is named in it and who there is.
        "not_found" => ApiError::invalid("/recipient", "there is no such user"),
        _ => error,
    })
}

/// Which messages.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Letters {
    /// One of the two users, by id or user name.
    user: String,
    /// The other user. The caller must be one of the two.
    other: String,
    /// The page number, from 1. Pages shift when messages arrive; a `cursor` does not.
    page: Option<u64>,
    /// The most messages on a page; default 50. Also called `messages_per_page`.
    #[serde(alias = "messages_per_page")]
    limit: Option<Limit>,
    /// The `next` of the previous page, instead of a `page`.
    cursor: Option<String>,
}

/// A page of messages.
#[derive(Serialize, ToSchema)]
struct LettersPage {
    items: Vec<Message>,
    /// The page number; `null` for a page requested by cursor.
    page: Option<u64>,
    /// The cursor of the next page; `null` on the last.
    next: Option<String>,
}

/// The messages between two users, newest first, by page number or by cursor.
#[utoipa::path(get, path = "/messages", tag = "alias: two-party chat", operation_id = "alias_list_letters",
    params(Letters),
    responses(
        (status = 200, body = LettersPage),
        (status = 403, description = "The caller is not one of the two users"),
    ))]
async fn list(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(letters): Query<Letters>,
) -> Result<Answer<LettersPage>, ApiError> {
    let Letters { user, other, page, limit, cursor } = letters;
    let limit = limit.unwrap_or_default().items();
    let (user, other) = (users::named(&edge, "user", &user).await?, users::named(&edge, "other", &other).await?);
    if caller.user != user && caller.user != other {
        return Err(ApiError::forbidden("only the two users may read their messages"));
    }
    let conversation = ConversationId::direct(user, other);
    edge.membership.require(caller.user, conversation).await?;
    let (number, before_seq) = match (page, cursor) {
        (Some(_), Some(_)) => return Err(ApiError::invalid("page", "cannot be combined with `cursor`")),
        (None, Some(cursor)) => (None, Some(cursor::decode(&cursor)?)),
        (number, None) => {
            let number = number.unwrap_or(1);
            let Some(before_seq) = start_of_page(&edge, conversation, number, limit).await? else {
                return Ok(Answer(LettersPage { items: Vec::new(), page: Some(number), next: None }));
            };
            (Some(number), before_seq)
        }
    };
    let found = edge.timeline.messages(conversation, &newest(before_seq, limit + 1)).await?;
    let cursor::Page { items, next } = cursor::Page::cut(found, limit, |last| last.seq).map(Message::from);
    Ok(Answer(LettersPage { items, page: number, next }))
}

/// The `seq` before which a page begins, counted from the newest message, itself `None` for the first page; `None` for
/// a page behind the last.
async fn start_of_page(
    edge: &Edge,
    conversation: ConversationId,
    number: u64,
    limit: usize,
) -> Result<Option<Option<u64>>, ApiError> {
    let before = number.checked_sub(1).ok_or_else(|| ApiError::invalid("page", "must be at least 1"))?;
    let too_far = || ApiError::invalid("page", format!("is more than {MAX_SKIPPED} messages deep: use `cursor`"));
    let mut left = usize::try_from(before).ok().and_then(|pages| pages.checked_mul(limit)).ok_or_else(too_far)?;
    if left > MAX_SKIPPED {
        return Err(too_far());
    }
    let mut before_seq = None;
    while left > 0 {
        let skipped = left.min(SKIPPED_AT_ONCE);
        let found = edge.timeline.messages(conversation, &newest(before_seq, skipped)).await?;
        let Some(last) = found.last().filter(|_| found.len() == skipped) else { return Ok(None) };
        before_seq = Some(last.seq);
        left -= skipped;
    }
    Ok(Some(before_seq))
}

fn newest(before_seq: Option<u64>, limit: usize) -> history::Page {
    history::Page { before_seq, after_seq: None, since: None, sender: None, order: Order::Desc, limit }
}
