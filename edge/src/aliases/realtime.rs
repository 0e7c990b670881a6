//! The dialect of the real-time chat: `/auth/…`, `/chats/…`, `/groups/…`, `/uploads`. Its `/users` is in
//! [`super::accounts`].

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Request, State};
use http::StatusCode;
use serde::Deserialize;
use types::event::{Image, Video};
use types::{ConversationId, EventId, GroupId, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accounts::{self, Account, Credentials, NewAccount};
use crate::auth::Caller;
use crate::cursor::Page;
use crate::extract::{ConversationParam, InConversation, Json, Query, conversation_of};
use crate::resources::attachments::{self, UploadForm};
use crate::resources::auth::Client;
use crate::resources::conversations::{self, Conversation};
use crate::resources::members;
use crate::resources::messages::{self, AttachmentRef, List, Message, NewMessage};
use crate::{ApiError, Edge};

pub(super) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(send))
        .routes(routes!(history))
        .routes(routes!(create_group))
        .routes(routes!(add_user))
        .routes(routes!(group_messages))
        .routes(routes!(upload))
}

/// Registers a user and signs it in.
#[utoipa::path(post, path = "/auth/register", tag = "alias: real-time chat", operation_id = "alias_auth_register",
    security(()),
    responses(
        (status = 201, body = Account),
        (status = 409, description = "The user name or the email address is taken"),
    ))]
async fn register(
    State(edge): State<Arc<Edge>>,
    client: Client,
    Json(new): Json<NewAccount>,
) -> Result<(StatusCode, Answer<Account>), ApiError> {
    Ok((StatusCode::CREATED, Answer(accounts::sign_up(&edge, &client, new).await?.into())))
}

/// Signs a user in: `token` is a JWT, which every other route of this dialect wants.
#[utoipa::path(post, path = "/auth/login", tag = "alias: real-time chat", operation_id = "alias_auth_login",
    security(()),
    responses(
        (status = 200, body = Account),
        (status = 401, description = "The user name or the password is wrong"),
    ))]
async fn login(
    State(edge): State<Arc<Edge>>,
    client: Client,
    Json(with): Json<Credentials>,
) -> Result<Answer<Account>, ApiError> {
    Ok(Answer(accounts::log_in(&edge, &client, with).await?.into()))
}

/// A message and where it is to go: to a user (`recipient`), or to any conversation (`chatId`).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChatMessage {
    /// A user's id, for a direct message.
    recipient: Option<UserId>,
    /// A conversation's id, or `@` and a user's id.
    #[serde(rename = "chatId")]
    chat_id: Option<String>,
    /// A UUIDv7 of the client's, by which the message can be sent again without being sent twice.
    id: Option<EventId>,
    /// Plain text. May be missing beside an image or a video.
    #[serde(default)]
    #[schema(example = "Hello, Bob!")]
    text: String,
    /// A link to an image.
    image: Option<Image>,
    /// A link to a video.
    video: Option<Video>,
}

/// Sends a message to a user or into a conversation.
#[utoipa::path(post, path = "/chats/send-message", tag = "alias: real-time chat",
    operation_id = "alias_chats_send_message",
    responses(
        (status = 201, body = Message),
        (status = 200, description = "It had been sent before", body = Message),
        (status = 404, description = "There is no such chat, or the caller is no member of it"),
        (status = 409, description = "The id stands for another message"),
    ))]
async fn send(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Json(message): Json<ChatMessage>,
) -> Result<(StatusCode, Answer<Message>), ApiError> {
    let ChatMessage { recipient, chat_id, id, text, image, video } = message;
    let chat = match (recipient, chat_id) {
        (Some(recipient), None) => format!("@{recipient}"),
        (None, Some(chat_id)) => chat_id,
        _ => return Err(ApiError::invalid("/recipient", "give either a `recipient` or a `chatId`")),
    };
    let conversation = conversation_of(&caller, &chat)?;
    messages::post(&edge, &caller, conversation, NewMessage { id, text, image, video, ..NewMessage::default() }).await
}

/// The history of a chat, newest first.
#[utoipa::path(get, path = "/chats/{conversation}", tag = "alias: real-time chat", operation_id = "alias_chats_history",
    params(ConversationParam, List), responses((status = 200, body = Page<Message>)))]
