//! The table of peers: who has a direct conversation with whom.

use std::sync::Arc;

use scylla::statement::prepared::PreparedStatement;
use types::{ConversationId, UserId};

use super::connection::Connection;
use super::events::rows;
use super::stamp;
use crate::{Error, Result};

/// Reads and writes of peers.
pub(super) struct Peers {
    connection: Arc<Connection>,
    list: PreparedStatement,
    write: PreparedStatement,
}

const LIST: &str = "SELECT peer FROM peers WHERE user = ? AND peer > ? LIMIT ?";
const WRITE: &str = "INSERT INTO peers (user, peer) VALUES (?, ?) USING TIMESTAMP ?";

impl Peers {
    pub(super) async fn prepare(connection: &Arc<Connection>) -> Result<Self> {
        Ok(Self {
            connection: Arc::clone(connection),
            list: connection.prepare_read(LIST).await?,
            write: connection.prepare_write(WRITE).await?,
        })
    }

    /// See [`crate::History::peers`].
    pub(super) async fn list(&self, (user, after): (UserId, Option<UserId>), limit: usize) -> Result<Vec<UserId>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let after: &[u8] = after.as_ref().map_or(&[], |after| after.as_bytes());
        let values = (user.as_bytes(), after, rows(limit));
        self.connection.rows::<(Vec<u8>,)>(&self.list, values).await?.into_iter().map(|(peer,)| read(peer)).collect()
    }

    /// Notes that a direct conversation has begun; of any other there is nothing to note.
    pub(super) async fn write(&self, conversation: ConversationId, seq: u64) -> Result<()> {
        let ConversationId::Direct(one, other) = conversation else { return Ok(()) };
        let stamp = stamp::first_wins(seq);
        self.connection.write(&self.write, (one.as_bytes(), other.as_bytes(), stamp)).await?;
        self.connection.write(&self.write, (other.as_bytes(), one.as_bytes(), stamp)).await
    }
}

fn read(peer: Vec<u8>) -> Result<UserId> {
    let peer = peer.try_into().ok().and_then(|bytes| UserId::from_bytes(bytes).ok());
    peer.ok_or_else(|| Error::Damaged("a peer is no user".into()))
}
