//! Who is in which group.

use std::collections::HashSet;

use sqlx::sqlite::SqliteRow;
use sqlx::types::Uuid;
use sqlx::{Row, SqliteConnection};
use types::{Body, GroupId, Timestamp, UserId};

use super::{Step, columns, groups, outbox, users};
use crate::{Group, MAX_ADDED_AT_ONCE, MAX_GROUPS_PER_USER, MAX_MEMBERS, Member, MemberRole, Outcome, Refusal, Result};

/// Gives users access. Those who have it already are passed over.
pub(super) async fn add(
    db: &mut SqliteConnection,
    id: GroupId,
    by: UserId,
    users: &[UserId],
    at: Timestamp,
) -> Step<Outcome> {
    let group = groups::require_owned(db, id, by).await?;
    require_few(users)?;
    let present = present(db, id, users).await?;
    let newcomers = distinct(users.iter().filter(|user| !present.contains(user)));
    require_admissible(db, group.members_count, &newcomers).await?;
    if newcomers.is_empty() {
        return Ok(Outcome { group: Some(group), repeated: true, ..Outcome::default() });
    }
    let group = admit(db, id, &newcomers, at).await?;
    let events: Vec<_> = newcomers.into_iter().map(|user| outbox::event(id, by, Body::MemberAdded { user })).collect();
    outbox::put(db, &events).await?;
    Ok(Outcome { group: Some(group), events, ..Outcome::default() })
}

/// Passes as many users as one command may add.
pub(super) fn require_few(users: &[UserId]) -> Step<()> {
    if users.len() > MAX_ADDED_AT_ONCE { Err(Refusal::TooManyMembers.into()) } else { Ok(()) }
}

/// Users without repetition, in the order in which they first come.
pub(super) fn distinct<'a>(users: impl Iterator<Item = &'a UserId>) -> Vec<UserId> {
    let mut seen = HashSet::new();
    users.copied().filter(|user| seen.insert(*user)).collect()
}

const PRESENT: &str = "
    SELECT user_id FROM members WHERE group_id = ?1 AND user_id IN (SELECT unhex(value) FROM json_each(?2))";

async fn present(db: &mut SqliteConnection, id: GroupId, users: &[UserId]) -> Step<HashSet<UserId>> {
    let rows = sqlx::query(PRESENT).bind(Uuid::from(id)).bind(columns::id_list(users)).fetch_all(db).await?;
    Ok(rows.iter().map(user_id).collect::<Result<_>>()?)
}

const ADMISSIBLE: &str = "
    SELECT
        count(*) AS known,
        coalesce(max((SELECT count(*) FROM members WHERE members.user_id = users.id)), 0) AS most_groups
    FROM users
    WHERE deleted = 0 AND id IN (SELECT unhex(value) FROM json_each(?1))";

/// Passes users who may all join a group of `members` members.
pub(super) async fn require_admissible(db: &mut SqliteConnection, members: u64, users: &[UserId]) -> Step<()> {
    let has_room = usize::try_from(members).is_ok_and(|members| members + users.len() <= MAX_MEMBERS);
    if !has_room {
        return Err(Refusal::TooManyMembers.into());
    }
    let row = sqlx::query(ADMISSIBLE).bind(columns::id_list(users)).fetch_one(db).await?;
    if columns::number::<usize>(&row, "known")? < users.len() {
        return Err(Refusal::UnknownUser.into());
    }
    if columns::number::<usize>(&row, "most_groups")? >= MAX_GROUPS_PER_USER {
        return Err(Refusal::TooManyGroups.into());
    }
    Ok(())
}

const ADMIT: &str = "
    INSERT INTO members (group_id, user_id, joined_at) SELECT ?1, unhex(value), ?3 FROM json_each(?2)";
const COUNT: &str = "
    UPDATE groups SET members_count = members_count + ?2, updated_at = ?3 WHERE id = ?1 RETURNING *";

/// Makes users members who are none yet.
pub(super) async fn admit(db: &mut SqliteConnection, id: GroupId, users: &[UserId], at: Timestamp) -> Step<Group> {
    let admit = sqlx::query(ADMIT).bind(Uuid::from(id)).bind(columns::id_list(users)).bind(at.as_millis());
    let count = i64::try_from(admit.execute(&mut *db).await?.rows_affected()).unwrap_or(i64::MAX);
    let row = sqlx::query(COUNT).bind(Uuid::from(id)).bind(count).bind(at.as_millis()).fetch_one(db).await?;
    Ok(groups::group(&row)?)
}

/// Takes access away.
pub(super) async fn remove(
    db: &mut SqliteConnection,
    id: GroupId,
    by: UserId,
    user: UserId,
    at: Timestamp,
) -> Step<Outcome> {
    let group = groups::require_member(db, id, by).await?;
    if by != user && by != group.owner {
        return Err(Refusal::NotOwner.into());
    }
    let group = leave(db, id, user, at).await?;
    let events = vec![outbox::event(id, by, Body::MemberRemoved { user })];
    outbox::put(db, &events).await?;
    Ok(Outcome { group, events, ..Outcome::default() })
}

