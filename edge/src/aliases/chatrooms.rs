//! The dialect of the chatrooms: `/chatrooms/…`, with everything in an envelope of `data`. Its `/users` is in
//! [`super::accounts`].
//!
//! It names the sender in the request. The caller must be that sender, or may import.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::{Content, ConversationId, EventId, GroupId, Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::cursor::Page;
use crate::extract::{
    ConversationParam, InConversation, Json, Limit, MemberParams, OfMember, OfUser, Query, ToConversation, UserParam,
};
use crate::posting::Draft;
use crate::resources::conversations::{self, Conversation, Kind};
use crate::resources::members;
use crate::resources::messages::{self, Message};
use crate::{ApiError, Edge};

pub(super) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(get))
        .routes(routes!(invite))
        .routes(routes!(messages_of_all, send))
        .routes(routes!(messages_of_one))
        .routes(routes!(of_user))
}

/// Messages that one request sends, at most.
const MAX_MESSAGES: usize = 100;
/// The longest time that is looked back over, in days.
const MAX_DAYS: u32 = 36_500;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The answer in its envelope.
#[derive(Serialize, ToSchema)]
struct Data<T> {
    data: T,
}

/// A page, in its envelope.
#[derive(Serialize, ToSchema)]
struct DataPage<T> {
    data: Vec<T>,
    /// The cursor of the next page; `null` on the last.
    next: Option<String>,
}

impl<T> From<Page<T>> for DataPage<T> {
    fn from(page: Page<T>) -> Self {
        Self { data: page.items, next: page.next }
    }
}

/// A page of chatrooms.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Rooms {
    /// The most items to return; default 50.
    limit: Option<Limit>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// The caller's chatrooms, most recent activity first.
#[utoipa::path(get, path = "/chatrooms", tag = "alias: chatrooms", operation_id = "alias_list_chatrooms", params(Rooms),
    responses((status = 200, body = DataPage<Conversation>)))]
async fn list(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(rooms): Query<Rooms>,
) -> Result<Answer<DataPage<Conversation>>, ApiError> {
    rooms_of(&edge, &caller, rooms).await
}

/// The caller's chatrooms.
#[utoipa::path(get, path = "/users/{user}/chatrooms", tag = "alias: chatrooms", operation_id = "alias_users_chatrooms",
    params(UserParam, Rooms),
    responses(
        (status = 200, body = DataPage<Conversation>),
        (status = 403, description = "This is another user"),
    ))]
async fn of_user(
    State(edge): State<Arc<Edge>>,
    OfUser { caller, user }: OfUser,
    Query(rooms): Query<Rooms>,
) -> Result<Answer<DataPage<Conversation>>, ApiError> {
    if user != caller.user {
        return Err(ApiError::forbidden("only the user concerned may list these"));
    }
    rooms_of(&edge, &caller, rooms).await
}

async fn rooms_of(edge: &Edge, caller: &Caller, rooms: Rooms) -> Result<Answer<DataPage<Conversation>>, ApiError> {
    let Rooms { limit, cursor } = rooms;
    let page =
        conversations::page(edge, caller, conversations::List { kind: Some(Kind::Group), limit, cursor }).await?;
    Ok(Answer(DataPage { data: page.items, next: page.next }))
}

/// A chatroom to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRoom {
    /// 1 to 100 characters.
    #[schema(example = "Analytical engines")]
    name: String,
    /// The other first members: at most 1,000 users.
    #[serde(default)]
    user_ids: Vec<UserId>,
}

/// Creates a chatroom with the caller as owner and first member.
#[utoipa::path(post, path = "/chatrooms", tag = "alias: chatrooms", operation_id = "alias_create_chatroom",
    responses(
        (status = 201, body = Data<Conversation>),
        (status = 409, description = "A limit has been reached"),
    ))]
async fn create(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Json(NewRoom { name, user_ids }): Json<NewRoom>,
) -> Result<(StatusCode, Answer<Data<Conversation>>), ApiError> {
    let created = conversations::create_group(&edge, caller.user, None, (name, user_ids)).await;
    let (data, _) = created.map_err(|error| error.pointing_at("/members", "/user_ids"))?;
    Ok((StatusCode::CREATED, Answer(Data { data })))
}

