//! Groups.

use std::collections::HashMap;

use sqlx::types::Uuid;
use types::{Body, GroupId, Timestamp, UserId};

use super::{Db, Row, Step, Words, columns, members, outbox};
use crate::{Group, Outcome, Refusal, Result};

/// A group to be created.
pub(super) struct Creation<'a> {
    pub(super) group: GroupId,
    pub(super) name: &'a str,
    pub(super) owner: UserId,
    pub(super) members: &'a [UserId],
    pub(super) at: Timestamp,
}

const INSERT: &str = "
    INSERT INTO groups (id, name, owner, members_count, fingerprint, created_at, updated_at)
    VALUES ($1, $2, $3, 0, $4, $5, $5)";

/// Creates a group of its owner and its first members.
pub(super) async fn create(db: &mut Db<'_>, new: &Creation<'_>) -> Step<Outcome> {
    let everybody = members::distinct(std::iter::once(&new.owner).chain(new.members));
    let mut sorted = everybody.clone();
    sorted.sort_unstable();
    let fingerprint = columns::fingerprint(&(new.owner, new.name, sorted))?;
    if let Some(row) = row(db, new.group).await? {
        if row.get::<Vec<u8>>("fingerprint")? != fingerprint {
            return Err(Refusal::IdTaken.into());
        }
        let group = if row.get("ended")? { None } else { Some(group(&row)?) };
        return Ok(Outcome { group, repeated: true, ..Outcome::default() });
    }
    members::require_few(new.members)?;
    members::require_admissible(db, 0, &everybody).await?;
    db.query(INSERT)
        .bind(Uuid::from(new.group))
        .bind(new.name)
        .bind(Uuid::from(new.owner))
        .bind(fingerprint)
        .bind(new.at.as_millis())
        .execute(db)
        .await?;
    let group = members::admit(db, new.group, &everybody, new.at).await?;
    let added = everybody.iter().map(|user| outbox::event(new.group, new.owner, Body::MemberAdded { user: *user }));
    let events: Vec<_> = added.collect();
    outbox::put(db, &events).await?;
    Ok(Outcome { group: Some(group), events, ..Outcome::default() })
}

const RENAME: &str = "UPDATE groups SET name = $2, updated_at = $3 WHERE id = $1 RETURNING *";

/// Gives a group another name.
pub(super) async fn rename(db: &mut Db<'_>, id: GroupId, by: UserId, name: &str, at: Timestamp) -> Step<Outcome> {
    let present = require_owned(db, id, by).await?;
    if present.name == name {
        return Ok(Outcome { group: Some(present), repeated: true, ..Outcome::default() });
    }
    let rename = db.query(RENAME).bind(Uuid::from(id)).bind(name).bind(at.as_millis());
    let group = group(&rename.fetch_one(db).await?)?;
    let events = vec![outbox::event(id, by, Body::GroupUpdated { name: name.to_owned() })];
    outbox::put(db, &events).await?;
    Ok(Outcome { group: Some(group), events, ..Outcome::default() })
}

/// Ends a group.
pub(super) async fn delete(db: &mut Db<'_>, id: GroupId, by: UserId, at: Timestamp) -> Step<Outcome> {
    require_owned(db, id, by).await?;
    let removed = members::remove_all(db, id).await?;
    end(db, id, at).await?;
    let events: Vec<_> = removed.into_iter().map(|user| outbox::event(id, by, Body::MemberRemoved { user })).collect();
    outbox::put(db, &events).await?;
    Ok(Outcome { events, ..Outcome::default() })
}

const END: &str = "UPDATE groups SET name = '', members_count = 0, updated_at = $2, ended = TRUE WHERE id = $1";

/// Marks a group that has no more members as ended. Its id stays taken.
pub(super) async fn end(db: &mut Db<'_>, id: GroupId, at: Timestamp) -> Step<()> {
    db.query(END).bind(Uuid::from(id)).bind(at.as_millis()).execute(db).await?;
    Ok(())
}

const END_OWNED: Words = Words {
    sqlite: "
        UPDATE groups SET name = '', members_count = 0, updated_at = $3, ended = TRUE
        WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND owner = $2",
    postgres: "
        UPDATE groups SET name = '', members_count = 0, updated_at = $3, ended = TRUE
        WHERE id = ANY($1) AND owner = $2",
};

/// Marks those of some groups as ended that belong to `owner`, and have no more members.
pub(super) async fn end_owned(db: &mut Db<'_>, ids: &[GroupId], owner: UserId, at: Timestamp) -> Step<()> {
    db.query(END_OWNED).bind_ids(ids).bind(Uuid::from(owner)).bind(at.as_millis()).execute(db).await?;
    Ok(())
}

const OF_MEMBER: &str = "
    SELECT groups.* FROM groups JOIN members ON members.group_id = groups.id
    WHERE groups.id = $1 AND members.user_id = $2";

/// A group as one of its members sees it; to a stranger it is unknown.
pub(super) async fn require_member(db: &mut Db<'_>, id: GroupId, member: UserId) -> Step<Group> {
    let row = db.query(OF_MEMBER).bind(Uuid::from(id)).bind(Uuid::from(member)).fetch_optional(db).await?;
    Ok(group(&row.ok_or(Refusal::UnknownGroup)?)?)
}

/// A group that belongs to `owner`.
pub(super) async fn require_owned(db: &mut Db<'_>, id: GroupId, owner: UserId) -> Step<Group> {
    let group = require_member(db, id, owner).await?;
    if group.owner == owner { Ok(group) } else { Err(Refusal::NotOwner.into()) }
}

const BY_ID: &str = "SELECT * FROM groups WHERE id = $1";

async fn row(db: &mut Db<'_>, id: GroupId) -> Result<Option<Row>> {
    Ok(db.query(BY_ID).bind(Uuid::from(id)).fetch_optional(db).await?)
}

const BY_IDS: Words = Words {
    sqlite: "SELECT * FROM groups WHERE NOT ended AND id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "SELECT * FROM groups WHERE NOT ended AND id = ANY($1)",
};

/// Groups by id, in the order of the question.
pub(super) async fn by_ids(db: &mut Db<'_>, ids: &[GroupId]) -> Result<Vec<Option<Group>>> {
    let rows = db.query(BY_IDS).bind_ids(ids).fetch_all(db).await?;
    let found: HashMap<_, _> =
        rows.iter().map(|row| group(row).map(|group| (group.id, group))).collect::<Result<_>>()?;
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

/// Reads a group off a row of `groups`.
pub(super) fn group(row: &Row) -> Result<Group> {
    Ok(Group {
        id: columns::id(row, "id", GroupId::from_bytes)?,
        name: row.get("name")?,
        owner: columns::id(row, "owner", UserId::from_bytes)?,
        members_count: columns::number(row, "members_count")?,
        created_at: columns::timestamp(row, "created_at")?,
        updated_at: columns::timestamp(row, "updated_at")?,
    })
}