const LEAVE: &str = "DELETE FROM members WHERE group_id = ?1 AND user_id = ?2";
const SUCCESSOR: &str = "SELECT user_id FROM members WHERE group_id = ?1 ORDER BY joined_at, user_id LIMIT 1";
const SET_OWNER: &str = "UPDATE groups SET owner = ?2 WHERE id = ?1 RETURNING *";

/// Takes a member out of its group. The owner is followed by the member of longest standing; with the last
/// member the group ends, and there is none to give.
pub(super) async fn leave(db: &mut SqliteConnection, id: GroupId, user: UserId, at: Timestamp) -> Step<Option<Group>> {
    let left = sqlx::query(LEAVE).bind(Uuid::from(id)).bind(Uuid::from(user)).execute(&mut *db).await?;
    if left.rows_affected() == 0 {
        return Err(Refusal::UnknownUser.into());
    }
    let count = sqlx::query(COUNT).bind(Uuid::from(id)).bind(-1_i64).bind(at.as_millis());
    let group = groups::group(&count.fetch_one(&mut *db).await?)?;
    if group.owner != user {
        return Ok(Some(group));
    }
    let successor: Option<Uuid> = sqlx::query_scalar(SUCCESSOR).bind(Uuid::from(id)).fetch_optional(&mut *db).await?;
    let Some(successor) = successor else {
        groups::end(db, id, at).await?;
        return Ok(None);
    };
    let row = sqlx::query(SET_OWNER).bind(Uuid::from(id)).bind(successor).fetch_one(db).await?;
    Ok(Some(groups::group(&row)?))
}

const ALL: &str = "SELECT user_id FROM members WHERE group_id = ?1 ORDER BY user_id";
const REMOVE_ALL: &str = "DELETE FROM members WHERE group_id = ?1";

/// Takes all members out of a group that is about to end.
pub(super) async fn remove_all(db: &mut SqliteConnection, id: GroupId) -> Step<Vec<UserId>> {
    let rows = sqlx::query(ALL).bind(Uuid::from(id)).fetch_all(&mut *db).await?;
    sqlx::query(REMOVE_ALL).bind(Uuid::from(id)).execute(db).await?;
    Ok(rows.iter().map(user_id).collect::<Result<_>>()?)
}

const GROUPS_OF: &str = "SELECT group_id FROM members WHERE user_id = ?1 ORDER BY group_id";

/// The groups of a user.
pub(super) async fn groups_of(db: &mut SqliteConnection, user: UserId) -> Result<Vec<GroupId>> {
    let rows = sqlx::query(GROUPS_OF).bind(Uuid::from(user)).fetch_all(db).await?;
    rows.iter().map(|row| columns::id(row, "group_id", GroupId::from_bytes)).collect()
}

const ROLE: &str = "
    SELECT groups.owner = members.user_id FROM members JOIN groups ON groups.id = members.group_id
    WHERE members.group_id = ?1 AND members.user_id = ?2";

/// What a user is in a group.
pub(super) async fn role(db: &mut SqliteConnection, id: GroupId, user: UserId) -> Result<Option<MemberRole>> {
    let role = sqlx::query_scalar(ROLE).bind(Uuid::from(id)).bind(Uuid::from(user));
    let is_owner: Option<bool> = role.fetch_optional(db).await?;
    Ok(is_owner.map(|is_owner| if is_owner { MemberRole::Owner } else { MemberRole::Member }))
}

const PAGE: &str = "
    SELECT users.*, members.joined_at, groups.owner = members.user_id AS is_owner
    FROM members JOIN users ON users.id = members.user_id JOIN groups ON groups.id = members.group_id
    WHERE members.group_id = ?1 AND members.user_id > ?2
    ORDER BY members.user_id LIMIT ?3";

/// Members of a group, in order of their ids.
pub(super) async fn page(
    db: &mut SqliteConnection,
    id: GroupId,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<Member>> {
    let after = after.map_or(Uuid::nil(), Uuid::from);
    let page = sqlx::query(PAGE).bind(Uuid::from(id)).bind(after).bind(columns::limit(limit));
    page.fetch_all(db).await?.iter().map(member).collect()
}

fn member(row: &SqliteRow) -> Result<Member> {
    let is_owner: bool = row.try_get("is_owner")?;
    Ok(Member {
        user: users::user(row)?,
        role: if is_owner { MemberRole::Owner } else { MemberRole::Member },
        joined_at: columns::timestamp(row, "joined_at")?,
    })
}

fn user_id(row: &SqliteRow) -> Result<UserId> {
    columns::id(row, "user_id", UserId::from_bytes)
}
