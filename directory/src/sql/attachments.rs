//! What is known of attachments: on their way, there, sent, and to be removed.

use sqlx::types::Uuid;
use types::{AttachmentId, ConversationId, EventId, Timestamp, UserId};

use super::{Db, Row, Step, Words, columns, users};
use crate::{Attachment, Error, MAX_CONDEMNED_AT_ONCE, MAX_OPEN_UPLOADS, MAX_SENDS, Outcome, Refusal, Result, Upload};

const BEGIN: &str = "
    INSERT INTO uploads (id, owner, name, content_type, size, created_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (id) DO NOTHING";

// Only of those by link is the size known before.
const COUNT_OPEN: &str = "
    SELECT count(*) AS others FROM uploads
    WHERE owner = $1 AND id <> $2 AND size IS NOT NULL AND attachment IS NULL";

/// Notes that bytes are on their way.
pub(super) async fn begin(db: &mut Db<'_>, new: &Upload) -> Step<Outcome> {
    users::require(db, new.owner).await?;
    if new.size.is_some() {
        let count = db.query(COUNT_OPEN).bind(Uuid::from(new.owner)).bind(Uuid::from(new.id)).fetch_one(db).await?;
        if count.get::<i64>("others")? >= columns::limit(MAX_OPEN_UPLOADS) {
            return Err(Refusal::TooManyUploads.into());
        }
    }
    let begin = db
        .query(BEGIN)
        .bind(Uuid::from(new.id))
        .bind(Uuid::from(new.owner))
        .bind(&new.name)
        .bind(&new.content_type)
        .bind(new.size.map(bytes).transpose()?)
        .bind(new.created_at.as_millis());
    let is_new = begin.execute(db).await? > 0;
    let known = upload(db, new.id).await?;
    let is_same = known.is_some_and(|known| Upload { created_at: new.created_at, ..known } == *new);
    if is_same { Ok(Outcome { repeated: !is_new, ..Outcome::default() }) } else { Err(Refusal::IdTaken.into()) }
}

const ADD: &str = "
    INSERT INTO attachments (id, owner, name, content_type, size, width, height, fingerprint, created_at, unsent_since)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)";

/// Makes an attachment of what was begun under its id, unless one was made of `upload` before.
pub(super) async fn add(db: &mut Db<'_>, attachment: &Attachment, upload: Option<AttachmentId>) -> Step<Outcome> {
    let Attachment { id, owner, name, content_type, size, width, height, created_at } = attachment;
    let fingerprint = columns::fingerprint(&(owner, name, content_type, size, width, height))?;
    if let Some(row) = row(db, *id).await? {
        let is_same = row.get::<Vec<u8>>("fingerprint")? == fingerprint;
        return if is_same { Ok(again(read(&row)?)) } else { Err(Refusal::IdTaken.into()) };
    }
    if let Some(first) = made_of(db, upload, *owner).await? {
        return Ok(again(by_id(db, first).await?.ok_or(Refusal::UnknownUpload)?));
    }
    finish(db, *id, *owner, upload).await?;
    users::require(db, *owner).await?;
    db.query(ADD)
        .bind(Uuid::from(*id))
        .bind(Uuid::from(*owner))
        .bind(name)
        .bind(content_type)
        .bind(bytes(*size)?)
        .bind(width.map(i64::from))
        .bind(height.map(i64::from))
        .bind(fingerprint)
        .bind(created_at.as_millis())
        .execute(db)
        .await?;
    Ok(Outcome { attachment: Some(attachment.clone()), ..Outcome::default() })
}

fn again(attachment: Attachment) -> Outcome {
    Outcome { attachment: Some(attachment), repeated: true, ..Outcome::default() }
}

/// What was made of an upload before; it must be there, and `owner`'s.
async fn made_of(db: &mut Db<'_>, id: Option<AttachmentId>, owner: UserId) -> Step<Option<AttachmentId>> {
    let Some(id) = id else { return Ok(None) };
    let upload = upload(db, id).await?.filter(|upload| upload.owner == owner).ok_or(Refusal::UnknownUpload)?;
    Ok(upload.attachment)
}

const TAKE: &str = "DELETE FROM uploads WHERE id = $1 AND owner = $2";
const MARK: &str = "UPDATE uploads SET attachment = $2 WHERE id = $1";

/// The bytes of `id` are no longer on their way. One that is not there was given up: its blob may be gone.
async fn finish(db: &mut Db<'_>, id: AttachmentId, owner: UserId, upload: Option<AttachmentId>) -> Step<()> {
    let taken = db.query(TAKE).bind(Uuid::from(id)).bind(Uuid::from(owner)).execute(db).await?;
    if taken == 0 {
        return Err(Refusal::UnknownUpload.into());
    }
    if let Some(upload) = upload {
        db.query(MARK).bind(Uuid::from(upload)).bind(Uuid::from(id)).execute(db).await?;
    }
    Ok(())
}

