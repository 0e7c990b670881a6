//! The table of ids: which event bore an id first, and where it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::try_join_all;
use scylla::statement::prepared::PreparedStatement;
use types::{ConversationId, EventId};

use super::connection::Connection;
use super::events::{Class, Place, ROWS_NAMED};
use super::stamp::{self, Bucket};
use crate::{Error, Result};

/// Reads of ids.
pub(super) struct Ids {
    connection: Arc<Connection>,
    find: PreparedStatement,
}

type Row = (Vec<u8>, Option<i64>, Option<i8>, Option<i32>);

const FIND: &str = "SELECT id, seq, class, event_bucket FROM ids WHERE conversation = ? AND bucket = ? AND id IN ?";

impl Ids {
    pub(super) async fn prepare(connection: &Arc<Connection>) -> Result<Self> {
        Ok(Self { connection: Arc::clone(connection), find: connection.prepare_read(FIND).await? })
    }

    /// Where the first events of these ids are, as far as there are any.
    pub(super) async fn find(
        &self,
        conversation: ConversationId,
        ids: impl IntoIterator<Item = EventId>,
    ) -> Result<HashMap<EventId, Place>> {
        let mut buckets: BTreeMap<Bucket, Vec<EventId>> = BTreeMap::new();
        for id in ids {
            buckets.entry(bucket(id)).or_default().push(id);
        }
        let key = conversation.key();
        let questions = buckets.iter_mut().flat_map(|(bucket, ids)| {
            ids.sort_unstable();
            ids.dedup();
            ids.chunks(ROWS_NAMED).map(|ids| (*bucket, ids.iter().map(|id| *id.as_bytes()).collect::<Vec<_>>()))
        });
        let answers = questions.map(|(bucket, ids)| self.connection.rows::<Row>(&self.find, (&key, bucket.0, ids)));
        try_join_all(answers).await?.into_iter().flatten().map(read).collect()
    }
}

/// The bucket that an id is kept in. It is read off the id, so that one look finds it.
pub(super) fn bucket(id: EventId) -> Bucket {
    Bucket::of(id.born_at())
}

fn read(row: Row) -> Result<(EventId, Place)> {
    let damaged = || Error::Damaged("the row of an id is not whole".into());
    let (id, Some(seq), Some(class), Some(bucket)) = row else { return Err(damaged()) };
    let id = id.try_into().ok().and_then(|bytes| EventId::from_bytes(bytes).ok()).ok_or_else(damaged)?;
    Ok((id, Place { bucket: Bucket(bucket), class: Class::decode(class)?, seq: stamp::seq(seq)? }))
}
