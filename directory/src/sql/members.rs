//! Who is in which group.

use std::collections::HashSet;

use sqlx::types::Uuid;
use types::{Body, GroupId, Timestamp, UserId};

use super::{Db, Row, Step, Words, columns, groups, outbox, users};
use crate::{Group, MAX_ADDED_AT_ONCE, MAX_GROUPS_PER_USER, MAX_MEMBERS, Member, MemberRole, Outcome, Refusal, Result};

/// Gives users access. Those who have it already are passed over.
pub(super) async fn add(db: &mut Db<'_>, id: GroupId, by: UserId, users: &[UserId], at: Timestamp) -> Step<Outcome> {
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

const PRESENT: Words = Words {
    sqlite: "
        SELECT user_id FROM members WHERE group_id = $1 AND user_id IN (SELECT unhex(value) FROM json_each($2))",
    postgres: "SELECT user_id FROM members WHERE group_id = $1 AND user_id = ANY($2)",
};

async fn present(db: &mut Db<'_>, id: GroupId, users: &[UserId]) -> Step<HashSet<UserId>> {
    let rows = db.query(PRESENT).bind(Uuid::from(id)).bind_ids(users).fetch_all(db).await?;
    Ok(rows.iter().map(user_id).collect::<Result<_>>()?)
}

const ADMISSIBLE: Words = Words {
    sqlite: "
        SELECT
            count(*) AS known,
            coalesce(max((SELECT count(*) FROM members WHERE members.user_id = users.id)), 0) AS most_groups
        FROM users
        WHERE NOT deleted AND id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "
        SELECT
            count(*) AS known,
            coalesce(max((SELECT count(*) FROM members WHERE members.user_id = users.id)), 0) AS most_groups
        FROM users
        WHERE NOT deleted AND id = ANY($1)",
};

/// Passes users who may all join a group of `members` members.
pub(super) async fn require_admissible(db: &mut Db<'_>, members: u64, users: &[UserId]) -> Step<()> {
    let has_room = usize::try_from(members).is_ok_and(|members| members + users.len() <= MAX_MEMBERS);
    if !has_room {
        return Err(Refusal::TooManyMembers.into());
    }
    let row = db.query(ADMISSIBLE).bind_ids(users).fetch_one(db).await?;
    if columns::number::<usize>(&row, "known")? < users.len() {
        return Err(Refusal::UnknownUser.into());
    }
    if columns::number::<usize>(&row, "most_groups")? >= MAX_GROUPS_PER_USER {
        return Err(Refusal::TooManyGroups.into());
    }
    Ok(())
}

const ADMIT: Words = Words {
    sqlite: "INSERT INTO members (group_id, user_id, joined_at) SELECT $1, unhex(value), $3 FROM json_each($2)",
    postgres: "INSERT INTO members (group_id, user_id, joined_at) SELECT $1, id, $3 FROM unnest($2::uuid[]) AS id",
};
const COUNT: &str = "
    UPDATE groups SET members_count = members_count + $2, updated_at = $3 WHERE id = $1 RETURNING *";

/// Makes users members who are none yet.
pub(super) async fn admit(db: &mut Db<'_>, id: GroupId, users: &[UserId], at: Timestamp) -> Step<Group> {
    let admit = db.query(ADMIT).bind(Uuid::from(id)).bind_ids(users).bind(at.as_millis());
    let count = i64::try_from(admit.execute(db).await?).unwrap_or(i64::MAX);
    let row = db.query(COUNT).bind(Uuid::from(id)).bind(count).bind(at.as_millis()).fetch_one(db).await?;
    Ok(groups::group(&row)?)
}

/// Takes access away.
pub(super) async fn remove(db: &mut Db<'_>, id: GroupId, by: UserId, user: UserId, at: Timestamp) -> Step<Outcome> {
    let group = groups::require_member(db, id, by).await?;
    if by != user && by != group.owner {
        return Err(Refusal::NotOwner.into());
    }
    let group = leave(db, id, user, at).await?;
    let events = vec![outbox::event(id, by, Body::MemberRemoved { user })];
    outbox::put(db, &events).await?;
    Ok(Outcome { group, events, ..Outcome::default() })
}

const LEAVE: &str = "DELETE FROM members WHERE group_id = $1 AND user_id = $2";
const SUCCESSOR: &str = "SELECT user_id FROM members WHERE group_id = $1 ORDER BY joined_at, user_id LIMIT 1";
const SET_OWNER: &str = "UPDATE groups SET owner = $2 WHERE id = $1 RETURNING *";

/// Takes a member out of its group. The owner is followed by the member of longest standing; with the last
/// member the group ends, and there is none to give.
async fn leave(db: &mut Db<'_>, id: GroupId, user: UserId, at: Timestamp) -> Step<Option<Group>> {
    let left = db.query(LEAVE).bind(Uuid::from(id)).bind(Uuid::from(user)).execute(db).await?;
    if left == 0 {
        return Err(Refusal::UnknownUser.into());
    }
    let count = db.query(COUNT).bind(Uuid::from(id)).bind(-1_i64).bind(at.as_millis());
    let group = groups::group(&count.fetch_one(db).await?)?;
    if group.owner != user {
        return Ok(Some(group));
    }
    let Some(successor) = db.query(SUCCESSOR).bind(Uuid::from(id)).fetch_optional(db).await? else {
        groups::end(db, id, at).await?;
        return Ok(None);
    };
    let successor = Uuid::from(user_id(&successor)?);
    let row = db.query(SET_OWNER).bind(Uuid::from(id)).bind(successor).fetch_one(db).await?;
    Ok(Some(groups::group(&row)?))
}

const LEAVE_ALL: &str = "DELETE FROM members WHERE user_id = $1 RETURNING group_id";
const COUNT_ALL: Words = Words {
    sqlite: "
        UPDATE groups SET members_count = members_count - 1, updated_at = $2
        WHERE id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "UPDATE groups SET members_count = members_count - 1, updated_at = $2 WHERE id = ANY($1)",
};
const SUCCEED_ALL: Words = Words {
    sqlite: "
        UPDATE groups
        SET owner = (SELECT user_id FROM members WHERE group_id = groups.id ORDER BY joined_at, user_id LIMIT 1)
        WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND owner = $2
            AND EXISTS (SELECT 1 FROM members WHERE group_id = groups.id)",
    postgres: "
        UPDATE groups
        SET owner = (SELECT user_id FROM members WHERE group_id = groups.id ORDER BY joined_at, user_id LIMIT 1)
        WHERE id = ANY($1) AND owner = $2
            AND EXISTS (SELECT 1 FROM members WHERE group_id = groups.id)",
};

/// Takes a user out of all its groups, with the effects of [`leave`] on each, by so many statements however many there
/// are: all of them are locked meanwhile. Gives those groups in order of their ids.
pub(super) async fn leave_all(db: &mut Db<'_>, user: UserId, at: Timestamp) -> Step<Vec<GroupId>> {
    let rows = db.query(LEAVE_ALL).bind(Uuid::from(user)).fetch_all(db).await?;
    let mut left: Vec<_> = rows.iter().map(group_id).collect::<Result<_>>()?;
    left.sort_unstable();
    db.query(COUNT_ALL).bind_ids(&left).bind(at.as_millis()).execute(db).await?;
    db.query(SUCCEED_ALL).bind_ids(&left).bind(Uuid::from(user)).execute(db).await?;
    // What still is the user's has nobody else.
    groups::end_owned(db, &left, user, at).await?;
    Ok(left)
}

const ALL: &str = "SELECT user_id FROM members WHERE group_id = $1 ORDER BY user_id";
const REMOVE_ALL: &str = "DELETE FROM members WHERE group_id = $1";

/// Takes all members out of a group that is about to end.
pub(super) async fn remove_all(db: &mut Db<'_>, id: GroupId) -> Step<Vec<UserId>> {
    let rows = db.query(ALL).bind(Uuid::from(id)).fetch_all(db).await?;
    db.query(REMOVE_ALL).bind(Uuid::from(id)).execute(db).await?;
    Ok(rows.iter().map(user_id).collect::<Result<_>>()?)
}

const GROUPS_OF: &str = "SELECT group_id FROM members WHERE user_id = $1 ORDER BY group_id";

/// The groups of a user.
pub(super) async fn groups_of(db: &mut Db<'_>, user: UserId) -> Result<Vec<GroupId>> {
    let rows = db.query(GROUPS_OF).bind(Uuid::from(user)).fetch_all(db).await?;
    rows.iter().map(group_id).collect()
}

const ROLE: &str = "
    SELECT groups.owner = members.user_id AS is_owner
    FROM members JOIN groups ON groups.id = members.group_id
    WHERE members.group_id = $1 AND members.user_id = $2";

/// What a user is in a group.
pub(super) async fn role(db: &mut Db<'_>, id: GroupId, user: UserId) -> Result<Option<MemberRole>> {
    let row = db.query(ROLE).bind(Uuid::from(id)).bind(Uuid::from(user)).fetch_optional(db).await?;
    row.as_ref().map(member_role).transpose()
}

fn member_role(row: &Row) -> Result<MemberRole> {
    Ok(if row.get("is_owner")? { MemberRole::Owner } else { MemberRole::Member })
}

const PAGE: &str = "
    SELECT users.*, members.joined_at, groups.owner = members.user_id AS is_owner
    FROM members JOIN users ON users.id = members.user_id JOIN groups ON groups.id = members.group_id
    WHERE members.group_id = $1 AND members.user_id > $2
    ORDER BY members.user_id LIMIT $3";

/// Members of a group, in order of their ids.
pub(super) async fn page(db: &mut Db<'_>, id: GroupId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>> {
    let after = after.map_or(Uuid::nil(), Uuid::from);
    let page = db.query(PAGE).bind(Uuid::from(id)).bind(after).bind(columns::limit(limit));
    page.fetch_all(db).await?.iter().map(member).collect()
}

fn member(row: &Row) -> Result<Member> {
    Ok(Member { user: users::user(row)?, role: member_role(row)?, joined_at: columns::timestamp(row, "joined_at")? })
}

fn group_id(row: &Row) -> Result<GroupId> {
    columns::id(row, "group_id", GroupId::from_bytes)
}

fn user_id(row: &Row) -> Result<UserId> {
    columns::id(row, "user_id", UserId::from_bytes)
}
