//! Users.

use std::collections::HashMap;

use sqlx::types::Uuid;
use types::{SessionId, Timestamp, UserId};

use super::{Db, Row, Step, Stop, Words, columns, members, outbox, sessions};
use crate::{
    Credentials, Error, MAX_NAMES_SEARCHED, MAX_USERNAMES_PER_USER, NewSession, NewUser, Outcome, Refusal, Result,
    Role, SecretHash, User,
};

/// Adds a user, with its first session if one is wanted.
pub(super) async fn register(db: &mut Db<'_>, new: &NewUser, session: Option<&NewSession>) -> Step<Outcome> {
    let opened = session.map(|session| (session.id, session.refresh_hash, &session.client));
    let fingerprint = columns::fingerprint(&(&new.username, &new.name, &new.email, &new.password_hash, opened))?;
    if let Some(row) = row(db, new.id).await? {
        if row.get::<Vec<u8>>("fingerprint")? != fingerprint {
            return Err(Refusal::IdTaken.into());
        }
        let session = match session {
            Some(session) => sessions::by_id(db, session.id).await?,
            None => None,
        };
        return Ok(Outcome { user: Some(user(&row)?), session, repeated: true, ..Outcome::default() });
    }
    if session.is_some_and(|session| session.user != new.id) {
        return Err(Refusal::UnknownUser.into());
    }
    require_free_username(db, new.id, &new.username).await?;
    require_free_email(db, new.id, &new.email).await?;
    let roles = if is_empty(db).await? { vec![Role::Operator, Role::Analyst] } else { vec![] };
    insert(db, new, &roles, fingerprint).await?;
    hold_username(db, new.id, &new.username).await?;
    let session = match session {
        Some(session) => sessions::open(db, session).await?,
        None => Outcome::default(),
    };
    if session.repeated {
        return Err(Refusal::IdTaken.into());
    }
    Ok(Outcome { user: Some(require(db, new.id).await?), session: session.session, ..Outcome::default() })
}

const IS_EMPTY: &str = "SELECT NOT EXISTS (SELECT 1 FROM users) AS is_empty";

async fn is_empty(db: &mut Db<'_>) -> Step<bool> {
    Ok(db.query(IS_EMPTY).fetch_one(db).await?.get("is_empty")?)
}

const INSERT: &str = "
    INSERT INTO users (id, username, username_folded, name, name_folded, email, email_folded, password_hash, roles,
        fingerprint, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)";

async fn insert(db: &mut Db<'_>, new: &NewUser, roles: &[Role], fingerprint: Vec<u8>) -> Step<()> {
    db.query(INSERT)
        .bind(Uuid::from(new.id))
        .bind(&new.username)
        .bind(columns::fold(&new.username))
        .bind(&new.name)
        .bind(columns::fold(&new.name))
        .bind(&new.email)
        .bind(columns::fold(&new.email))
        .bind(&new.password_hash)
        .bind(roles_text(roles)?)
        .bind(fingerprint)
        .bind(new.at.as_millis())
        .execute(db)
        .await?;
    Ok(())
}

const HOLDER: &str = "SELECT user_id FROM usernames WHERE folded = $1";

/// Passes a name that nobody else has or had.
async fn require_free_username(db: &mut Db<'_>, id: UserId, username: &str) -> Step<()> {
    let Some(holder) = db.query(HOLDER).bind(columns::fold(username)).fetch_optional(db).await? else { return Ok(()) };
    let is_own = columns::id(&holder, "user_id", UserId::from_bytes)? == id;
    if is_own { Ok(()) } else { Err(Refusal::UsernameTaken.into()) }
}

const HOLD: &str = "INSERT INTO usernames (folded, user_id) VALUES ($1, $2) ON CONFLICT (folded) DO NOTHING";
const HELD: &str = "SELECT count(*) AS held FROM usernames WHERE user_id = $1";

/// Keeps a name for a user, for good, and so only a few of them. It may have been given to somebody else since it was
/// found free.
async fn hold_username(db: &mut Db<'_>, id: UserId, username: &str) -> Step<()> {
    let new = db.query(HOLD).bind(columns::fold(username)).bind(Uuid::from(id)).execute(db).await?;
    if new == 0 {
        return require_free_username(db, id, username).await;
    }
    let row = db.query(HELD).bind(Uuid::from(id)).fetch_one(db).await?;
    let has_room = columns::number::<usize>(&row, "held")? <= MAX_USERNAMES_PER_USER;
    if has_room { Ok(()) } else { Err(Refusal::TooManyUsernames.into()) }
}

const HAS_EMAIL: &str = "SELECT EXISTS (SELECT 1 FROM users WHERE email_folded = $1 AND id <> $2) AS is_taken";

