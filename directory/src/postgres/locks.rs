//! Which records a command locks before its first step. They are those that its decisions rest on, so that what
//! it finds holds until it commits; what commands share is locked in one order, users by id, then groups by id,
//! so that they wait for each other and do not block each other. Attachments are locked by commands that lock
//! nothing else.
//!
//! A group's lock also gives its outbox rows their order: they are numbered under it, so of one conversation no
//! row can be committed after one with a higher number.

use std::iter::once;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::types::Uuid;
use sqlx::{PgConnection, Postgres};
use types::{AttachmentId, EventId, GroupId, SessionId, UserId};

use crate::Command;
use crate::sql::in_time;

/// Takes the locks of a command, for the time of the transaction.
pub(super) async fn take(db: &mut PgConnection, command: &Command) -> sqlx::Result<()> {
    match command {
        Command::Register { .. } => found(db).await,
        Command::OpenSession { session } => users(db, [session.user]).await,
        Command::RotateSession { session: id, .. } | Command::RevokeSession { session: id, .. } => {
            session(db, *id).await
        }
        Command::UpdateUser { user, .. } => users(db, [*user]).await,
        Command::SetRoles { by, user, .. } => users(db, once(*user).chain(*by)).await,
        Command::DeleteUser { user, .. } => {
            // Its own lock first: then it joins no other group meanwhile.
            users(db, [*user]).await?;
            groups_of(db, *user).await
        }
        // The group is not there yet; whoever creates the same one meets its unique id.
        Command::CreateGroup { owner, members, .. } => users(db, once(*owner).chain(members.iter().copied())).await,
        Command::AddMembers { group: id, users: newcomers, .. } => {
            // How many groups a newcomer is in must not change either.
            users(db, newcomers.iter().copied()).await?;
            group(db, *id).await
        }
        Command::RenameGroup { group: id, .. }
        | Command::DeleteGroup { group: id, .. }
        | Command::RemoveMember { group: id, .. } => group(db, *id).await,
        Command::BeginUpload { upload } => users(db, [upload.owner]).await,
        // Of an upload only its owner makes something, so this lock also keeps two completions apart.
        Command::AddAttachment { attachment, .. } => users(db, [attachment.owner]).await,
        Command::SendAttachment { attachment: id, .. } => attachment(db, *id).await,
        Command::WithdrawAttachments { message, .. } => attachments_of(db, *message).await,
        // It chooses among what nobody has locked, by the statement that drops it.
        Command::CondemnOrphans { .. } | Command::ForgetCondemned { .. } => Ok(()),
    }
}

/// The lock of the first registration of all, among all locks of this database that are known by a number.
const FOUNDING_LOCK: i64 = 0x726f_6f6b_666f_756e;
const FOUND: &str = "SELECT pg_advisory_xact_lock($1) WHERE NOT EXISTS (SELECT 1 FROM users)";

/// While there is no user, registrations come one after the other: one alone is the first.
async fn found(db: &mut PgConnection) -> sqlx::Result<()> {
    lock(db, sqlx::query(FOUND).bind(FOUNDING_LOCK)).await
}

// Weaker than the lock of a deletion: others may still refer to the record.
const USERS: &str = "SELECT FROM users WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";

async fn users(db: &mut PgConnection, ids: impl IntoIterator<Item = UserId>) -> sqlx::Result<()> {
    let ids: Vec<_> = ids.into_iter().map(Uuid::from).collect();
    lock(db, sqlx::query(USERS).bind(ids)).await
}

const GROUP: &str = "SELECT FROM groups WHERE id = $1 FOR NO KEY UPDATE";

async fn group(db: &mut PgConnection, id: GroupId) -> sqlx::Result<()> {
    lock(db, sqlx::query(GROUP).bind(Uuid::from(id))).await
}

const GROUPS_OF: &str = "
    SELECT FROM groups WHERE id IN (SELECT group_id FROM members WHERE user_id = $1) ORDER BY id FOR NO KEY UPDATE";

async fn groups_of(db: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    lock(db, sqlx::query(GROUPS_OF).bind(Uuid::from(user))).await
}

const SESSION: &str = "SELECT FROM sessions WHERE id = $1 FOR NO KEY UPDATE";

async fn session(db: &mut PgConnection, id: SessionId) -> sqlx::Result<()> {
    lock(db, sqlx::query(SESSION).bind(Uuid::from(id))).await
}

const ATTACHMENT: &str = "SELECT FROM attachments WHERE id = $1 FOR NO KEY UPDATE";

async fn attachment(db: &mut PgConnection, id: AttachmentId) -> sqlx::Result<()> {
    lock(db, sqlx::query(ATTACHMENT).bind(Uuid::from(id))).await
}

const ATTACHMENTS_OF: &str = "
    SELECT FROM attachments WHERE id IN (SELECT attachment FROM attachment_messages WHERE message = $1)
    ORDER BY id FOR NO KEY UPDATE";

async fn attachments_of(db: &mut PgConnection, message: EventId) -> sqlx::Result<()> {
    lock(db, sqlx::query(ATTACHMENTS_OF).bind(Uuid::from(message))).await
}

async fn lock(db: &mut PgConnection, query: Query<'static, Postgres, PgArguments>) -> sqlx::Result<()> {
    in_time(query.execute(db)).await.map(drop)
}
