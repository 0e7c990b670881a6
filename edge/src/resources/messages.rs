//! Messages of one conversation.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use history::Order;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::event::{Image, Video};
use types::{Content, ConversationId, EventId, Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::cursor::{self, Page};
use crate::extract::{ConversationParam, InConversation, Json, Limit, MessageParams, OfMessage, Query};
use crate::posting::Draft;
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list, send)).routes(routes!(get, edit, delete))
}

/// A message in its present state. A deleted one keeps its place, without content.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Message {
    pub(crate) id: EventId,
    /// Where it was sent.
    pub(crate) conversation: ConversationId,
    /// Its place in the conversation.
    #[schema(example = 42)]
    pub(crate) seq: u64,
    /// Who sent it.
    pub(crate) sender: UserId,
    pub(crate) kind: Kind,
    /// Plain text; may be empty beside an image or a video.
    #[schema(example = "Hello, Bob!")]
    pub(crate) text: String,
    /// There in an image message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<Image>,
    /// There in a video message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) video: Option<Video>,
    /// The message that this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<EventId>,
    /// The users that this message calls by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mentions: Vec<UserId>,
    /// When the log stored it.
    pub(crate) created_at: Timestamp,
    /// When it was last edited, or deleted; `created_at` at first.
    pub(crate) updated_at: Timestamp,
    /// Whether its content was withdrawn.
    pub(crate) deleted: bool,
}

/// What a message mainly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MessageKind)]
pub(crate) enum Kind {
    Text,
    Image,
    Video,
}

impl Kind {
    fn of(content: &Content) -> Self {
        match content {
            Content { image: Some(_), .. } => Self::Image,
            Content { video: Some(_), .. } => Self::Video,
            _ => Self::Text,
        }
    }
}

impl From<history::Message> for Message {
    fn from(message: history::Message) -> Self {
        let kind = Kind::of(&message.content);
        let Content { text, image, video, reply_to, mentions } = message.content;
        Self {
            id: message.id,
            conversation: message.conversation,
            seq: message.seq,
            sender: message.sender,
            kind,
            text,
            image,
            video,
            reply_to,
            mentions,
            created_at: message.created_at,
            updated_at: message.updated_at,
            deleted: message.deleted,
        }
    }
}

/// Which messages. All conditions hold together.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct List {
    /// Only messages with a smaller `seq`.
    before_seq: Option<u64>,
    /// Only messages with a greater `seq`.
    after_seq: Option<u64>,
    /// Only messages that were stored at this time or later.
    since: Option<Timestamp>,
    /// Only messages of this user.
    sender: Option<UserId>,
    /// `desc`, newest first, when missing; or `asc`.
    #[param(value_type = Option<OrderName>, inline)]
    order: Option<Order>,
    /// How many at most; 50 when missing.
    limit: Option<Limit>,
    /// The `next` of the page before, asked for with the same conditions.
    cursor: Option<String>,
}

/// The order of a page.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it only describes `history::Order`")]
pub(crate) enum OrderName {
    Desc,
    Asc,
}

/// The messages of a conversation, newest first unless asked otherwise.
#[utoipa::path(get, path = "/v1/conversations/{conversation}/messages", tag = "messages",
    operation_id = "list_messages", params(ConversationParam, List), responses((status = 200, body = Page<Message>)))]
pub(crate) async fn list(
    State(edge): State<Arc<Edge>>,
    InConversation { conversation, .. }: InConversation,
    Query(list): Query<List>,
) -> Result<Answer<Page<Message>>, ApiError> {
    let limit = list.limit.unwrap_or_default().items();
    let order = list.order.unwrap_or_default();
    let (mut before_seq, mut after_seq) = (list.before_seq, list.after_seq);
    if let Some(seq) = list.cursor.as_deref().map(cursor::decode::<u64>).transpose()? {
        match order {
            Order::Desc => before_seq = Some(before_seq.map_or(seq, |before| before.min(seq))),
            Order::Asc => after_seq = Some(after_seq.map_or(seq, |after| after.max(seq))),
        }
    }
    let page = history::Page { before_seq, after_seq, since: list.since, sender: list.sender, order, limit: limit + 1 };
    let messages = edge.timeline.messages(conversation, &page).await?;
    Ok(Answer(Page::cut(messages, limit, |last| last.seq).map(Message::from)))
}

