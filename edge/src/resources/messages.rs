//! Messages of one conversation.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use directory::Role;
use history::Order;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::event::{Attachment, Image, Video};
use types::{AttachmentId, Content, ConversationId, EventId, Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::cursor::{self, Page};
use crate::extract::{ConversationParam, InConversation, Json, Limit, MessageParams, OfMessage, Query, ToConversation};
use crate::posting::Draft;
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list, send)).routes(routes!(get, edit, delete))
}

/// A message in its current state. A deleted one keeps its place, without content.
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
    /// Plain text; may be empty with an image, a video or an attachment.
    #[schema(example = "Hello, Bob!")]
    pub(crate) text: String,
    /// Present in an image message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<Image>,
    /// Present in a video message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) video: Option<Video>,
    /// Present in a message with a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attachment: Option<Attachment>,
    /// The message that this one replies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<EventId>,
    /// The users that this message mentions: at most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mentions: Vec<UserId>,
    /// When it was written: when the log stored it, unless it was imported with a time of its own.
    pub(crate) created_at: Timestamp,
    /// When it was last edited or deleted; `created_at` until then.
    pub(crate) updated_at: Timestamp,
    /// Whether it was deleted.
    pub(crate) deleted: bool,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MessageKind)]
pub(crate) enum Kind {
    Text,
    Image,
    Video,
    Attachment,
}

impl Kind {
    fn of(content: &Content) -> Self {
        match content {
            Content { image: Some(_), .. } => Self::Image,
            Content { video: Some(_), .. } => Self::Video,
            Content { attachment: Some(_), .. } => Self::Attachment,
            _ => Self::Text,
        }
    }
}

impl From<history::Message> for Message {
    fn from(message: history::Message) -> Self {
        let kind = Kind::of(&message.content);
        let created_at = message.content.said_at(message.created_at);
        let is_changed = message.updated_at != message.created_at;
        let Content { text, image, video, attachment, reply_to, mentions, .. } = message.content;
        Self {
            id: message.id,
            conversation: message.conversation,
            seq: message.seq,
            sender: message.sender,
            kind,
            text,
            image,
            video,
            attachment: attachment.map(|attachment| *attachment),
            reply_to,
            mentions,
            created_at,
            updated_at: if is_changed { message.updated_at } else { created_at },
            deleted: message.deleted,
        }
    }
}

/// Which messages. All conditions hold together.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct List {
    /// Only messages with a smaller `seq`.
    pub(crate) before_seq: Option<u64>,
    /// Only messages with a greater `seq`.
    pub(crate) after_seq: Option<u64>,
    /// Only messages stored at this time or later.
    pub(crate) since: Option<Timestamp>,
    /// Only messages from this user.
    pub(crate) sender: Option<UserId>,
    /// `desc` (default): newest first; or `asc`.
    #[param(value_type = Option<OrderName>, inline)]
    pub(crate) order: Option<Order>,
    /// The most items to return; default 50.
    pub(crate) limit: Option<Limit>,
    /// The `next` of the previous page, with the same parameters.
    pub(crate) cursor: Option<String>,
}

/// The order of a page.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it only describes `history::Order`")]
pub(crate) enum OrderName {
    Desc,
    Asc,
}

/// The messages of a conversation, newest first by default.
#[utoipa::path(get, path = "/v1/conversations/{conversation}/messages", tag = "messages",
    operation_id = "list_messages", params(ConversationParam, List), responses((status = 200, body = Page<Message>)))]
pub(crate) async fn list(
    State(edge): State<Arc<Edge>>,
    InConversation { conversation, .. }: InConversation,
    Query(list): Query<List>,
) -> Result<Answer<Page<Message>>, ApiError> {
    Ok(Answer(page(&edge, conversation, list).await?))
}

/// A page of a conversation's messages, for whoever has been let in.
pub(crate) async fn page(edge: &Edge, conversation: ConversationId, list: List) -> Result<Page<Message>, ApiError> {
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
    Ok(Page::cut(messages, limit, |last| last.seq).map(Message::from))
}