async fn require_free_email(db: &mut Db<'_>, id: UserId, email: &str) -> Step<()> {
    let row = db.query(HAS_EMAIL).bind(columns::fold(email)).bind(Uuid::from(id)).fetch_one(db).await?;
    if row.get("is_taken")? { Err(Refusal::EmailTaken.into()) } else { Ok(()) }
}

/// Fields of a user that change; `None` leaves one as it is.
pub(super) struct Changes<'a> {
    pub(super) username: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) email: Option<&'a str>,
    pub(super) picture: Option<Option<&'a str>>,
    pub(super) password_hash: Option<&'a str>,
    pub(super) keep_session: Option<SessionId>,
    pub(super) verified: Option<&'a SecretHash>,
}

const UPDATE: &str = "
    UPDATE users SET
        username = coalesce($10, username), username_folded = coalesce($11, username_folded),
        name = coalesce($2, name), name_folded = coalesce($3, name_folded),
        email = coalesce($4, email), email_folded = coalesce($5, email_folded),
        picture = CASE WHEN $6 THEN $7 ELSE picture END,
        password_hash = coalesce($8, password_hash),
        updated_at = $9
    WHERE id = $1";

/// Changes a user.
pub(super) async fn update(db: &mut Db<'_>, id: UserId, changes: &Changes<'_>, at: Timestamp) -> Step<Outcome> {
    require_verified(db, id, changes.verified).await?;
    if let Some(username) = changes.username {
        require_free_username(db, id, username).await?;
        hold_username(db, id, username).await?;
    }
    if let Some(email) = changes.email {
        require_free_email(db, id, email).await?;
    }
    db.query(UPDATE)
        .bind(Uuid::from(id))
        .bind(changes.name)
        .bind(changes.name.map(columns::fold))
        .bind(changes.email)
        .bind(changes.email.map(columns::fold))
        .bind(changes.picture.is_some())
        .bind(changes.picture.flatten())
        .bind(changes.password_hash)
        .bind(at.as_millis())
        .bind(changes.username)
        .bind(changes.username.map(columns::fold))
        .execute(db)
        .await?;
    let revoked = match changes.password_hash {
        Some(_) => sessions::revoke_all(db, id, changes.keep_session, at).await?,
        None => vec![],
    };
    Ok(Outcome { user: Some(require(db, id).await?), revoked, ..Outcome::default() })
}

/// Of a deleted user, so that no registration is a repetition of its own.
const NO_FINGERPRINT: &[u8] = &[];

const DELETE: &str = "
    UPDATE users SET
        username = $2, username_folded = NULL, name = '', name_folded = NULL, email = '', email_folded = NULL,
        picture = NULL, password_hash = '', roles = '[]', fingerprint = $4, updated_at = $3, deleted = TRUE
    WHERE id = $1
    RETURNING *";

/// Withdraws a user from its groups and sessions, and erases its texts.
pub(super) async fn delete(db: &mut Db<'_>, id: UserId, at: Timestamp) -> Step<Outcome> {
    require(db, id).await?;
    let left = members::leave_all(db, id, at).await?.into_iter();
    let events: Vec<_> = left.map(|group| outbox::event(group, id, types::Body::MemberRemoved { user: id })).collect();
    outbox::put(db, &events).await?;
    let revoked = sessions::revoke_all(db, id, None, at).await?;
    let delete = db.query(DELETE).bind(Uuid::from(id)).bind(tombstone(id)).bind(at.as_millis());
    let row = delete.bind(NO_FINGERPRINT).fetch_one(db).await?;
    Ok(Outcome { user: Some(user(&row)?), revoked, events, ..Outcome::default() })
}

/// What stands for the user name of a deleted user: from the random end of its id, so hardly twice.
fn tombstone(id: UserId) -> String {
    let text = Uuid::from(id).simple().to_string();
    format!("deleted-{}", &text[20..])
}

const SET_ROLES: &str = "UPDATE users SET roles = $2, updated_at = $3 WHERE id = $1 RETURNING *";

/// Grants exactly these roles.
pub(super) async fn set_roles(
    db: &mut Db<'_>,
    by: Option<UserId>,
    id: UserId,
    roles: &[Role],
    at: Timestamp,
) -> Step<Outcome> {
    if let Some(by) = by {
        let operator = find(db, by).await?.filter(|user| !user.deleted && user.roles.contains(&Role::Operator));
        operator.ok_or(Refusal::NotOperator)?;
    }
    require(db, id).await?;
    let mut roles = roles.to_vec();
    roles.sort_unstable();
    roles.dedup();
    let set = db.query(SET_ROLES).bind(Uuid::from(id)).bind(roles_text(&roles)?).bind(at.as_millis());
    let row = set.fetch_one(db).await?;
    Ok(Outcome { user: Some(user(&row)?), ..Outcome::default() })
}

