//! Conversations: groups, and direct ones.

mod activity;
mod view;

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use directory::Command;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::{ConversationId, GroupId, Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::cursor::{self, Page};
use crate::extract::{ConversationParam, InConversation, Json, Limit, Query};
use crate::resources::members;
use crate::resources::users;
use crate::validate;
use crate::{ApiError, Edge};

pub(crate) use activity::peers;
pub(crate) use view::{Conversation, describe_changed, describe_one};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(get, rename, delete))
        .routes(routes!(mark_read))
}

/// The group that a conversation is, for what only groups have.
pub(crate) fn group_of(conversation: ConversationId) -> Result<GroupId, ApiError> {
    match conversation {
        ConversationId::Group(group) => Ok(group),
        ConversationId::Direct(..) => {
            Err(ApiError::forbidden("a direct conversation has no name, and its two users cannot change"))
        }
    }
}

/// A page of conversations.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct List {
    /// Only groups, or only direct conversations.
    pub(crate) kind: Option<Kind>,
    /// The most items to return; default 50.
    pub(crate) limit: Option<Limit>,
    /// The `next` of the previous page.
    pub(crate) cursor: Option<String>,
}

/// A page of the caller's conversations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConversationPage {
    /// The items.
    pub(crate) items: Vec<Conversation>,
    /// The cursor of the next page; `null` if there is none.
    #[schema(example = json!(null))]
    pub(crate) next: Option<String>,
    /// `false` while the history is down and what follows is not known: continue with `next` later.
    complete: bool,
}

/// The caller's conversations: all groups, and the direct conversations with messages.
///
/// Most recent activity first. While the history is down, only `kind=group` is answered, as far as the order is known.
#[utoipa::path(get, path = "/v1/conversations", tag = "conversations", operation_id = "list_conversations",
    params(List), responses((status = 200, body = ConversationPage)))]
pub(crate) async fn list(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(list): Query<List>,
) -> Result<Answer<ConversationPage>, ApiError> {
    Ok(Answer(page(&edge, &caller, list).await?))
}

/// A page of the caller's conversations.
pub(crate) async fn page(edge: &Edge, caller: &Caller, list: List) -> Result<ConversationPage, ApiError> {
    let before = list.cursor.as_deref().map(cursor::decode).transpose()?;
    let limit = list.limit.unwrap_or_default().items();
    let conversations = activity::of(edge, caller.user, list.kind).await?;
    let found = match list.kind {
        Some(Kind::Group) => activity::latest_groups(edge, conversations, before, limit + 1).await?,
        _ => activity::latest(edge, conversations, before, limit + 1).await?,
    };
    let Page { items, next } = Page::cut(found.places, limit, |last| *last);
    let complete = next.is_some() || !found.is_cut;
    let next = if complete { next } else { items.last().map(cursor::encode) };
    let shown: Vec<ConversationId> = items.into_iter().map(|place| place.conversation).collect();
    let latest = edge.timeline.latest(&shown).await?;
    let items = view::describe(edge, caller.user, shown.into_iter().zip(latest).collect()).await?;
    Ok(ConversationPage { items, next, complete })
}

/// The kind of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConversationKind)]
pub(crate) enum Kind {
    /// With a name, an owner and members.
    Group,
    /// Of two users.
    Direct,
}

/// A conversation to start: `{"kind":"group","name":…,"members":[…]}` or `{"kind":"direct","user":…}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewConversation {
    kind: Kind,
    /// For a group, a UUIDv7 chosen by the client, with which the request can be repeated. Its twelve bits after the
    /// version must be the number of this region.
    id: Option<GroupId>,
    /// The group's name: 1 to 100 characters.
    #[schema(example = "Analytical engines")]
    name: Option<String>,
    /// The other first members: at most 1,000 users.
    members: Option<Vec<UserId>>,
    /// The other user of the direct conversation.
    user: Option<UserId>,
}

/// Creates a group with the caller as owner and first member, or returns the direct conversation with a user.
#[utoipa::path(post, path = "/v1/conversations", tag = "conversations", operation_id = "create_conversation",
    responses(
        (status = 201, body = Conversation),
        (status = 200, description = "It exists already", body = Conversation),
        (status = 409, description = "The id is already in use, or a limit has been reached"),
    ))]
pub(crate) async fn create(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Json(new): Json<NewConversation>,
) -> Result<(StatusCode, Answer<Conversation>), ApiError> {
    let (conversation, is_new) = match new {
        NewConversation { kind: Kind::Group, id, name: Some(name), members, user: None } => {
            create_group(&edge, caller.user, id, (name, members.unwrap_or_default())).await?
        }
        NewConversation { kind: Kind::Direct, user: Some(user), id: None, name: None, members: None } => {
            let conversation = direct_with(&edge, &caller, user).await?;
            let is_new = conversation.has_no_events();
            (conversation, is_new)
        }
        NewConversation { kind: Kind::Group, name: None, .. } => {
            return Err(ApiError::invalid("/name", "a group needs a name"));
        }
        NewConversation { kind: Kind::Group, .. } => {
            return Err(ApiError::invalid("/user", "a group has `members` instead"));
        }
        NewConversation { kind: Kind::Direct, user: None, .. } => {
            return Err(ApiError::invalid("/user", "a direct conversation needs a `user`"));
        }
        NewConversation { kind: Kind::Direct, .. } => {
            return Err(ApiError::invalid("/kind", "a direct conversation has a `user` and nothing else"));
        }
    };
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Answer(conversation)))
}

