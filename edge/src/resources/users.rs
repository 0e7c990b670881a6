//! Users: who there is, and what one says of oneself.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use directory::{Command, Role, SecretHash};
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use types::{Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::cursor::{self, Page};
use crate::extract::{ClientAddress, Json, Limit, OfUser, Query, UserParam};
use crate::validate::{self, Faults};
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(search))
        .routes(routes!(get_me, update_me, delete_me))
        .routes(routes!(get, update, delete))
        .routes(routes!(set_roles))
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    /// The id; its region is the user's home.
    pub(crate) id: UserId,
    /// Unique, ignoring case.
    #[schema(example = "ada")]
    pub(crate) username: String,
    /// The name that others see.
    #[schema(example = "Ada Lovelace")]
    pub(crate) name: String,
    /// `null` if it is not shown.
    #[schema(example = "ada@example.org")]
    pub(crate) email: Option<String>,
    /// A link to a picture.
    #[schema(example = "https://example.org/ada.png")]
    pub(crate) picture: Option<String>,
    /// When it was registered.
    pub(crate) created_at: Timestamp,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
    /// Present and `true` if the user was deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) deleted: bool,
    /// The user's roles: shown to the user and to operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<RoleName>>)]
    pub(crate) roles: Option<Vec<Role>>,
}

/// What a user may do beyond chatting: `operator` grants roles, `analyst` sees names and direct conversations in
/// analytics, `import` sends messages with another sender or time.
#[derive(ToSchema)]
#[schema(as = Role, rename_all = "snake_case")]
#[expect(dead_code, reason = "it only describes `directory::Role`")]
pub(crate) enum RoleName {
    Operator,
    Analyst,
    Import,
}

/// A user in brief.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserBrief {
    pub(crate) id: UserId,
    /// Unique, ignoring case.
    #[schema(example = "ada")]
    pub(crate) username: String,
    /// The name that others see.
    #[schema(example = "Ada Lovelace")]
    pub(crate) name: String,
}

/// What stands for the name of a user that was deleted.
const TOMBSTONE_NAME: &str = "Deleted user";
/// The domain of the addresses of users who gave none. Nobody can have an address there (RFC 2606).
const NO_EMAIL_DOMAIN: &str = "@users.invalid";

/// What the directory keeps as the address of a user who gave none, for it must be unique.
pub(crate) fn no_email(user: UserId) -> String {
    format!("{user}{NO_EMAIL_DOMAIN}")
}

impl User {
    /// The user as `caller` may see it.
    pub(crate) fn seen_by(caller: &Caller, user: directory::User, edge: &Edge) -> Self {
        let is_oneself = user.id == caller.user;
        let has_email = !user.deleted && !user.email.ends_with(NO_EMAIL_DOMAIN);
        let shows_email = has_email && (is_oneself || edge.config.users.show_email);
        let shows_roles = is_oneself || caller.is(Role::Operator);
        Self {
            id: user.id,
            username: user.username,
            name: if user.deleted { TOMBSTONE_NAME.to_owned() } else { user.name },
            email: shows_email.then_some(user.email),
            picture: user.picture,
            created_at: user.created_at,
            updated_at: user.updated_at,
            deleted: user.deleted,
            roles: shows_roles.then_some(user.roles),
        }
    }
}

impl From<directory::User> for UserBrief {
    fn from(user: directory::User) -> Self {
        let name = if user.deleted { TOMBSTONE_NAME.to_owned() } else { user.name };
        Self { id: user.id, username: user.username, name }
    }
}

/// Which users.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// The beginning of the user name or of the name, ignoring case; all users when missing.
    query: Option<String>,
    /// The most items to return; default 50.
    limit: Option<Limit>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// Finds users by the beginning of their user name or name, in order of their user names.
#[utoipa::path(get, path = "/v1/users", tag = "users", operation_id = "search_users", params(Search),
    responses((status = 200, body = Page<User>)))]
pub(crate) async fn search(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(search): Query<Search>,
) -> Result<Answer<Page<User>>, ApiError> {
    let query = search.query.unwrap_or_default();
    if query.chars().count() > edge.config.limits.name_characters {
        return Err(ApiError::invalid("query", "is longer than any name"));
    }
    let after: Option<String> = search.cursor.as_deref().map(cursor::decode).transpose()?;
    let limit = search.limit.unwrap_or_default().items();
    let users = edge.directory.search_users(&query, after.as_deref(), limit + 1).await?;
    let page = Page::cut(users, limit, |user| user.username.clone());
    Ok(Answer(page.map(|user| User::seen_by(&caller, user, &edge))))
}

/// A user by id. A deleted user appears as "Deleted user".
#[utoipa::path(get, path = "/v1/users/{user}", tag = "users", operation_id = "get_user",
    params(UserParam), responses((status = 200, body = User)))]
