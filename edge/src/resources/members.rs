//! Members of a conversation.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use directory::{Command, MAX_ADDED_AT_ONCE, MemberRole, Refusal};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::{ConversationId, GroupId, Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::cursor::{self, Page};
use crate::extract::{ConversationParam, InConversation, Json, Limit, MemberParams, OfMember, Query};
use crate::resources::conversations::{self, Conversation};
use crate::resources::users::User;
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list, add)).routes(routes!(remove))
}

/// A user's membership.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Member {
    user: User,
    #[schema(value_type = MemberRoleName)]
    role: MemberRole,
    /// Member since; `null` in a direct conversation.
    joined_at: Option<Timestamp>,
}

/// A member's role: an `owner` may change the group and its members.
#[derive(ToSchema)]
#[schema(as = MemberRole, rename_all = "snake_case")]
#[expect(dead_code, reason = "it only describes `directory::MemberRole`")]
pub(crate) enum MemberRoleName {
    Owner,
    Member,
}

/// A page of members.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct List {
    /// The most items to return; default 50.
    limit: Option<Limit>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// The members of a conversation.
#[utoipa::path(get, path = "/v1/conversations/{conversation}/members", tag = "members",
    operation_id = "list_members", params(ConversationParam, List), responses((status = 200, body = Page<Member>)))]
pub(crate) async fn list(
    State(edge): State<Arc<Edge>>,
    InConversation { caller, conversation }: InConversation,
    Query(list): Query<List>,
) -> Result<Answer<Page<Member>>, ApiError> {
    let after: Option<UserId> = list.cursor.as_deref().map(cursor::decode).transpose()?;
    let limit = list.limit.unwrap_or_default().items();
    let members = match conversation {
        ConversationId::Group(group) => of_group(&edge, &caller, group, after, limit + 1).await?,
        ConversationId::Direct(first, second) => of_two(&edge, &caller, [first, second], after).await?,
    };
    Ok(Answer(Page::cut(members, limit, |last| last.user.id)))
}

async fn of_group(
    edge: &Edge,
    caller: &Caller,
    group: GroupId,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<Member>, ApiError> {
    let members = edge.directory.members(group, after, limit).await?;
    let seen = members.into_iter().map(|member| Member {
        user: User::seen_by(caller, member.user, edge),
        role: member.role,
        joined_at: Some(member.joined_at),
    });
    Ok(seen.collect())
}

async fn of_two(
    edge: &Edge,
    caller: &Caller,
    users: [UserId; 2],
    after: Option<UserId>,
) -> Result<Vec<Member>, ApiError> {
    let mut ids = users.to_vec();
    ids.dedup();
    ids.retain(|id| after.is_none_or(|after| *id > after));
    let users = edge.directory.users(&ids).await?;
    let seen = users.into_iter().flatten().map(|user| Member {
        user: User::seen_by(caller, user, edge),
        role: MemberRole::Member,
        joined_at: None,
    });
    Ok(seen.collect())
}

/// The user to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMembers {
    /// 1 to 1,000 users. Existing members are skipped.
    users: Vec<UserId>,
}

/// Adds members to a group. For its owner only.
#[utoipa::path(post, path = "/v1/conversations/{conversation}/members", tag = "members",
    operation_id = "add_members", params(ConversationParam),
    responses(
        (status = 200, description = "The group as it is now", body = Conversation),
        (status = 403, description = "The caller is not the owner"),
        (status = 409, description = "The group or a user has reached a limit"),
    ))]
pub(crate) async fn add(
    State(edge): State<Arc<Edge>>,
    InConversation { caller, conversation }: InConversation,
    Json(new): Json<NewMembers>,
) -> Result<Answer<Conversation>, ApiError> {
    Ok(Answer(invite(&edge, &caller, conversation, new.users).await?))
}

/// Adds members to a group and gives it as it then is. What is wrong is said of the field `users`.
pub(crate) async fn invite(
    edge: &Edge,
    caller: &Caller,
    conversation: ConversationId,
    users: Vec<UserId>,
) -> Result<Conversation, ApiError> {
    let group = conversations::group_of(conversation)?;
    if users.is_empty() {
        return Err(ApiError::invalid("/users", "must name at least one user"));
    }
    let users = distinct("/users", users)?;
    let command = Command::AddMembers { group, by: caller.user, users, at: Timestamp::now() };
    edge.commands.ask(&command).await?.map_err(|refusal| unknown_users("/users", refusal))?;
    conversations::describe_changed(edge, caller.user, conversation).await
}

/// Removes a member from a group: the owner may remove anybody; members may remove themselves (`me`).
///
/// When the owner leaves, the longest-standing member becomes the owner; the group ends with its last member.
#[utoipa::path(delete, path = "/v1/conversations/{conversation}/members/{user}", tag = "members",
    operation_id = "remove_member", params(MemberParams),
    responses(
        (status = 204),
        (status = 403, description = "The caller is not the owner"),
    ))]
pub(crate) async fn remove(
    State(edge): State<Arc<Edge>>,
    OfMember { caller, conversation, user }: OfMember,
) -> Result<StatusCode, ApiError> {
    let group = conversations::group_of(conversation)?;
    let command = Command::RemoveMember { group, by: caller.user, user, at: Timestamp::now() };
    edge.commands.execute(&command).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Each user once, not more than may be added at once.
pub(crate) fn distinct(pointer: &str, mut users: Vec<UserId>) -> Result<Vec<UserId>, ApiError> {
    users.sort_unstable();
    users.dedup();
    if users.len() > MAX_ADDED_AT_ONCE {
        return Err(ApiError::invalid(pointer, format!("must be at most {MAX_ADDED_AT_ONCE} users")));
    }
    Ok(users)
}

/// A user that a body names and that there is not is a fault of the body, not of the path.
pub(crate) fn unknown_users(pointer: &str, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::UnknownUser => ApiError::invalid(pointer, "there is no such user"),
        refusal => refusal.into(),
    }
}
