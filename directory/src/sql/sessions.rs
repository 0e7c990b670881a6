//! Log-ins.

use std::time::Duration;

use sqlx::types::Uuid;
use types::{SessionId, Timestamp, UserId};

use super::{Db, Row, Step, columns, users};
use crate::{MAX_SESSIONS_PER_USER, NewSession, Outcome, REPEATED_WITHIN, Refusal, Result, SecretHash, Session};

/// How long an ended session is remembered, so that the sessions of one user do not grow without end. Far
/// longer than an access token outlives its session.
const KEPT_AFTER_END: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most sessions that one log-in ends. A user may have any number of them from before there was a limit, and each
/// is named in the answer.
const ENDED_AT_ONCE: usize = 1_000;

/// Opens a session, in place of the one that was refreshed longest ago if the user has as many as may be.
pub(super) async fn open(db: &mut Db<'_>, new: &NewSession) -> Step<Outcome> {
    let fingerprint = fingerprint(new)?;
    if let Some(row) = row(db, new.id).await? {
        let is_same = row.get::<Vec<u8>>("fingerprint")? == fingerprint;
        let session = Some(session(&row)?);
        let repeated = Outcome { session, repeated: true, ..Outcome::default() };
        return if is_same { Ok(repeated) } else { Err(Refusal::IdTaken.into()) };
    }
    let user = users::require_verified(db, new.user, new.verified.as_ref()).await?;
    forget_ended(db, new.user, new.at.minus(KEPT_AFTER_END)).await?;
    let revoked = make_room(db, new.user, new.at).await?;
    insert(db, new, fingerprint).await?;
    Ok(Outcome { user: Some(user), session: by_id(db, new.id).await?, revoked, ..Outcome::default() })
}

fn fingerprint(new: &NewSession) -> Result<Vec<u8>> {
    columns::fingerprint(&(new.user, new.refresh_hash, &new.client))
}

const INSERT: &str = "
    INSERT INTO sessions (id, user_id, refresh_hash, client, fingerprint, created_at, refreshed_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7)";

async fn insert(db: &mut Db<'_>, new: &NewSession, fingerprint: Vec<u8>) -> Step<()> {
    db.query(INSERT)
        .bind(Uuid::from(new.id))
        .bind(Uuid::from(new.user))
        .bind(new.refresh_hash.0.as_slice())
        .bind(&new.client)
        .bind(fingerprint)
        .bind(new.at.as_millis())
        .bind(new.expires_at.as_millis())
        .execute(db)
        .await?;
    Ok(())
}

const FORGET_ENDED: &str = "DELETE FROM sessions WHERE user_id = $1 AND (expires_at < $2 OR revoked_at < $2)";

async fn forget_ended(db: &mut Db<'_>, user: UserId, before: Timestamp) -> Step<()> {
    db.query(FORGET_ENDED).bind(Uuid::from(user)).bind(before.as_millis()).execute(db).await?;
    Ok(())
}

const MAKE_ROOM: &str = "
    UPDATE sessions SET revoked_at = $2
    WHERE revoked_at IS NULL AND id IN (
        SELECT id FROM sessions
        WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2
        ORDER BY refreshed_at DESC, created_at DESC, id DESC LIMIT $3 OFFSET $4
    )
    RETURNING id";

/// Ends sessions of a user, so that there may be one more.
async fn make_room(db: &mut Db<'_>, user: UserId, at: Timestamp) -> Step<Vec<SessionId>> {
    let (ended, kept) = (columns::limit(ENDED_AT_ONCE), columns::limit(MAX_SESSIONS_PER_USER - 1));
    let end = db.query(MAKE_ROOM).bind(Uuid::from(user)).bind(at.as_millis()).bind(ended).bind(kept);
    revoked(&end.fetch_all(db).await?)
}

/// An exchange of refresh tokens.
pub(super) struct Rotation<'a> {
    pub(super) session: SessionId,
    pub(super) presented: &'a SecretHash,
    pub(super) next: &'a SecretHash,
    pub(super) expires_at: Timestamp,
    pub(super) at: Timestamp,
}

const ROTATE: &str =
    "UPDATE sessions SET refresh_hash = $2, refreshed_at = $3, expires_at = $4 WHERE id = $1 RETURNING *";

/// Exchanges a refresh token. Anything but the present one, and for a moment the one before, revokes the session,
/// whether it was once good or never: whoever presents it knows the session's id, and must not have it.
pub(super) async fn rotate(db: &mut Db<'_>, rotation: &Rotation<'_>) -> Step<Outcome> {
    let row = require_live(db, rotation.session, rotation.at).await?;
    let present: Vec<u8> = row.get("refresh_hash")?;
    // The next token is random and known to nobody yet, so this is the same command once more, and no replay.
    if present == rotation.next.0 {
        let session = Some(session(&row)?);
        return Ok(Outcome { session, repeated: true, ..Outcome::default() });
    }
    if present == rotation.presented.0 {
        spend(db, rotation).await?;
    } else if !spend_again(db, rotation).await? {
        end(db, rotation.session, rotation.at).await?;
        return Err(Refusal::SessionReused.into());
    }
    let row = db
        .query(ROTATE)
        .bind(Uuid::from(rotation.session))
        .bind(rotation.next.0.as_slice())
        .bind(rotation.at.as_millis())
        .bind(rotation.expires_at.as_millis())
        .fetch_one(db)
        .await?;
    Ok(Outcome { session: Some(session(&row)?), ..Outcome::default() })
}