const IS_WITHDRAWN: &str = "
    SELECT EXISTS (SELECT 1 FROM withdrawn_messages WHERE attachment = $1 AND message = $2) AS is_withdrawn";
const COUNT_SENDS: &str = "
    SELECT (SELECT count(*) FROM attachment_messages WHERE attachment = $1 AND message <> $2)
        + (SELECT count(*) FROM withdrawn_messages WHERE attachment = $1) AS others";
const SEND: &str = "
    INSERT INTO attachment_messages (attachment, message, conversation) VALUES ($1, $2, $3)
    ON CONFLICT (attachment, message) DO NOTHING";
const MARK_SENT: &str = "UPDATE attachments SET unsent_since = NULL WHERE id = $1 AND unsent_since IS NOT NULL";

/// Opens an attachment to the members of a conversation, unless the message was deleted.
pub(super) async fn send(
    db: &mut Db<'_>,
    id: AttachmentId,
    by: UserId,
    (conversation, message): (ConversationId, EventId),
) -> Step<Outcome> {
    let found = by_id(db, id).await?.filter(|attachment| attachment.owner == by).ok_or(Refusal::UnknownAttachment)?;
    let asked = db.query(IS_WITHDRAWN).bind(Uuid::from(id)).bind(Uuid::from(message)).fetch_one(db).await?;
    if asked.get("is_withdrawn")? {
        return Ok(again(found));
    }
    let count = db.query(COUNT_SENDS).bind(Uuid::from(id)).bind(Uuid::from(message)).fetch_one(db).await?;
    if count.get::<i64>("others")? >= columns::limit(MAX_SENDS) {
        return Err(Refusal::TooManySends.into());
    }
    let send = db.query(SEND).bind(Uuid::from(id)).bind(Uuid::from(message)).bind(conversation.key());
    let is_new = send.execute(db).await? > 0;
    db.query(MARK_SENT).bind(Uuid::from(id)).execute(db).await?;
    Ok(Outcome { attachment: Some(found), repeated: !is_new, ..Outcome::default() })
}

const WITHDRAW: &str = "DELETE FROM attachment_messages WHERE message = $1 RETURNING attachment";
const NOTE_WITHDRAWN: &str = "
    INSERT INTO withdrawn_messages (attachment, message) VALUES ($1, $2) ON CONFLICT (attachment, message) DO NOTHING";
// Whether another message has it is asked under the row's lock, and so by a statement that begins after it.
const MARK_UNSENT: &str = "UPDATE attachments SET unsent_since = $2 WHERE id = $1";
const MARK_STILL_SENT: &str = "
    UPDATE attachments SET unsent_since = NULL
    WHERE id = $1 AND EXISTS (SELECT 1 FROM attachment_messages WHERE attachment = $1)";

/// Closes for good what a message had opened.
pub(super) async fn withdraw(db: &mut Db<'_>, message: EventId, at: Timestamp) -> Step<Outcome> {
    let rows = db.query(WITHDRAW).bind(Uuid::from(message)).fetch_all(db).await?;
    let mut withdrawn = rows.iter().map(|row| row.get("attachment")).collect::<sqlx::Result<Vec<Uuid>>>()?;
    withdrawn.sort_unstable();
    for id in &withdrawn {
        db.query(NOTE_WITHDRAWN).bind(*id).bind(Uuid::from(message)).execute(db).await?;
        db.query(MARK_UNSENT).bind(*id).bind(at.as_millis()).execute(db).await?;
        db.query(MARK_STILL_SENT).bind(*id).execute(db).await?;
    }
    Ok(Outcome { repeated: withdrawn.is_empty(), ..Outcome::default() })
}

// What another command has locked is being made, sent, or given up: it is passed over.
const DROP_UPLOADS: Words = Words {
    sqlite: "
        DELETE FROM uploads
        WHERE id IN (SELECT id FROM uploads WHERE created_at < $1 ORDER BY created_at LIMIT $2)
        RETURNING id",
    postgres: "
        DELETE FROM uploads WHERE id = ANY(ARRAY(
            SELECT id FROM uploads WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
        ))
        RETURNING id",
};
const DROP_UNSENT: Words = Words {
    sqlite: "
        DELETE FROM attachments
        WHERE id IN (SELECT id FROM attachments WHERE unsent_since < $1 ORDER BY unsent_since LIMIT $2)
        RETURNING id",
    postgres: "
        DELETE FROM attachments WHERE id = ANY(ARRAY(
            SELECT id FROM attachments WHERE unsent_since < $1 ORDER BY unsent_since LIMIT $2 FOR UPDATE SKIP LOCKED
        ))
        RETURNING id",
};
const CONDEMN: Words = Words {
    sqlite: "
        INSERT INTO condemned_blobs SELECT unhex(value) FROM json_each($1) WHERE TRUE
        ON CONFLICT (id) DO NOTHING",
    postgres: "INSERT INTO condemned_blobs SELECT unnest($1) ON CONFLICT (id) DO NOTHING",
};