/// Makes a group with this name and these other members, unless the same was asked for before; gives it, and whether it is
/// new.
pub(crate) async fn create_group(
    edge: &Edge,
    owner: UserId,
    id: Option<GroupId>,
    (name, users): (String, Vec<UserId>),
) -> Result<(Conversation, bool), ApiError> {
    let region = edge.config.region.number;
    if let Some(id) = id.filter(|id| id.region() != region) {
        let born = id.region();
        let detail = format!("it bears the number of region {born} where this region's is {region}: see `docs/API.md`");
        return Err(ApiError::invalid("/id", detail));
    }
    validate::name(&name, edge.config.limits.name_characters).map_err(|detail| ApiError::invalid("/name", detail))?;
    let members = members::distinct("/members", users)?;
    let group = id.unwrap_or_else(|| GroupId::generate(region));
    let command = Command::CreateGroup { group, name, owner, members, at: Timestamp::now() };
    let outcome = edge.commands.ask(&command).await?;
    let outcome = outcome.map_err(|refusal| members::unknown_users("/members", refusal))?;
    if outcome.repeated {
        return Ok((describe_changed(edge, owner, group.into()).await?, false));
    }
    Ok((view::describe_new(edge, owner, group).await?, true))
}

pub(crate) async fn direct_with(edge: &Edge, caller: &Caller, user: UserId) -> Result<Conversation, ApiError> {
    match users::find(edge, user).await {
        Ok(found) if !found.deleted => describe_one(edge, caller.user, ConversationId::direct(caller.user, user)).await,
        Err(error) if error.code() != "not_found" => Err(error),
        _ => Err(ApiError::invalid("/user", "there is no such user")),
    }
}

/// A conversation.
#[utoipa::path(get, path = "/v1/conversations/{conversation}", tag = "conversations",
    operation_id = "get_conversation", params(ConversationParam), responses((status = 200, body = Conversation)))]
pub(crate) async fn get(
    State(edge): State<Arc<Edge>>,
    InConversation { caller, conversation }: InConversation,
) -> Result<Answer<Conversation>, ApiError> {
    Ok(Answer(describe_one(&edge, caller.user, conversation).await?))
}

/// A group's new name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rename {
    /// 1 to 100 characters.
    #[schema(example = "Difference engines")]
    name: String,
}

/// Renames a group. For its owner only.
#[utoipa::path(patch, path = "/v1/conversations/{conversation}", tag = "conversations",
    operation_id = "rename_conversation", params(ConversationParam),
    responses(
        (status = 200, body = Conversation),
        (status = 403, description = "The caller is not the owner"),
    ))]
pub(crate) async fn rename(
    State(edge): State<Arc<Edge>>,
    InConversation { caller, conversation }: InConversation,
    Json(Rename { name }): Json<Rename>,
) -> Result<Answer<Conversation>, ApiError> {
    let group = group_of(conversation)?;
    validate::name(&name, edge.config.limits.name_characters).map_err(|detail| ApiError::invalid("/name", detail))?;
    let command = Command::RenameGroup { group, by: caller.user, name, at: Timestamp::now() };
    edge.commands.execute(&command).await?;
    Ok(Answer(describe_changed(&edge, caller.user, conversation).await?))
}

/// Deletes a group: all members lose access. For its owner only.
#[utoipa::path(delete, path = "/v1/conversations/{conversation}", tag = "conversations",
    operation_id = "delete_conversation", params(ConversationParam),
    responses(
        (status = 204),
        (status = 403, description = "The caller is not the owner"),
    ))]
pub(crate) async fn delete(
    State(edge): State<Arc<Edge>>,
    InConversation { caller, conversation }: InConversation,
) -> Result<StatusCode, ApiError> {
    let group = group_of(conversation)?;
    edge.commands.execute(&Command::DeleteGroup { group, by: caller.user, at: Timestamp::now() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How far the caller has read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReadMark)]
pub(crate) struct MarkRead {
    /// Up to and including this `seq`; a larger one than the last event's means the last event.
    #[schema(example = 42)]
    seq: u64,
}

/// Records how far the caller has read. A smaller `seq` than before changes nothing.
#[utoipa::path(put, path = "/v1/conversations/{conversation}/read", tag = "conversations",
    operation_id = "mark_read", params(ConversationParam), responses((status = 204)))]
pub(crate) async fn mark_read(
    State(edge): State<Arc<Edge>>,
    InConversation { caller, conversation }: InConversation,
    Json(MarkRead { seq }): Json<MarkRead>,
) -> Result<StatusCode, ApiError> {
    edge.posting.read(caller.user, conversation, seq).await?;
    Ok(StatusCode::NO_CONTENT)
}
