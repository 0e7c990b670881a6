//! How values stand in columns.

use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteRow;
use sqlx::types::Uuid;
use sqlx::{ColumnIndex, Row};
use types::Timestamp;
use types::id::InvalidId;

use crate::{Error, Result};

/// Reads an id.
pub(super) fn id<T>(
    row: &SqliteRow,
    column: &str,
    read: impl Fn([u8; 16]) -> std::result::Result<T, InvalidId>,
) -> Result<T> {
    read_id(row.try_get(column)?, read)
}

/// Reads an id's bytes.
pub(super) fn read_id<T>(id: Uuid, read: impl Fn([u8; 16]) -> std::result::Result<T, InvalidId>) -> Result<T> {
    read(id.into_bytes()).map_err(|error| Error::Damaged(format!("{id} is {error}")))
}

/// Reads a moment.
pub(super) fn timestamp(row: &SqliteRow, column: &str) -> Result<Timestamp> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

/// Reads a number that is never negative.
pub(super) fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T>
where
    for<'a> &'a str: ColumnIndex<SqliteRow>,
{
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| Error::Damaged(format!("{column} is {number}")))
}

/// Ids as one parameter: a JSON array of hexadecimal texts, for `(SELECT unhex(value) FROM json_each(?))`.
pub(super) fn id_list<T: Copy + Into<Uuid>>(ids: &[T]) -> String {
    let texts: Vec<_> = ids.iter().map(|id| (*id).into().simple().to_string()).collect();
    serde_json::json!(texts).to_string()
}

/// A `LIMIT`.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A text as it is compared without regard to case.
pub(super) fn fold(text: &str) -> String {
    text.to_lowercase()
}

/// The SHA-256 of what a record is created from.
pub(super) fn fingerprint(content: &impl Serialize) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(content).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(Sha256::digest(json).to_vec())
}