/// A user that is there and was not deleted.
pub(super) async fn require(db: &mut Db<'_>, id: UserId) -> Step<User> {
    let user = find(db, id).await?.filter(|user| !user.deleted);
    user.ok_or(Stop::Refused(Refusal::UnknownUser))
}

/// A user that is there and was not deleted, and whose password is still the one that was verified, if one was.
pub(super) async fn require_verified(db: &mut Db<'_>, id: UserId, verified: Option<&SecretHash>) -> Step<User> {
    let row = row(db, id).await?.ok_or(Refusal::UnknownUser)?;
    let user = user(&row)?;
    if user.deleted {
        return Err(Refusal::UnknownUser.into());
    }
    let present = SecretHash::of(row.get("password_hash")?);
    if verified.is_some_and(|verified| *verified != present) {
        return Err(Refusal::PasswordChanged.into());
    }
    Ok(user)
}

async fn find(db: &mut Db<'_>, id: UserId) -> Result<Option<User>> {
    row(db, id).await?.as_ref().map(user).transpose()
}

const BY_ID: &str = "SELECT * FROM users WHERE id = $1";

async fn row(db: &mut Db<'_>, id: UserId) -> Result<Option<Row>> {
    Ok(db.query(BY_ID).bind(Uuid::from(id)).fetch_optional(db).await?)
}

const BY_IDS: Words = Words {
    sqlite: "SELECT * FROM users WHERE id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "SELECT * FROM users WHERE id = ANY($1)",
};

/// Users by id, in the order of the question.
pub(super) async fn by_ids(db: &mut Db<'_>, ids: &[UserId]) -> Result<Vec<Option<User>>> {
    let rows = db.query(BY_IDS).bind_ids(ids).fetch_all(db).await?;
    let found: HashMap<_, _> = rows.iter().map(|row| user(row).map(|user| (user.id, user))).collect::<Result<_>>()?;
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

const CREDENTIALS: &str = "SELECT * FROM users WHERE username_folded = $1 OR email_folded = $1 LIMIT 1";

/// The user with this user name or email address.
pub(super) async fn credentials(db: &mut Db<'_>, login: &str) -> Result<Option<Credentials>> {
    let row = db.query(CREDENTIALS).bind(columns::fold(login)).fetch_optional(db).await?;
    row.map(|row| Ok(Credentials { user: user(&row)?, password_hash: row.get("password_hash")? })).transpose()
}

const LIST: &str = "SELECT * FROM users WHERE username_folded > $1 ORDER BY username_folded LIMIT $2";
const SEARCH: &str = "
    SELECT * FROM users WHERE id IN (
        SELECT id FROM (
            SELECT id FROM users WHERE username_folded >= $3 AND username_folded < $4 AND username_folded > $1
            ORDER BY username_folded LIMIT $2
        )
        UNION SELECT id FROM (
            SELECT id, username_folded FROM users WHERE name_folded >= $3 AND name_folded < $4
            ORDER BY name_folded, username_folded LIMIT $5
        ) AS named WHERE username_folded > $1
    )
    ORDER BY username_folded LIMIT $2";

/// Users whose user name or name begins with `query`, in order of their user names. Names are not in that order, so
/// those that begin so are all looked at, and only so many of them, however many there are.
pub(super) async fn search(db: &mut Db<'_>, query: &str, after: Option<&str>, limit: usize) -> Result<Vec<User>> {
    let after = columns::fold(after.unwrap_or_default());
    let query = columns::fold(query);
    let mut sql = if query.is_empty() { db.query(LIST) } else { db.query(SEARCH) };
    sql = sql.bind(after).bind(columns::limit(limit));
    if !query.is_empty() {
        // No text sorts behind this one and begins with the query.
        let end = format!("{query}{}", char::MAX);
        sql = sql.bind(query).bind(end).bind(columns::limit(MAX_NAMES_SEARCHED));
    }
    let rows = sql.fetch_all(db).await?;
    rows.iter().map(user).collect()
}

fn roles_text(roles: &[Role]) -> Result<String> {
    serde_json::to_string(roles).map_err(|error| Error::Damaged(error.to_string()))
}

/// Reads a user off a row of `users`.
pub(super) fn user(row: &Row) -> Result<User> {
    let roles: &str = row.get("roles")?;
    Ok(User {
        id: columns::id(row, "id", UserId::from_bytes)?,
        username: row.get("username")?,
        name: row.get("name")?,
        email: row.get("email")?,
        picture: row.get("picture")?,
        roles: serde_json::from_str(roles).map_err(|error| Error::Damaged(format!("roles {roles}: {error}")))?,
        created_at: columns::timestamp(row, "created_at")?,
        updated_at: columns::timestamp(row, "updated_at")?,
        deleted: row.get("deleted")?,
    })
}