/// A message to send. Its kind follows from its content.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMessage {
    /// A UUIDv7 chosen by the client. Repeating the request with it does not send the message twice.
    pub(crate) id: Option<EventId>,
    /// The kind of message; optional, and must match the content.
    pub(crate) kind: Option<Kind>,
    /// Plain text. Optional with an image, a video or an attachment.
    #[serde(default)]
    #[schema(example = "Hello, Bob!")]
    pub(crate) text: String,
    /// A link to an image.
    pub(crate) image: Option<Image>,
    /// A link to a video.
    pub(crate) video: Option<Video>,
    /// A file that the sender uploaded.
    pub(crate) attachment: Option<AttachmentRef>,
    /// The message that this one replies to.
    pub(crate) reply_to: Option<EventId>,
    /// The users that this message mentions: at most 50.
    #[serde(default)]
    pub(crate) mentions: Vec<UserId>,
    /// The sender, if not the caller: with the role `import` only.
    pub(crate) sender: Option<UserId>,
    /// When it was written, if that was elsewhere and earlier: with the role `import` only.
    pub(crate) sent_at: Option<Timestamp>,
}

/// Whose message it is to be: the caller's own, stored with the time of now, unless the caller may import.
pub(crate) fn author(caller: &Caller, sender: Option<UserId>, sent_at: Option<Timestamp>) -> Result<UserId, ApiError> {
    let sender = sender.unwrap_or(caller.user);
    let is_ones_own = sender == caller.user && sent_at.is_none();
    if !is_ones_own && !caller.is(Role::Import) {
        return Err(ApiError::forbidden("only the role `import` may set another `sender` or a `sent_at`"));
    }
    if sent_at.is_some_and(|sent_at| sent_at > Timestamp::now()) {
        return Err(ApiError::invalid("/sent_at", "is ahead of the server's clock"));
    }
    Ok(sender)
}

/// An uploaded file.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttachmentRef {
    /// Its id.
    pub(crate) id: AttachmentId,
}

/// Sends a message.
///
/// The answer comes once the message is stored. Repeating the request with the same `id` and content returns 200 with
/// the same message.
#[utoipa::path(post, path = "/v1/conversations/{conversation}/messages", tag = "messages",
    operation_id = "send_message", params(ConversationParam),
    responses(
        (status = 201, body = Message),
        (status = 200, description = "The message had been sent before", body = Message),
        (status = 403, description = "Only the role `import` may set another `sender` or a `sent_at`"),
        (status = 409, description = "The id is already in use for another message"),
    ))]
pub(crate) async fn send(
    State(edge): State<Arc<Edge>>,
    ToConversation { caller, conversation }: ToConversation,
    Json(new): Json<NewMessage>,
) -> Result<(StatusCode, Answer<Message>), ApiError> {
    post(&edge, &caller, conversation, new).await
}

/// Sends a message and answers as [`send`] does.
pub(crate) async fn post(
    edge: &Edge,
    caller: &Caller,
    conversation: ConversationId,
    new: NewMessage,
) -> Result<(StatusCode, Answer<Message>), ApiError> {
    let NewMessage { id, kind, text, image, video, attachment, reply_to, mentions, sender, sent_at } = new;
    let sender = author(caller, sender, sent_at)?;
    let content = Content { text, image, video, attachment: None, reply_to, mentions, sent_at };
    let held = if attachment.is_some() { Kind::Attachment } else { Kind::of(&content) };
    if kind.is_some_and(|kind| kind != held) {
        return Err(ApiError::invalid("/kind", "does not match the message's content"));
    }
    let draft = Draft { id, content, attachment: attachment.map(|attachment| attachment.id) };
    let posted = edge.posting.send(sender, conversation, draft).await?;
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

/// A message's new text.
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
        (status = 403, description = "The message is from another user"),
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

/// Deletes a message: one's own, or anybody's as the owner of the group. Its place stays.
#[utoipa::path(delete, path = "/v1/conversations/{conversation}/messages/{message}", tag = "messages",
    operation_id = "delete_message", params(MessageParams),
    responses(
        (status = 204),
        (status = 403, description = "The message is from another user"),
    ))]
pub(crate) async fn delete(
    State(edge): State<Arc<Edge>>,
    OfMessage { caller, conversation, message }: OfMessage,
) -> Result<StatusCode, ApiError> {
    edge.posting.delete(caller.user, conversation, message).await?;
    Ok(StatusCode::NO_CONTENT)
}
