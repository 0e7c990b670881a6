//! The dialect of the chat API with live delivery: `/register`, `/login`, `/conversations/…`. Its `/users` is in
//! [`super::accounts`].

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::UserId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accounts::{self, Account, Credentials, NewAccount};
use crate::auth::Caller;
use crate::cursor::Page;
use crate::extract::{ConversationParam, InConversation, Json, MessageParams, OfMessage, Query, ToConversation};
use crate::resources::auth::Client;
use crate::resources::conversations::{self, Conversation};
use crate::resources::messages::{self, List, Message, NewMessage};
use crate::{ApiError, Edge};

pub(super) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(create))
        .routes(routes!(get))
        .routes(routes!(send))
        .routes(routes!(delete))
}

/// Registers a user and logs the user in.
#[utoipa::path(post, path = "/register", tag = "alias: chat API", operation_id = "alias_register", security(()),
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

/// Logs a user in: `token` is the session's token.
#[utoipa::path(post, path = "/login", tag = "alias: chat API", operation_id = "alias_login", security(()),
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

/// The participants. One participant and no name make a direct conversation, anything else a group.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTalk {
    /// The other participants: at most 1,000 users.
    participants: Vec<UserId>,
    /// The group's name: 1 to 100 characters.
    #[schema(example = "Analytical engines")]
    name: Option<String>,
}

/// What a group is called that was given no name.
const UNNAMED: &str = "Group";

/// Starts a conversation with these participants.
#[utoipa::path(post, path = "/conversations", tag = "alias: chat API", operation_id = "alias_create_conversation",
    responses(
        (status = 201, body = Conversation),
        (status = 200, description = "It exists already", body = Conversation),
        (status = 409, description = "A limit has been reached"),
    ))]
async fn create(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Json(NewTalk { participants, name }): Json<NewTalk>,
) -> Result<(StatusCode, Answer<Conversation>), ApiError> {
    if let (&[user], None) = (&*participants, &name) {
        let found = conversations::direct_with(&edge, &caller, user).await;
        let talk = found.map_err(|error| error.pointing_at("/user", "/participants"))?;
        let status = if talk.has_no_events() { StatusCode::CREATED } else { StatusCode::OK };
        return Ok((status, Answer(talk)));
    }
    let name = name.unwrap_or_else(|| UNNAMED.to_owned());
    let created = conversations::create_group(&edge, caller.user, None, (name, participants)).await;
    let (talk, _) = created.map_err(|error| error.pointing_at("/members", "/participants"))?;
    Ok((StatusCode::CREATED, Answer(talk)))
}

/// A conversation with a page of its messages.
#[derive(Serialize, ToSchema)]
struct Talk {
    #[serde(flatten)]
    conversation: Conversation,
    /// Newest first by default.
    messages: Vec<Message>,
    /// The cursor of the next page of messages; `null` on the last.
    next: Option<String>,
}

/// A conversation with its messages.
#[utoipa::path(get, path = "/conversations/{conversation}", tag = "alias: chat API",
    operation_id = "alias_get_conversation", params(ConversationParam, List), responses((status = 200, body = Talk)))]
async fn get(
    State(edge): State<Arc<Edge>>,
    InConversation { caller, conversation }: InConversation,
    Query(list): Query<List>,
) -> Result<Answer<Talk>, ApiError> {
    let Page { items, next } = messages::page(&edge, conversation, list).await?;
    let conversation = conversations::describe_one(&edge, caller.user, conversation).await?;
    Ok(Answer(Talk { conversation, messages: items, next }))
}

/// Sends a message.
#[utoipa::path(post, path = "/conversations/{conversation}/message", tag = "alias: chat API",
    operation_id = "alias_send_message", params(ConversationParam),
    responses(
        (status = 201, body = Message),
        (status = 200, description = "The message had been sent before", body = Message),
        (status = 403, description = "Only the role `import` may set another `sender` or a `sent_at`"),
        (status = 409, description = "The id is already in use for another message"),
    ))]
async fn send(
    edge: State<Arc<Edge>>,
    conversation: ToConversation,
    new: Json<NewMessage>,
) -> Result<(StatusCode, Answer<Message>), ApiError> {
    messages::send(edge, conversation, new).await
}

/// Deletes a message: one's own, or anybody's as the owner of the group. Its place stays.
#[utoipa::path(delete, path = "/conversations/{conversation}/message/{message}", tag = "alias: chat API",
    operation_id = "alias_delete_message", params(MessageParams),
    responses(
        (status = 204),
        (status = 403, description = "The message is from another user"),
    ))]
async fn delete(edge: State<Arc<Edge>>, message: OfMessage) -> Result<StatusCode, ApiError> {
    messages::delete(edge, message).await
}
