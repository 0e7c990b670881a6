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
use crate::resources::attachments::{self, FileBytes, UploadForm};
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

/// Registers a user and logs the user in.
#[utoipa::path(post, path = "/auth/register", tag = "alias: real-time chat", operation_id = "alias_auth_register",
    security(()),
    responses(
        (status = 201, body = Account),
        (status = 409, description = "The user name or the email address is already in use"),
    ))]
async fn register(
    State(edge): State<Arc<Edge>>,
    client: Client,
    Json(new): Json<NewAccount>,
) -> Result<(StatusCode, Answer<Account>), ApiError> {
    Ok((StatusCode::CREATED, Answer(accounts::sign_up(&edge, &client, new).await?.into())))
}

/// Logs a user in: `token` is a JWT, which every other route of this dialect needs.
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

/// A message and where to send it: to a user (`recipient`), or to a conversation (`chatId`).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChatMessage {
    /// A user's id, for a direct message.
    recipient: Option<UserId>,
    /// A conversation's id, or `@` and a user's id.
    #[serde(rename = "chatId")]
    chat_id: Option<String>,
    /// A UUIDv7 chosen by the client. Repeating the request with it does not send the message twice.
    id: Option<EventId>,
    /// Plain text. Optional with an image or a video.
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
        (status = 200, description = "The message had been sent before", body = Message),
        (status = 404, description = "There is no such chat, or the caller is not a member"),
        (status = 409, description = "The id is already in use for another message"),
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

/// A group to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    /// 1 to 100 characters.
    #[schema(example = "Analytical engines")]
    name: String,
    /// The other first members: at most 1,000 users.
    #[serde(default)]
    members: Vec<UserId>,
}

/// Creates a group with the caller as owner and first member.
#[utoipa::path(post, path = "/groups", tag = "alias: real-time chat", operation_id = "alias_groups_create",
    responses(
        (status = 201, body = Conversation),
        (status = 409, description = "A limit has been reached"),
    ))]
async fn create_group(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Json(NewGroup { name, members }): Json<NewGroup>,
) -> Result<(StatusCode, Answer<Conversation>), ApiError> {
    let (group, _) = conversations::create_group(&edge, caller.user, None, (name, members)).await?;
    Ok((StatusCode::CREATED, Answer(group)))
}

/// The user to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddUser {
    /// A user's id.
    #[serde(rename = "userId")]
    user_id: UserId,
}

/// Adds a user to a group. For its owner only.
#[utoipa::path(post, path = "/groups/{conversation}/add-user", tag = "alias: real-time chat",
    operation_id = "alias_groups_add_user", params(ConversationParam),
    responses(
        (status = 200, description = "The group as it is now", body = Conversation),
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
    /// The file's name, without a path. If missing, the file's own name in the form is used.
    name: Option<String>,
    /// A user's id.
    to: Option<UserId>,
    /// A group's id.
    group: Option<GroupId>,
}

/// Uploads a file and sends it to a user or to a group.
///
/// The body is the file itself, with its `Content-Type`, or a form with the file. Its content is checked. The answer is
/// the message that contains it.
#[utoipa::path(post, path = "/uploads", tag = "alias: real-time chat", operation_id = "alias_upload",
    params(Addressed),
    request_body(content(
        (UploadForm = "multipart/form-data"), (FileBytes = "application/octet-stream"),
        (FileBytes = "application/pdf"), (FileBytes = "image/jpeg"), (FileBytes = "image/png"),
    )),
    responses(
        (status = 201, body = Message),
        (status = 400, description = "The form cannot be parsed, or the body broke off"),
        (status = 404, description = "There is no such recipient, or the caller is not a member of the group"),
        (status = 413, description = "The file is too large"),
        (status = 415, description = "This type of file is not accepted, or the content is not of the declared type"),
        (status = 422, description = "The file is damaged, or valid as another format as well, or its name contains a path"),
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
