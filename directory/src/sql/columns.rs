//! How values stand in columns.

use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::types::Uuid;
use types::Timestamp;
use types::id::InvalidId;

use super::Row;
use crate::{Error, Result};

/// Reads an id.
pub(super) fn id<T>(
    row: &Row,
    column: &str,
    read: impl Fn([u8; 16]) -> std::result::Result<T, InvalidId>,
) -> Result<T> {
    read_id(row.get(column)?, read)
}

/// Reads an id's bytes.
pub(super) fn read_id<T>(id: Uuid, read: impl Fn([u8; 16]) -> std::result::Result<T, InvalidId>) -> Result<T> {
    read(id.into_bytes()).map_err(|error| Error::Damaged(format!("{id} is {error}")))
}

/// Reads a moment.
pub(super) fn timestamp(row: &Row, column: &str) -> Result<Timestamp> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

/// Reads a number that is never negative.
pub(super) fn number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<T> {
    in_range(row.get(column)?, column)
}

/// Reads a number that is never negative, and may be missing.
pub(super) fn optional_number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<Option<T>> {
    row.get::<Option<i64>>(column)?.map(|number| in_range(number, column)).transpose()
}

fn in_range<T: TryFrom<i64>>(number: i64, column: &str) -> Result<T> {
    T::try_from(number).map_err(|_| Error::Damaged(format!("{column} is {number}")))
}

/// A `LIMIT`.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A text as it is compared without regard to case. Nobody has a name with a zero character in it, for which
/// Postgres has no place.
pub(super) fn fold(text: &str) -> String {
    text.to_lowercase().replace('\0', "\u{fffd}")
}

/// The SHA-256 of what a record is created from.
pub(super) fn fingerprint(content: &impl Serialize) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(content).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(Sha256::digest(json).to_vec())
}
