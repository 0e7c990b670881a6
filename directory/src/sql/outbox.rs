//! Events on their way into the log.

use std::borrow::Cow;

use sqlx::types::Uuid;
use types::{Body, ConversationId, Event, EventId, GroupId, UserId};

use super::{Db, Row, Statement, Step, Words, columns};
use crate::{Error, OutboxRow, Result};

/// Rows that one statement puts in, so that the longest command needs little memory.
const ROWS_AT_ONCE: usize = 1_000;

/// A new event of a group.
pub(super) fn event(group: GroupId, sender: UserId, body: Body) -> OutboxRow {
    let id = EventId::generate(group.region());
    OutboxRow { id, conversation: group.into(), payload: Event { id, sender, body }.encode() }
}

const PUT: Words = Words {
    sqlite: "
        INSERT INTO outbox (event_id, conversation, payload)
        SELECT unhex(value ->> 'id'), unhex(value ->> 'conversation'), value ->> 'payload'
        FROM json_each($1) ORDER BY key",
    postgres: "
        INSERT INTO outbox (event_id, conversation, payload)
        SELECT event_id, conversation, payload
        FROM unnest($1::uuid[], $2::bytea[], $3::text[]) WITH ORDINALITY AS row (event_id, conversation, payload, place)
        ORDER BY row.place",
};

/// Puts events behind those that are there.
pub(super) async fn put(db: &mut Db<'_>, rows: &[OutboxRow]) -> Step<()> {
    for rows in rows.chunks(ROWS_AT_ONCE) {
        let put = match db.query(PUT) {
            Statement::Sqlite(put) => Statement::Sqlite(put.bind(json(rows))),
            Statement::Postgres(put) => {
                let ids: Vec<_> = rows.iter().map(|row| Uuid::from(row.id)).collect();
                let conversations: Vec<_> = rows.iter().map(|row| row.conversation.key()).collect();
                let payloads: Vec<_> = rows.iter().map(|row| text(row).into_owned()).collect();
                Statement::Postgres(put.bind(ids).bind(conversations).bind(payloads))
            }
        };
        put.execute(db).await?;
    }
    Ok(())
}

/// Rows as one parameter.
fn json(rows: &[OutboxRow]) -> String {
    let object = |row: &OutboxRow| {
        let (id, conversation) = (hex(row.id.as_bytes()), hex(&row.conversation.key()));
        serde_json::json!({ "id": id, "conversation": conversation, "payload": text(row) })
    };
    serde_json::Value::from_iter(rows.iter().map(object)).to_string()
}

fn text(row: &OutboxRow) -> Cow<'_, str> {
    String::from_utf8_lossy(&row.payload)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const OLDEST: &str = "SELECT event_id, conversation, payload FROM outbox ORDER BY place LIMIT $1 OFFSET $2";

/// The oldest events that are not yet in the log, after the first `skip` of them.
pub(super) async fn oldest(db: &mut Db<'_>, skip: usize, limit: usize) -> Result<Vec<OutboxRow>> {
    let (limit, skip) = (columns::limit(limit), columns::limit(skip));
    let rows = db.query(OLDEST).bind(limit).bind(skip).fetch_all(db).await?;
    rows.iter().map(outbox_row).collect()
}

fn outbox_row(row: &Row) -> Result<OutboxRow> {
    let key: &[u8] = row.get("conversation")?;
    let (conversation, _) = ConversationId::split_key(key).map_err(|error| Error::Damaged(error.to_string()))?;
    let payload: String = row.get("payload")?;
    Ok(OutboxRow { id: columns::id(row, "event_id", EventId::from_bytes)?, conversation, payload: payload.into() })
}

const TAKE_OUT: Words = Words {
    sqlite: "DELETE FROM outbox WHERE event_id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "DELETE FROM outbox WHERE event_id = ANY($1)",
};

/// Takes events out.
pub(super) async fn take_out(db: &mut Db<'_>, rows: &[EventId]) -> Result<()> {
    db.query(TAKE_OUT).bind_ids(rows).execute(db).await?;
    Ok(())
}
