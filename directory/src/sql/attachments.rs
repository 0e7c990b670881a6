//! What is known of attachments.

use sqlx::types::Uuid;
use types::{AttachmentId, UserId};

use super::{Db, Row, Step, columns, users};
use crate::{Attachment, Error, Outcome, Refusal, Result};

const ADD: &str = "
    INSERT INTO attachments (id, owner, name, content_type, size, width, height, fingerprint, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// Notes an attachment.
pub(super) async fn add(db: &mut Db<'_>, attachment: &Attachment) -> Step<Outcome> {
    let Attachment { id, owner, name, content_type, size, width, height, created_at } = attachment;
    let fingerprint = columns::fingerprint(&(owner, name, content_type, size, width, height))?;
    if let Some(row) = row(db, *id).await? {
        let is_same = row.get::<Vec<u8>>("fingerprint")? == fingerprint;
        return if is_same {
            Ok(Outcome { repeated: true, ..Outcome::default() })
        } else {
            Err(Refusal::IdTaken.into())
        };
    }
    users::require(db, *owner).await?;
    let size = i64::try_from(*size).map_err(|_| Error::Damaged(format!("an attachment of {size} bytes")))?;
    db.query(ADD)
        .bind(Uuid::from(*id))
        .bind(Uuid::from(*owner))
        .bind(name)
        .bind(content_type)
        .bind(size)
        .bind(width.map(i64::from))
        .bind(height.map(i64::from))
        .bind(fingerprint)
        .bind(created_at.as_millis())
        .execute(db)
        .await?;
    Ok(Outcome::default())
}

/// An attachment by its id.
pub(super) async fn by_id(db: &mut Db<'_>, id: AttachmentId) -> Result<Option<Attachment>> {
    row(db, id).await?.as_ref().map(attachment).transpose()
}

const BY_ID: &str = "SELECT * FROM attachments WHERE id = $1";

async fn row(db: &mut Db<'_>, id: AttachmentId) -> Result<Option<Row>> {
    Ok(db.query(BY_ID).bind(Uuid::from(id)).fetch_optional(db).await?)
}

fn attachment(row: &Row) -> Result<Attachment> {
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