/// A chatroom.
#[utoipa::path(get, path = "/chatrooms/{conversation}", tag = "alias: chatrooms", operation_id = "alias_get_chatroom",
    params(ConversationParam), responses((status = 200, body = Data<Conversation>)))]
async fn get(edge: State<Arc<Edge>>, conversation: InConversation) -> Result<Answer<Data<Conversation>>, ApiError> {
    let Answer(data) = conversations::get(edge, conversation).await?;
    Ok(Answer(Data { data }))
}

/// Whom to invite, and to which chatroom.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Invitation {
    chatroom_id: GroupId,
    /// 1 to 1,000 users. Existing members are skipped.
    user_ids: Vec<UserId>,
}

/// Invites users to a chatroom: they are members from then on. For its owner only.
#[utoipa::path(post, path = "/chatrooms/invite", tag = "alias: chatrooms", operation_id = "alias_invite",
    responses(
        (status = 200, description = "The chatroom as it is now", body = Data<Conversation>),
        (status = 403, description = "The caller is not the owner"),
        (status = 404, description = "There is no such chatroom, or the caller is not a member"),
        (status = 409, description = "The chatroom or a user has reached a limit"),
    ))]
async fn invite(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Json(Invitation { chatroom_id, user_ids }): Json<Invitation>,
) -> Result<Answer<Data<Conversation>>, ApiError> {
    let room = ConversationId::Group(chatroom_id);
    edge.membership.require(caller.user, room).await?;
    let invited = members::invite(&edge, &caller, room, user_ids).await;
    Ok(Answer(Data { data: invited.map_err(|error| error.pointing_at("/users", "/user_ids"))? }))
}

/// Messages to send.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRoomMessages {
    /// 1 to 100 messages, in order.
    data: Vec<NewRoomMessage>,
}

/// A message to send.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRoomMessage {
    #[schema(example = "Hello, Bob!")]
    message_str: String,
    /// When it was written, by the sender's clock: RFC 3339, or seconds since 1970. Only used with the role `import`;
    /// other messages get the time when they are stored.
    message_sent_ts: Option<Moment>,
    sender_user_id: UserId,
    /// A UUIDv7 chosen by the client. Repeating the request with it does not send the message twice.
    message_id: Option<EventId>,
}

/// A time, as RFC 3339 or in seconds since 1970.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(untagged)]
enum Moment {
    Text(Timestamp),
    Seconds(u32),
}

impl From<Moment> for Timestamp {
    fn from(moment: Moment) -> Self {
        match moment {
            Moment::Text(at) => at,
            Moment::Seconds(seconds) => Self::from_millis(i64::from(seconds) * 1_000),
        }
    }
}

/// A message that was sent.
#[derive(Serialize, ToSchema)]
struct SentRoomMessage {
    message_id: EventId,
}

/// Sends messages and returns their ids in the same order.
///
/// The answer comes once all are stored. If one is invalid, none is sent. If some cannot be stored, `errors` lists
/// them; repeating the request with the same `message_id`s completes it.
#[utoipa::path(post, path = "/chatrooms/{conversation}/messages", tag = "alias: chatrooms",
    operation_id = "alias_chatrooms_send", params(ConversationParam),
    responses(
        (status = 201, body = Data<Vec<SentRoomMessage>>),
        (status = 403, description = "The sender is another user, and the caller lacks the role `import`"),
        (status = 409, description = "An id is already in use for another message"),
    ))]
async fn send(
    State(edge): State<Arc<Edge>>,
    ToConversation { caller, conversation }: ToConversation,
    Json(NewRoomMessages { data }): Json<NewRoomMessages>,
) -> Result<(StatusCode, Answer<Data<Vec<SentRoomMessage>>>), ApiError> {
    if !(1..=MAX_MESSAGES).contains(&data.len()) {
        return Err(ApiError::invalid("/data", format!("must be 1 to {MAX_MESSAGES} messages")));
    }
    let drafts = data.into_iter().enumerate().map(|(index, new)| {
        let drafted = draft(&caller, new);
        drafted.map_err(|error| error.pointing_at("/sent_at", &format!("/data/{index}/message_sent_ts")))
    });
    let drafts = drafts.collect::<Result<Vec<_>, ApiError>>()?;
    let sent = edge.posting.send_all(conversation, drafts, |index| format!("/data/{index}")).await;
    let sent = sent.map_err(|error| error.pointing_at("/text", "/message_str"))?;
    let data = sent.into_iter().map(|message_id| SentRoomMessage { message_id }).collect();
    Ok((StatusCode::CREATED, Answer(Data { data })))
}

