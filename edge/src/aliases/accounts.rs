//! `/users`, where several dialects meet: one handler answers all of them.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::{Timestamp, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::cursor::Page;
use crate::extract::{ClientAddress, Json, OfUser, Query, UserParam};
use crate::resources::auth::{self, Client, Login, SessionTokens, SignUp, SignedIn};
use crate::resources::users::{self, Search, User, UserChange};
use crate::{ApiError, Edge};

pub(super) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list, create, put)).routes(routes!(get, change, delete))
}

/// The new user. The email address is optional.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    /// 3 to 32 letters, digits, `_`, `.` or `-`; unique, ignoring case.
    #[schema(example = "grace", pattern = "^[A-Za-z0-9_.-]{3,32}$")]
    username: String,
    /// 8 to 128 characters.
    #[schema(example = "correct horse battery", format = Password, min_length = 8, max_length = 128)]
    password: String,
    /// Unique, ignoring case.
    #[schema(example = "grace@example.org")]
    email: Option<String>,
    /// The name that others see; default: the user name.
    #[schema(example = "Grace Hopper")]
    name: Option<String>,
}

impl From<NewAccount> for SignUp {
    fn from(new: NewAccount) -> Self {
        Self { username: new.username, email: new.email, password: new.password, name: new.name }
    }
}

/// What a user logs in with: one of `username`, `email` and `login`, and the password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// A user name or an email address.
    #[serde(alias = "email", alias = "login")]
    #[schema(example = "grace")]
    username: String,
    #[schema(example = "correct horse battery", format = Password)]
    password: String,
}

/// A logged-in user.
#[derive(Serialize, ToSchema)]
pub(super) struct Account {
    user: User,
    /// The access token again: a JWT, for `Authorization: Bearer …`.
    #[schema(example = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSJ9.….…")]
    token: String,
    #[serde(flatten)]
    tokens: SessionTokens,
}

impl From<SignedIn> for Account {
    fn from(session: SignedIn) -> Self {
        let SignedIn { user, tokens } = session;
        Self { user, token: tokens.access_token.clone(), tokens }
    }
}

/// A new user, logged in.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedUser {
    id: UserId,
    #[schema(example = "grace")]
    username: String,
    #[schema(example = "Grace Hopper")]
    name: String,
    /// `null` if there is none.
    email: Option<String>,
    created_at: Timestamp,
    /// The access token again: a JWT, for `Authorization: Bearer …`.
    #[schema(example = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSJ9.….…")]
    token: String,
    #[serde(flatten)]
    tokens: SessionTokens,
}

impl From<SignedIn> for CreatedUser {
    fn from(session: SignedIn) -> Self {
        let SignedIn { user: User { id, username, name, email, created_at, .. }, tokens } = session;
        Self { id, username, name, email, created_at, token: tokens.access_token.clone(), tokens }
    }
}

pub(super) async fn sign_up(edge: &Edge, client: &Client, new: NewAccount) -> Result<SignedIn, ApiError> {
    auth::sign_up(edge, client, new.into()).await
}

pub(super) async fn log_in(edge: &Edge, client: &Client, with: Credentials) -> Result<SignedIn, ApiError> {
    auth::log_in(edge, client, Login { login: with.username, password: with.password }).await
}

/// Users, in order of their user names; as `GET /v1/users`.
#[utoipa::path(get, path = "/users", tag = "alias: users", operation_id = "alias_list_users", params(Search),
    responses((status = 200, body = Page<User>)))]
async fn list(edge: State<Arc<Edge>>, caller: Caller, search: Query<Search>) -> Result<Answer<Page<User>>, ApiError> {
    users::search(edge, caller, search).await
}

/// Creates a user and logs the user in.
#[utoipa::path(post, path = "/users", tag = "alias: users", operation_id = "alias_create_user", security(()),
    responses(
        (status = 201, body = CreatedUser),
        (status = 409, description = "The user name or the email address is already in use"),
    ))]
async fn create(
    State(edge): State<Arc<Edge>>,
    client: Client,
    Json(new): Json<NewAccount>,
) -> Result<(StatusCode, Answer<CreatedUser>), ApiError> {
    Ok((StatusCode::CREATED, Answer(sign_up(&edge, &client, new).await?.into())))
}

/// Creates a user and logs the user in; repeating it logs in again.
#[utoipa::path(put, path = "/users", tag = "alias: users", operation_id = "alias_put_user", security(()),
    responses(
        (status = 201, body = CreatedUser),
        (status = 200, description = "The user existed, with this password", body = CreatedUser),
        (status = 409, description = "The user name or the email address is already in use"),
    ))]
async fn put(
    State(edge): State<Arc<Edge>>,
    client: Client,
    Json(new): Json<NewAccount>,
) -> Result<(StatusCode, Answer<CreatedUser>), ApiError> {
    let again = Credentials { username: new.username.clone(), password: new.password.clone() };
    let taken = match sign_up(&edge, &client, new).await {
        Err(error) if error.code() == "username_taken" => error,
        session => return session.map(|session| (StatusCode::CREATED, Answer(session.into()))),
    };
    match log_in(&edge, &client, again).await {
        Err(error) if error.code() == "wrong_credentials" => Err(taken),
        session => session.map(|session| (StatusCode::OK, Answer(session.into()))),
    }
}

/// A user by id. A deleted user appears as "Deleted user".
#[utoipa::path(get, path = "/users/{user}", tag = "alias: users", operation_id = "alias_get_user", params(UserParam),
    responses((status = 200, body = User)))]
async fn get(edge: State<Arc<Edge>>, user: OfUser) -> Result<Answer<User>, ApiError> {
    users::get(edge, user).await
}

/// What to change about a user. Missing fields stay as they are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AccountChange {
    /// 3 to 32 letters, digits, `_`, `.` or `-`.
    #[schema(example = "grace", pattern = "^[A-Za-z0-9_.-]{3,32}$")]
    username: Option<String>,
    /// The name that others see: 1 to 100 characters.
    #[schema(example = "Grace Hopper")]
    name: Option<String>,
    /// A link to a picture; `null` removes it.
    #[serde(default, deserialize_with = "users::present")]
    #[schema(value_type = Option<String>, example = "https://example.org/grace.png")]
    profile_picture: Option<Option<String>>,
}

/// Changes a user name, name or picture: the caller's, or for operators any user's.
#[utoipa::path(put, path = "/users/{user}", tag = "alias: users", operation_id = "alias_change_user",
    params(UserParam),
    responses(
        (status = 200, body = User),
        (status = 403, description = "This is another user"),
        (status = 409, description = "The user name is already in use"),
    ))]
async fn change(
    State(edge): State<Arc<Edge>>,
    OfUser { caller, user }: OfUser,
    ClientAddress(address): ClientAddress,
    Json(AccountChange { username, name, profile_picture }): Json<AccountChange>,
) -> Result<Answer<User>, ApiError> {
    let change = UserChange { username, name, picture: profile_picture, ..UserChange::default() };
    Ok(Answer(users::change_user(&edge, (&caller, address), user, change).await?))
}

/// Deletes a user: the caller, or any user for operators. The messages stay, under the name "Deleted user".
#[utoipa::path(delete, path = "/users/{user}", tag = "alias: users", operation_id = "alias_delete_user",
    params(UserParam),
    responses(
        (status = 204),
        (status = 403, description = "This is another user"),
    ))]
async fn delete(edge: State<Arc<Edge>>, user: OfUser) -> Result<StatusCode, ApiError> {
    users::delete(edge, user).await
}