pub(crate) async fn get(
    State(edge): State<Arc<Edge>>,
    OfUser { caller, user }: OfUser,
) -> Result<Answer<User>, ApiError> {
    let user = find(&edge, user).await?;
    Ok(Answer(User::seen_by(&caller, user, &edge)))
}

/// The caller, with roles.
#[utoipa::path(get, path = "/v1/users/me", tag = "users", operation_id = "get_me",
    responses((status = 200, body = User)))]
pub(crate) async fn get_me(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<Answer<User>, ApiError> {
    let user = find(&edge, caller.user).await?;
    Ok(Answer(User::seen_by(&caller, user, &edge)))
}

/// What to change about oneself. Missing fields stay as they are.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserChange {
    /// 3 to 32 letters, digits, `_`, `.` or `-`.
    #[schema(example = "ada", pattern = "^[A-Za-z0-9_.-]{3,32}$")]
    pub(crate) username: Option<String>,
    /// The name that others see: 1 to 100 characters.
    #[schema(example = "Ada Lovelace")]
    pub(crate) name: Option<String>,
    /// An email address.
    #[schema(example = "ada@example.org")]
    pub(crate) email: Option<String>,
    /// A link to a picture; `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, example = "https://example.org/ada.png")]
    pub(crate) picture: Option<Option<String>>,
    /// A new password of 8 to 128 characters; all other sessions end.
    #[schema(format = Password)]
    pub(crate) password: Option<String>,
    /// The current password, needed to change it.
    #[schema(format = Password)]
    pub(crate) current_password: Option<String>,
}

/// Tells `null` from a field that is missing.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Changes the caller's profile or password.
#[utoipa::path(patch, path = "/v1/users/me", tag = "users", operation_id = "update_me",
    responses(
        (status = 200, body = User),
        (status = 403, description = "The current password is wrong"),
        (status = 409, description = "The user name or the email address is already in use"),
    ))]
pub(crate) async fn update_me(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    ClientAddress(address): ClientAddress,
    Json(change): Json<UserChange>,
) -> Result<Answer<User>, ApiError> {
    Ok(Answer(change_user(&edge, (&caller, address), caller.user, change).await?))
}

/// Changes a user's profile: the caller's, or for operators any user's, except the password.
#[utoipa::path(patch, path = "/v1/users/{user}", tag = "users", operation_id = "update_user", params(UserParam),
    responses(
        (status = 200, body = User),
        (status = 403, description = "This is another user, or the current password is wrong"),
        (status = 409, description = "The user name or the email address is already in use"),
    ))]
pub(crate) async fn update(
    State(edge): State<Arc<Edge>>,
    OfUser { caller, user }: OfUser,
    ClientAddress(address): ClientAddress,
    Json(change): Json<UserChange>,
) -> Result<Answer<User>, ApiError> {
    Ok(Answer(change_user(&edge, (&caller, address), user, change).await?))
}

/// Passes the user itself, and operators. Whether the caller still is one is asked of the directory: what
/// operators may do to others cannot be undone.
async fn require_self_or_operator(edge: &Edge, caller: &Caller, user: UserId) -> Result<(), ApiError> {
    if caller.user == user || find(edge, caller.user).await?.roles.contains(&Role::Operator) {
        return Ok(());
    }
    Err(ApiError::forbidden("only the user concerned or an operator may do this"))
}

/// Changes a user: oneself, or as an operator anybody, but for the password.
pub(crate) async fn change_user(
    edge: &Edge,
    (caller, address): (&Caller, IpAddr),
    user: UserId,
    change: UserChange,
) -> Result<User, ApiError> {
    require_self_or_operator(edge, caller, user).await?;
    check(&change, edge.config.limits.name_characters)?;
    let (password_hash, verified) = match (change.password, change.current_password) {
        (Some(_), _) if caller.user != user => {
            return Err(ApiError::forbidden("only the user concerned may change the password"));
        }
        (Some(password), Some(current)) => {
            let (hash, verified) = replace_password(edge, (caller, address), password, current).await?;
            (Some(hash), Some(verified))
        }
        (Some(_), None) => return Err(ApiError::invalid("/current_password", "is needed to change the password")),
        (None, _) => (None, None),
    };
    let command = Command::UpdateUser {
        user,
        username: change.username,
        name: change.name,
        email: change.email,
        picture: change.picture,
        password_hash,
        keep_session: Some(caller.session),
        verified,
        at: Timestamp::now(),
    };
    let outcome = edge.commands.execute(&command).await?;
    let user = outcome.user.ok_or_else(ApiError::not_found)?;
    Ok(User::seen_by(caller, user, edge))
}

