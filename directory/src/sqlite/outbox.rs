//! Events on their way into the log.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use types::{Body, ConversationId, Event, EventId, GroupId, UserId};

use super::{Step, columns};
use crate::{Error, OutboxRow, Result};

/// Rows that one statement puts in, so that the longest command needs little memory.
const ROWS_AT_ONCE: usize = 1_000;

/// A new event of a group.
pub(super) fn event(group: GroupId, sender: UserId, body: Body) -> OutboxRow {
    let id = EventId::generate(group.region());
    OutboxRow { id, conversation: group.into(), payload: Event { id, sender, body }.encode() }
}

const PUT: &str = "
    INSERT INTO outbox (event_id, conversation, payload)
    SELECT unhex(value ->> 'id'), unhex(value ->> 'conversation'), value ->> 'payload'
    FROM json_each(?1) ORDER BY key";

/// Puts events behind those that are there.
pub(super) async fn put(db: &mut SqliteConnection, rows: &[OutboxRow]) -> Step<()> {
    for rows in rows.chunks(ROWS_AT_ONCE) {
        let rows: Vec<_> = rows.iter().map(Parameter::of).collect();
        let json = serde_json::to_string(&rows).map_err(|error| Error::Damaged(error.to_string()))?;
        sqlx::query(PUT).bind(json).execute(&mut *db).await?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Parameter<'a> {
    id: String,
    conversation: String,
    payload: std::borrow::Cow<'a, str>,
}

impl<'a> Parameter<'a> {
    fn of(row: &'a OutboxRow) -> Self {
        Self {
            id: hex(row.id.as_bytes()),
            conversation: hex(&row.conversation.key()),
            payload: String::from_utf8_lossy(&row.payload),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const OLDEST: &str = "SELECT event_id, conversation, payload FROM outbox ORDER BY place LIMIT ?1";

/// The oldest events that are not yet in the log.
pub(super) async fn oldest(db: &mut SqliteConnection, limit: usize) -> Result<Vec<OutboxRow>> {
    let rows = sqlx::query(OLDEST).bind(columns::limit(limit)).fetch_all(db).await?;
    rows.iter().map(outbox_row).collect()
}

fn outbox_row(row: &SqliteRow) -> Result<OutboxRow> {
    let key: &[u8] = row.try_get("conversation")?;
    let (conversation, _) = ConversationId::split_key(key).map_err(|error| Error::Damaged(error.to_string()))?;
    let payload: String = row.try_get("payload")?;
    Ok(OutboxRow { id: columns::id(row, "event_id", EventId::from_bytes)?, conversation, payload: payload.into() })
}

const TAKE_OUT: &str = "DELETE FROM outbox WHERE event_id IN (SELECT unhex(value) FROM json_each(?1))";

/// Takes events out.
pub(super) async fn take_out(db: &mut SqliteConnection, rows: &[EventId]) -> Result<()> {
    sqlx::query(TAKE_OUT).bind(columns::id_list(rows)).execute(db).await?;
    Ok(())
}