fn draft(caller: &Caller, new: NewRoomMessage) -> Result<(UserId, Draft), ApiError> {
    let NewRoomMessage { message_str, message_sent_ts, sender_user_id, message_id } = new;
    let sent_at = message_sent_ts.map(Timestamp::from).filter(|_| caller.is(directory::Role::Import));
    let sender = messages::author(caller, Some(sender_user_id), sent_at)?;
    let content = Content { text: message_str, sent_at, ..Content::default() };
    Ok((sender, Draft { id: message_id, content, attachment: None }))
}

/// A message.
#[derive(Serialize, ToSchema)]
struct RoomMessage {
    message_id: EventId,
    chatroom_id: ConversationId,
    #[schema(example = "Hello, Bob!")]
    message_str: String,
    message_sent_ts: Timestamp,
    sender_user_id: UserId,
}

impl From<Message> for RoomMessage {
    fn from(message: Message) -> Self {
        Self {
            message_id: message.id,
            chatroom_id: message.conversation,
            message_str: message.text,
            message_sent_ts: message.created_at,
            sender_user_id: message.sender,
        }
    }
}

/// Which messages: the newest, or those of some days.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RoomMessages {
    /// Only messages of the last so many days. `cursor` pages through all of them.
    #[param(minimum = 1, maximum = 36500)]
    days: Option<u32>,
    /// The most items to return; default 100.
    limit: Option<Limit>,
    /// The `next` of the previous page, with the same parameters.
    cursor: Option<String>,
}

/// The messages of a chatroom, by all senders, newest first.
#[utoipa::path(get, path = "/chatrooms/{conversation}/messages", tag = "alias: chatrooms",
    operation_id = "alias_chatrooms_messages", params(ConversationParam, RoomMessages),
    responses((status = 200, body = DataPage<RoomMessage>)))]
async fn messages_of_all(
    State(edge): State<Arc<Edge>>,
    InConversation { conversation, .. }: InConversation,
    Query(wanted): Query<RoomMessages>,
) -> Result<Answer<DataPage<RoomMessage>>, ApiError> {
    read(&edge, conversation, None, wanted).await
}

/// The messages of a chatroom by one sender, newest first.
#[utoipa::path(get, path = "/chatrooms/{conversation}/messages/{user}", tag = "alias: chatrooms",
    operation_id = "alias_chatrooms_messages_by", params(MemberParams, RoomMessages),
    responses((status = 200, body = DataPage<RoomMessage>)))]
async fn messages_of_one(
    State(edge): State<Arc<Edge>>,
    OfMember { conversation, user, .. }: OfMember,
    Query(wanted): Query<RoomMessages>,
) -> Result<Answer<DataPage<RoomMessage>>, ApiError> {
    read(&edge, conversation, Some(user), wanted).await
}

async fn read(
    edge: &Edge,
    conversation: ConversationId,
    sender: Option<UserId>,
    RoomMessages { days, limit, cursor }: RoomMessages,
) -> Result<Answer<DataPage<RoomMessage>>, ApiError> {
    if days.is_some_and(|days| !(1..=MAX_DAYS).contains(&days)) {
        return Err(ApiError::invalid("days", format!("must be 1 to {MAX_DAYS}")));
    }
    let since = days.map(|days| Timestamp::now().minus(DAY * days));
    let limit = Some(limit.unwrap_or(Limit::of(100)));
    let list = messages::List { since, sender, limit, cursor, ..messages::List::default() };
    Ok(Answer(messages::page(edge, conversation, list).await?.map(RoomMessage::from).into()))
}