const SPEND: &str = "
    INSERT INTO spent_tokens (session_id, refresh_hash, good_until) VALUES ($1, $2, $3)
    ON CONFLICT (session_id) DO UPDATE SET refresh_hash = excluded.refresh_hash, good_until = excluded.good_until";

/// Takes note of a token that is exchanged, for a client that may not get the answer.
async fn spend(db: &mut Db<'_>, rotation: &Rotation<'_>) -> Step<()> {
    db.query(SPEND)
        .bind(Uuid::from(rotation.session))
        .bind(rotation.presented.0.as_slice())
        .bind(rotation.at.plus(REPEATED_WITHIN).as_millis())
        .execute(db)
        .await?;
    Ok(())
}

const SPEND_AGAIN: &str = "DELETE FROM spent_tokens WHERE session_id = $1 AND refresh_hash = $2 AND good_until >= $3";

/// Whether a token may be exchanged once more. Another time it may not.
async fn spend_again(db: &mut Db<'_>, rotation: &Rotation<'_>) -> Step<bool> {
    let spent = db
        .query(SPEND_AGAIN)
        .bind(Uuid::from(rotation.session))
        .bind(rotation.presented.0.as_slice())
        .bind(rotation.at.as_millis());
    Ok(spent.execute(db).await? > 0)
}

/// A session that has not ended.
async fn require_live(db: &mut Db<'_>, id: SessionId, at: Timestamp) -> Step<Row> {
    let row = row(db, id).await?.ok_or(Refusal::UnknownSession)?;
    let revoked_at: Option<i64> = row.get("revoked_at")?;
    let is_live = revoked_at.is_none() && columns::timestamp(&row, "expires_at")? > at;
    if is_live { Ok(row) } else { Err(Refusal::UnknownSession.into()) }
}

const END: &str = "UPDATE sessions SET revoked_at = $2 WHERE id = $1";

async fn end(db: &mut Db<'_>, id: SessionId, at: Timestamp) -> Step<()> {
    db.query(END).bind(Uuid::from(id)).bind(at.as_millis()).execute(db).await?;
    Ok(())
}

/// Ends a session of `user`.
pub(super) async fn revoke(db: &mut Db<'_>, user: UserId, id: SessionId, at: Timestamp) -> Step<Outcome> {
    let session = session(&require_live(db, id, at).await?)?;
    if session.user != user {
        return Err(Refusal::UnknownSession.into());
    }
    end(db, id, at).await?;
    Ok(Outcome { session: Some(session), revoked: vec![id], ..Outcome::default() })
}

const REVOKE_ALL: &str = "
    UPDATE sessions SET revoked_at = $2
    WHERE user_id = $1 AND revoked_at IS NULL AND id IS DISTINCT FROM $3
    RETURNING id";

/// Ends all sessions of a user but one.
pub(super) async fn revoke_all(
    db: &mut Db<'_>,
    user: UserId,
    keep: Option<SessionId>,
    at: Timestamp,
) -> Step<Vec<SessionId>> {
    let keep = keep.map(Uuid::from);
    let rows = db.query(REVOKE_ALL).bind(Uuid::from(user)).bind(at.as_millis()).bind(keep).fetch_all(db).await?;
    revoked(&rows)
}

/// The sessions that a statement has ended, in order of their ids.
fn revoked(rows: &[Row]) -> Step<Vec<SessionId>> {
    let mut revoked: Vec<_> = rows.iter().map(session_id).collect::<Result<_>>()?;
    revoked.sort_unstable();
    Ok(revoked)
}

/// A session by its id, ended or not.
pub(super) async fn by_id(db: &mut Db<'_>, id: SessionId) -> Result<Option<Session>> {
    row(db, id).await?.as_ref().map(session).transpose()
}

const BY_ID: &str = "SELECT * FROM sessions WHERE id = $1";

async fn row(db: &mut Db<'_>, id: SessionId) -> Result<Option<Row>> {
    Ok(db.query(BY_ID).bind(Uuid::from(id)).fetch_optional(db).await?)
}

const LIVE: &str = "
    SELECT * FROM sessions
    WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2
    ORDER BY created_at DESC, id DESC";

/// The sessions of a user that have not ended, newest first.
pub(super) async fn live(db: &mut Db<'_>, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
    let rows = db.query(LIVE).bind(Uuid::from(user)).bind(now.as_millis()).fetch_all(db).await?;
    rows.iter().map(session).collect()
}

const REVOKED_SINCE: &str = "SELECT id, user_id FROM sessions WHERE revoked_at >= $1 ORDER BY revoked_at, id";

/// The sessions that were revoked at `since` or later, with their users.
pub(super) async fn revoked_since(db: &mut Db<'_>, since: Timestamp) -> Result<Vec<(UserId, SessionId)>> {
    let rows = db.query(REVOKED_SINCE).bind(since.as_millis()).fetch_all(db).await?;
    rows.iter().map(|row| Ok((user_id(row)?, session_id(row)?))).collect()
}

fn session_id(row: &Row) -> Result<SessionId> {
    columns::id(row, "id", SessionId::from_bytes)
}

fn user_id(row: &Row) -> Result<UserId> {
    columns::id(row, "user_id", UserId::from_bytes)
}

fn session(row: &Row) -> Result<Session> {
    Ok(Session {
        id: session_id(row)?,
        user: user_id(row)?,
        client: row.get("client")?,
        created_at: columns::timestamp(row, "created_at")?,
        refreshed_at: columns::timestamp(row, "refreshed_at")?,
        expires_at: columns::timestamp(row, "expires_at")?,
    })
}
