//! Signing up, in and out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::{FromRequestParts, State};
use directory::{Command, NewSession, NewUser, Refusal, SecretHash};
use http::request::Parts;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use types::{SessionId, Timestamp, UserId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{Caller, RefreshToken};
use crate::extract::{ClientAddress, Json};
use crate::resources::users::{self, User};
use crate::validate::{self, Faults};
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
}

/// The longest name of a client that is kept, in characters.
const CLIENT_CHARACTERS: usize = 200;
/// The longest user name or email address that is looked for at a log-in, in bytes.
const LOGIN_BYTES: usize = 1_024;

/// A logged-in user, with the tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SignedIn {
    pub(crate) user: User,
    #[serde(flatten)]
    pub(crate) tokens: SessionTokens,
}

/// The tokens of a logged-in user.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionTokens {
    /// A JWT, for `Authorization: Bearer …`.
    #[schema(example = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSJ9.….…")]
    pub(crate) access_token: String,
    /// `Bearer`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// The lifetime of the access token, in seconds.
    #[schema(example = 900)]
    expires_in: u64,
    /// Valid once, for the next access token and the next refresh token.
    #[schema(example = "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40.…")]
    refresh_token: String,
    /// The lifetime of the refresh token, in seconds.
    #[schema(example = 2592000)]
    refresh_expires_in: u64,
}

/// The new user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registration {
    /// 3 to 32 letters, digits, `_`, `.` or `-`; unique, ignoring case.
    #[schema(example = "ada", pattern = "^[A-Za-z0-9_.-]{3,32}$")]
    username: String,
    /// Unique, ignoring case.
    #[schema(example = "ada@example.org")]
    email: String,
    /// 8 to 128 characters.
    #[schema(example = "correct horse battery", format = Password, min_length = 8, max_length = 128)]
    password: String,
    /// The name that others see; default: the user name.
    #[schema(example = "Ada Lovelace")]
    name: Option<String>,
}

/// Registers a user and logs the user in.
///
/// The first user of a new system becomes its operator and analyst.
#[utoipa::path(post, path = "/v1/auth/register", tag = "auth", operation_id = "register", security(()),
    responses(
        (status = 201, body = SignedIn),
        (status = 409, description = "The user name or the email address is already in use"),
    ))]
pub(crate) async fn register(
    State(edge): State<Arc<Edge>>,
    client: Client,
    Json(wanted): Json<Registration>,
) -> Result<(StatusCode, Answer<SignedIn>), ApiError> {
    let Registration { username, email, password, name } = wanted;
    let session = sign_up(&edge, &client, SignUp { username, email: Some(email), password, name }).await?;
    Ok((StatusCode::CREATED, Answer(session)))
}

/// Where a request comes from, for those who sign up or in.
pub(crate) struct Client {
    address: IpAddr,
    /// What the client called itself, cut to [`CLIENT_CHARACTERS`].
    name: String,
}

impl FromRequestParts<Arc<Edge>> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let ClientAddress(address) = ClientAddress::from_request_parts(parts, edge).await?;
        let name = parts.headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let name = name.unwrap_or_default().chars().filter(|char| !char.is_control()).take(CLIENT_CHARACTERS).collect();
        Ok(Self { address, name })
    }
}

/// Who wants to join, as any of the API's dialects says it.
pub(crate) struct SignUp {
    pub(crate) username: String,
    /// Only the canonical API insists on one.
    pub(crate) email: Option<String>,
    pub(crate) password: String,
    pub(crate) name: Option<String>,
}

/// Registers a user and logs the user in.
pub(crate) async fn sign_up(edge: &Edge, client: &Client, wanted: SignUp) -> Result<SignedIn, ApiError> {
    let SignUp { username, email, password, name } = wanted;
    let name = name.unwrap_or_else(|| username.clone());
    let mut faults = Faults::default();
    faults.check("/username", validate::username(&username));
    faults.check("/email", email.as_deref().map_or(Ok(()), validate::email));
    faults.check("/password", validate::password(&password));
    faults.check("/name", validate::name(&name, edge.config.limits.name_characters));
    faults.done()?;
    edge.limits.check_sign_in(client.address)?;

    let password_hash = edge.passwords.hash(password).await?;
    let region = edge.config.region.number;
    let (id, at) = (UserId::generate(region), Timestamp::now());
    let (session, token) = open_session(edge, id, client, at);
    let email = email.unwrap_or_else(|| users::no_email(id));
    let user = NewUser { id, username, name, email, password_hash, at };
    let outcome = edge.commands.execute(&Command::Register { user, session: Some(session) }).await?;
    let user = outcome.user.ok_or_else(ApiError::unavailable)?;
    sign_in(edge, user, &token, client.address)
}

/// What a user logs in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// A user name or an email address.
    #[schema(example = "ada")]
    pub(crate) login: String,
    #[schema(example = "correct horse battery", format = Password)]
    pub(crate) password: String,
}

/// Logs a user in.
#[utoipa::path(post, path = "/v1/auth/login", tag = "auth", operation_id = "login", security(()),
    responses(
        (status = 200, body = SignedIn),
        (status = 401, description = "The login or the password is wrong"),
    ))]