/// Forgets what nobody finished or sent; its blobs are to be removed.
pub(super) async fn condemn(db: &mut Db<'_>, before: Timestamp) -> Step<Outcome> {
    let mut is_any = false;
    for drop in [DROP_UPLOADS, DROP_UNSENT] {
        let drop = db.query(drop).bind(before.as_millis()).bind(columns::limit(MAX_CONDEMNED_AT_ONCE));
        let dropped = ids(&drop.fetch_all(db).await?)?;
        if !dropped.is_empty() {
            db.query(CONDEMN).bind_ids(&dropped).execute(db).await?;
            is_any = true;
        }
    }
    Ok(Outcome { repeated: !is_any, ..Outcome::default() })
}

const FORGET: Words = Words {
    sqlite: "DELETE FROM condemned_blobs WHERE id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "DELETE FROM condemned_blobs WHERE id = ANY($1)",
};

/// Takes note that blobs are removed.
pub(super) async fn forget(db: &mut Db<'_>, blobs: &[AttachmentId]) -> Step<Outcome> {
    db.query(FORGET).bind_ids(blobs).execute(db).await?;
    Ok(Outcome::default())
}

const CONDEMNED: &str = "SELECT id FROM condemned_blobs WHERE id > $1 ORDER BY id LIMIT $2";

/// Blobs that are to be removed, behind `after`.
pub(super) async fn condemned(db: &mut Db<'_>, after: Option<AttachmentId>, limit: usize) -> Result<Vec<AttachmentId>> {
    let after = after.map_or(Uuid::nil(), Uuid::from);
    ids(&db.query(CONDEMNED).bind(after).bind(columns::limit(limit)).fetch_all(db).await?)
}

fn ids(rows: &[Row]) -> Result<Vec<AttachmentId>> {
    rows.iter().map(|row| columns::id(row, "id", AttachmentId::from_bytes)).collect()
}

/// An attachment by its id.
pub(super) async fn by_id(db: &mut Db<'_>, id: AttachmentId) -> Result<Option<Attachment>> {
    row(db, id).await?.as_ref().map(read).transpose()
}

const BY_ID: &str = "SELECT * FROM attachments WHERE id = $1";

async fn row(db: &mut Db<'_>, id: AttachmentId) -> Result<Option<Row>> {
    Ok(db.query(BY_ID).bind(Uuid::from(id)).fetch_optional(db).await?)
}

const CONVERSATIONS: &str = "SELECT DISTINCT conversation FROM attachment_messages WHERE attachment = $1";

/// The conversations that an attachment was sent in.
pub(super) async fn conversations(db: &mut Db<'_>, id: AttachmentId) -> Result<Vec<ConversationId>> {
    let rows = db.query(CONVERSATIONS).bind(Uuid::from(id)).fetch_all(db).await?;
    let read = |row: &Row| {
        let (conversation, _) =
            ConversationId::split_key(row.get("conversation")?).map_err(|error| Error::Damaged(error.to_string()))?;
        Ok(conversation)
    };
    rows.iter().map(read).collect()
}

const UPLOAD: &str = "SELECT * FROM uploads WHERE id = $1";

/// What is on its way under this id.
pub(super) async fn upload(db: &mut Db<'_>, id: AttachmentId) -> Result<Option<Upload>> {
    let Some(row) = db.query(UPLOAD).bind(Uuid::from(id)).fetch_optional(db).await? else { return Ok(None) };
    let attachment: Option<Uuid> = row.get("attachment")?;
    Ok(Some(Upload {
        id,
        owner: columns::id(&row, "owner", UserId::from_bytes)?,
        name: row.get("name")?,
        content_type: row.get("content_type")?,
        size: columns::optional_number(&row, "size")?,
        attachment: attachment.map(|id| columns::read_id(id, AttachmentId::from_bytes)).transpose()?,
        created_at: columns::timestamp(&row, "created_at")?,
    }))
}

fn bytes(size: u64) -> Result<i64> {
    i64::try_from(size).map_err(|_| Error::Damaged(format!("an attachment of {size} bytes")))
}

fn read(row: &Row) -> Result<Attachment> {
    Ok(Attachment {
        id: columns::id(row, "id", AttachmentId::from_bytes)?,
        owner: columns::id(row, "owner", UserId::from_bytes)?,
        name: row.get("name")?,
        content_type: row.get("content_type")?,
        size: columns::number(row, "size")?,
        width: columns::optional_number(row, "width")?,
        height: columns::optional_number(row, "height")?,
        created_at: columns::timestamp(row, "created_at")?,
    })
}