fn check(change: &UserChange, name_characters: usize) -> Result<(), ApiError> {
    let mut faults = Faults::default();
    let optional =
        |text: &Option<String>, rule: &dyn Fn(&str) -> Result<(), String>| text.as_deref().map_or(Ok(()), rule);
    faults.check("/username", optional(&change.username, &validate::username));
    faults.check("/name", optional(&change.name, &|text| validate::name(text, name_characters)));
    faults.check("/email", optional(&change.email, &validate::email));
    faults.check("/picture", optional(&change.picture.clone().flatten(), &validate::link));
    faults.check("/password", optional(&change.password, &validate::password));
    faults.done()
}

/// The hash of a new password, and of what the present one was verified by.
async fn replace_password(
    edge: &Edge,
    (caller, address): (&Caller, IpAddr),
    password: String,
    current: String,
) -> Result<(String, SecretHash), ApiError> {
    edge.limits.check_sign_in(address)?;
    let user = find(edge, caller.user).await?;
    let guess = edge.limits.check_password(&user.username, address)?;
    let credentials = edge.directory.credentials(&user.username).await?;
    let known = credentials.filter(|found| found.user.id == caller.user).map(|found| found.password_hash);
    let verified = known.as_deref().map(SecretHash::of);
    let is_right = edge.passwords.verify(current, known).await?;
    let Some(verified) = verified.filter(|_| is_right) else {
        edge.limits.note_wrong_password(guess);
        return Err(ApiError::forbidden("the current password is wrong"));
    };
    Ok((edge.passwords.hash(password).await?, verified))
}

/// Deletes the caller: all sessions end, all groups are left, the texts are erased.
///
/// The messages stay.
#[utoipa::path(delete, path = "/v1/users/me", tag = "users", operation_id = "delete_me", responses((status = 204)))]
pub(crate) async fn delete_me(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<StatusCode, ApiError> {
    delete_user(&edge, &caller, caller.user).await
}

/// Deletes a user: the caller, or any user for operators.
///
/// All sessions end, all groups are left, the texts are erased. The messages stay, under the name "Deleted user". The
/// user name is never given to anybody else, so that nobody can impersonate the user.
#[utoipa::path(delete, path = "/v1/users/{user}", tag = "users", operation_id = "delete_user", params(UserParam),
    responses(
        (status = 204),
        (status = 403, description = "This is another user"),
    ))]
pub(crate) async fn delete(
    State(edge): State<Arc<Edge>>,
    OfUser { caller, user }: OfUser,
) -> Result<StatusCode, ApiError> {
    delete_user(&edge, &caller, user).await
}

/// Deletes a user: the caller, or any user for operators.
pub(crate) async fn delete_user(edge: &Edge, caller: &Caller, user: UserId) -> Result<StatusCode, ApiError> {
    require_self_or_operator(edge, caller, user).await?;
    edge.commands.execute(&Command::DeleteUser { user, at: Timestamp::now() }).await?;
    if caller.user == user {
        edge.tokens.revoke(caller.session);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The user's new roles.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Roles {
    /// All of them: roles not listed are removed.
    #[schema(value_type = Vec<RoleName>)]
    roles: Vec<Role>,
}

/// Gives a user exactly these roles.
///
/// For operators only. A token carries the roles its user had when it was issued, so a change takes effect with the
/// user's next token.
#[utoipa::path(put, path = "/v1/users/{user}/roles", tag = "users", operation_id = "set_roles", params(UserParam),
    responses(
        (status = 200, body = User),
        (status = 403, description = "The caller is not an operator"),
    ))]
pub(crate) async fn set_roles(
    State(edge): State<Arc<Edge>>,
    OfUser { caller, user }: OfUser,
    Json(mut wanted): Json<Roles>,
) -> Result<Answer<User>, ApiError> {
    wanted.roles.sort_unstable();
    wanted.roles.dedup();
    let command = Command::SetRoles { by: Some(caller.user), user, roles: wanted.roles, at: Timestamp::now() };
    let outcome = edge.commands.execute(&command).await?;
    let user = outcome.user.ok_or_else(ApiError::not_found)?;
    Ok(Answer(User::seen_by(&caller, user, &edge)))
}

/// A user, deleted or not.
pub(crate) async fn find(edge: &Edge, user: UserId) -> Result<directory::User, ApiError> {
    let found = edge.directory.users(&[user]).await?;
    found.into_iter().next().flatten().ok_or_else(ApiError::not_found)
}

/// The user that a body names by id or by user name.
pub(crate) async fn named(edge: &Edge, pointer: &str, text: &str) -> Result<UserId, ApiError> {
    if let Ok(user) = text.parse() {
        return Ok(user);
    }
    let nobody = || ApiError::invalid(pointer, "there is no such user");
    // What is no user name is not looked for: it might be an email address, which may be hidden.
    validate::username(text).map_err(|_| nobody())?;
    let found = edge.directory.credentials(text).await?;
    found.map(|found| found.user.id).ok_or_else(nobody)
}