/// A message to be sent. Its kind is read off what it holds.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMessage {
    /// A UUIDv7 of the client's, by which the message can be sent again without being sent twice.
    id: Option<EventId>,
    /// What it mainly is; if it is given, it must fit.
    kind: Option<Kind>,
    /// Plain text. May be missing beside an image or a video.
    #[serde(default)]
    #[schema(example = "Hello, Bob!")]
    text: String,
    /// A link to an image.
    image: Option<Image>,
    /// A link to a video.
    video: Option<Video>,
    /// The message that this one answers.
    reply_to: Option<EventId>,
    /// The users that this message calls by name.
    #[serde(default)]
    mentions: Vec<UserId>,
}

/// Sends a message.
///
/// The answer comes once it is stored. Sent again with the same `id` and content it is answered 200 with the same
/// message.
#[utoipa::path(post, path = "/v1/conversations/{conversation}/messages", tag = "messages",
    operation_id = "send_message", params(ConversationParam),
    responses(
        (status = 201, body = Message),
        (status = 200, description = "It had been sent before", body = Message),
        (status = 409, description = "The id stands for another message"),
    ))]
pub(crate) async fn send(
    State(edge): State<Arc<Edge>>,
    InConversation { caller, conversation }: InConversation,
    Json(new): Json<NewMessage>,
) -> Result<(StatusCode, Answer<Message>), ApiError> {
    let NewMessage { id, kind, text, image, video, reply_to, mentions } = new;
    let content = Content { text, image, video, reply_to, mentions };
    if kind.is_some_and(|kind| kind != Kind::of(&content)) {
        return Err(ApiError::invalid("/kind", "does not fit what the message holds"));
    }
    let posted = edge.posting.send(caller.user, conversation, Draft { id, content }).await?;
    let status = if posted.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Answer(posted.message.into())))
}

/// A message by its id.
#[utoipa::path(get, path = "/v1/conversations/{conversation}/messages/{message}", tag = "messages",
    operation_id = "get_message", params(MessageParams), responses((status = 200, body = Message)))]
pub(crate) async fn get(
    State(edge): State<Arc<Edge>>,
    OfMessage { conversation, message, .. }: OfMessage,
) -> Result<Answer<Message>, ApiError> {
    let message = edge.timeline.message(conversation, message).await?.ok_or_else(ApiError::not_found)?;
    Ok(Answer(message.into()))
}

/// Another text for a message.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageEdit {
    #[schema(example = "Hello, Bob! How are you?")]
    text: String,
}

/// Replaces the text of one's own message.
#[utoipa::path(patch, path = "/v1/conversations/{conversation}/messages/{message}", tag = "messages",
    operation_id = "edit_message", params(MessageParams),
    responses(
        (status = 200, body = Message),
        (status = 403, description = "It is somebody else's message"),
        (status = 409, description = "It was deleted"),
    ))]
pub(crate) async fn edit(
    State(edge): State<Arc<Edge>>,
    OfMessage { caller, conversation, message }: OfMessage,
    Json(edit): Json<MessageEdit>,
) -> Result<Answer<Message>, ApiError> {
    let message = edge.posting.edit(caller.user, conversation, message, edit.text).await?;
    Ok(Answer(message.into()))
}

/// Withdraws a message: one's own, or as the owner of the group anybody's. Its place stays.
#[utoipa::path(delete, path = "/v1/conversations/{conversation}/messages/{message}", tag = "messages",
    operation_id = "delete_message", params(MessageParams),
    responses(
        (status = 204),
        (status = 403, description = "It is somebody else's message"),
    ))]
pub(crate) async fn delete(
    State(edge): State<Arc<Edge>>,
    OfMessage { caller, conversation, message }: OfMessage,
) -> Result<StatusCode, ApiError> {
    edge.posting.delete(caller.user, conversation, message).await?;
    Ok(StatusCode::NO_CONTENT)
}