async fn history(
    edge: State<Arc<Edge>>,
    conversation: InConversation,
    list: Query<List>,
) -> Result<Answer<Page<Message>>, ApiError> {
    messages::list(edge, conversation, list).await
}

/// A group to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    /// 1 to 100 characters.
    #[schema(example = "Analytical engines")]
    name: String,
    /// Who else is in the group from the start: at most 1,000 users.
    #[serde(default)]
    members: Vec<UserId>,
}

/// Creates a group, whose owner and first member the caller is.
#[utoipa::path(post, path = "/groups", tag = "alias: real-time chat", operation_id = "alias_groups_create",
    responses(
        (status = 201, body = Conversation),
        (status = 409, description = "A limit is reached"),
    ))]
async fn create_group(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Json(NewGroup { name, members }): Json<NewGroup>,
) -> Result<(StatusCode, Answer<Conversation>), ApiError> {
    let (group, _) = conversations::create_group(&edge, caller.user, None, (name, members)).await?;
    Ok((StatusCode::CREATED, Answer(group)))
}

/// Who is to be a member.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddUser {
    /// A user's id.
    #[serde(rename = "userId")]
    user_id: UserId,
}

/// Adds a user to a group. Only its owner may.
#[utoipa::path(post, path = "/groups/{conversation}/add-user", tag = "alias: real-time chat",
    operation_id = "alias_groups_add_user", params(ConversationParam),
    responses(
        (status = 200, description = "The group as it now is", body = Conversation),
        (status = 403, description = "The caller is not the owner"),
        (status = 409, description = "The group or the user has reached a limit"),
    ))]
async fn add_user(
    State(edge): State<Arc<Edge>>,
    InConversation { caller, conversation }: InConversation,
    Json(AddUser { user_id }): Json<AddUser>,
) -> Result<Answer<Conversation>, ApiError> {
    let invited = members::invite(&edge, &caller, conversation, vec![user_id]).await;
    Ok(Answer(invited.map_err(|error| error.pointing_at("/users", "/userId"))?))
}

/// The messages of a group, newest first.
#[utoipa::path(get, path = "/groups/{conversation}/messages", tag = "alias: real-time chat",
    operation_id = "alias_groups_messages", params(ConversationParam, List),
    responses((status = 200, body = Page<Message>)))]
async fn group_messages(
    edge: State<Arc<Edge>>,
    conversation: InConversation,
    list: Query<List>,
) -> Result<Answer<Page<Message>>, ApiError> {
    messages::list(edge, conversation, list).await
}

/// What a file is called and where it is to go: to a user (`to`), or to a group (`group`).
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Addressed {
    /// The file's name, without a path. In a form, the file's own name is taken when this is missing.
    name: Option<String>,
    /// A user's id.
    to: Option<UserId>,
    /// A group's id.
    group: Option<GroupId>,
}

/// Uploads a file and sends it to a user or to a group.
///
/// The body is the file itself, with its `Content-Type`, or a form with the file. It is checked by its content. The
/// answer is the message that it was sent in.
#[utoipa::path(post, path = "/uploads", tag = "alias: real-time chat", operation_id = "alias_upload",
    params(Addressed),
    request_body(content((UploadForm = "multipart/form-data"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 201, body = Message),
        (status = 404, description = "There is no such recipient, or the caller is no member of the group"),
        (status = 413, description = "The file is larger than it may be"),
        (status = 415, description = "The file is of no kind that is taken, or of another than it is called"),
        (status = 422, description = "The file is damaged or two things at once, or its name holds a path"),
    ))]
async fn upload(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(Addressed { name, to, group }): Query<Addressed>,
    request: Request,
) -> Result<(StatusCode, Answer<Message>), ApiError> {
    let conversation = match (to, group) {
        (Some(to), None) => ConversationId::direct(caller.user, to),
        (None, Some(group)) => group.into(),
        _ => return Err(ApiError::invalid("/to", "give either `to` or `group`")),
    };
    // Sending checks it too, but only once the whole file has been stored for nobody.
    edge.membership.require(caller.user, conversation).await?;
    let (label, pieces) = attachments::file_of(&edge, request, name).await?;
    let id = edge.attachments.upload(caller.user, label, pieces).await?.id;
    let new = NewMessage { attachment: Some(AttachmentRef { id }), ..NewMessage::default() };
    messages::post(&edge, &caller, conversation, new).await
}