pub(crate) async fn login(
    State(edge): State<Arc<Edge>>,
    client: Client,
    Json(login): Json<Login>,
) -> Result<Answer<SignedIn>, ApiError> {
    Ok(Answer(log_in(&edge, &client, login).await?))
}

/// Signs a user in whose password is right.
pub(crate) async fn log_in(edge: &Edge, client: &Client, login: Login) -> Result<SignedIn, ApiError> {
    edge.limits.check_sign_in(client.address)?;
    let guess = edge.limits.check_password(&login.login, client.address)?;
    let is_possible = login.login.len() <= LOGIN_BYTES && validate::password(&login.password).is_ok();
    let found = if is_possible { edge.directory.credentials(&login.login).await? } else { None };
    let (user, hash) = found.map(|found| (found.user, found.password_hash)).unzip();
    let verified = hash.as_deref().map(SecretHash::of);
    // A password that nobody can have is not hashed: it may be of any length.
    let password = if is_possible { login.password } else { String::new() };
    let is_right = edge.passwords.verify(password, hash).await?;
    let Some(user) = user.filter(|user| is_right && !user.deleted) else {
        edge.limits.note_wrong_password(guess);
        return Err(wrong_credentials());
    };

    let (session, token) = open_session(edge, user.id, client, Timestamp::now());
    let session = NewSession { verified, ..session };
    let outcome = match edge.commands.ask(&Command::OpenSession { session }).await? {
        // Since they were read, the password was changed, or the user was deleted.
        Err(Refusal::PasswordChanged | Refusal::UnknownUser) => return Err(wrong_credentials()),
        done => done?,
    };
    sign_in(edge, outcome.user.unwrap_or(user), &token, client.address)
}

fn wrong_credentials() -> ApiError {
    ApiError::unauthenticated_as("wrong_credentials", "the login or the password is wrong")
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    #[schema(example = "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40.…")]
    refresh_token: String,
}

/// Exchanges a refresh token for a new access token and a new refresh token.
///
/// A refresh token is valid once. If it is used a second time it was stolen or replayed, and its session ends
/// (`session_reused`). Only the token that was exchanged last may come once more within 30 seconds, from a client that
/// did not get the answer; the tokens of that answer are then replaced by these.
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "auth", operation_id = "refresh", security(()),
    responses(
        (status = 200, body = SignedIn),
        (status = 401, description = "The token is no longer valid"),
    ))]
pub(crate) async fn refresh(
    State(edge): State<Arc<Edge>>,
    ClientAddress(address): ClientAddress,
    Json(refresh): Json<Refresh>,
) -> Result<Answer<SignedIn>, ApiError> {
    let refused = || ApiError::unauthenticated("the refresh token is not valid");
    let presented = RefreshToken::parse(&refresh.refresh_token).ok_or_else(refused)?;
    edge.limits.check_refresh(presented.session, address)?;
    let next = RefreshToken::generate(presented.session);
    let at = Timestamp::now();
    let command = Command::RotateSession {
        session: presented.session,
        presented: presented.hash(),
        next: next.hash(),
        expires_at: at.plus(refresh_life(&edge)),
        at,
    };
    let exchanged = edge.commands.ask(&command).await?;
    if exchanged.is_err() {
        edge.limits.note_bad_refresh(address);
    }
    let outcome = match exchanged {
        Ok(outcome) => outcome,
        Err(Refusal::UnknownSession | Refusal::UnknownUser) => return Err(refused()),
        Err(refusal) => return Err(refusal.into()),
    };
    let user = match (outcome.user, outcome.session) {
        (Some(user), _) => user,
        (None, Some(session)) => users::find(&edge, session.user).await?,
        (None, None) => return Err(ApiError::unavailable()),
    };
    Ok(Answer(sign_in(&edge, user, &next, address)?))
}

/// Logs out: ends the session of this request.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "auth", operation_id = "logout", responses((status = 204)))]
pub(crate) async fn logout(State(edge): State<Arc<Edge>>, caller: Caller) -> Result<StatusCode, ApiError> {
    let command = Command::RevokeSession { user: caller.user, session: caller.session, at: Timestamp::now() };
    edge.commands.execute(&command).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn open_session(edge: &Edge, user: UserId, client: &Client, at: Timestamp) -> (NewSession, RefreshToken) {
    let id = SessionId::generate(edge.config.region.number);
    let token = RefreshToken::generate(id);
    let client = client.name.clone();
    let expires_at = at.plus(refresh_life(edge));
    (NewSession { id, user, refresh_hash: token.hash(), client, expires_at, at, verified: None }, token)
}

fn refresh_life(edge: &Edge) -> Duration {
    Duration::from_secs(24 * 60 * 60 * u64::from(edge.config.auth.refresh_token_days.max(1)))
}

fn sign_in(edge: &Edge, user: directory::User, token: &RefreshToken, address: IpAddr) -> Result<SignedIn, ApiError> {
    edge.limits.note_signed_in(&user, address);
    let access_token = edge.tokens.issue(&user, token.session)?;
    let caller = edge.tokens.verify(&access_token)?;
    Ok(SignedIn {
        user: User::seen_by(&caller, user, edge),
        tokens: SessionTokens {
            access_token,
            token_type: "Bearer",
            expires_in: edge.tokens.life().as_secs(),
            refresh_token: token.reveal(),
            refresh_expires_in: refresh_life(edge).as_secs(),
        },
    })
}
