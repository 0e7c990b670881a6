//! The table of read marks.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use scylla::statement::prepared::PreparedStatement;
use types::{ConversationId, UserId};

use super::connection::Connection;
use super::events::ROWS_NAMED;
use super::stamp;
use crate::Result;

/// Reads and writes of read marks.
pub(super) struct Marks {
    connection: Arc<Connection>,
    read: PreparedStatement,
    write: PreparedStatement,
}

const READ: &str = "SELECT conversation, seq FROM read_marks WHERE user = ? AND conversation IN ?";
const WRITE: &str = "INSERT INTO read_marks (user, conversation, seq) VALUES (?, ?, ?) USING TIMESTAMP ?";

impl Marks {
    pub(super) async fn prepare(connection: &Arc<Connection>) -> Result<Self> {
        Ok(Self {
            connection: Arc::clone(connection),
            read: connection.prepare_read(READ).await?,
            write: connection.prepare_write(WRITE).await?,
        })
    }

    /// How far a user has read each conversation, 0 when not at all, in the order of the question.
    pub(super) async fn read(&self, user: UserId, conversations: &[ConversationId]) -> Result<Vec<u64>> {
        let keys: Vec<_> = conversations.iter().map(ConversationId::key).collect();
        let parts = keys.chunks(ROWS_NAMED);
        let answers = parts.map(|keys| self.connection.rows::<(Vec<u8>, i64)>(&self.read, (user.as_bytes(), keys)));
        let answers: Vec<_> = try_join_all(answers).await?;
        let marks: HashMap<Vec<u8>, i64> = answers.into_iter().flatten().collect();
        keys.iter().map(|key| marks.get(key).map_or(Ok(0), |seq| stamp::seq(*seq))).collect()
    }

    /// Raises the mark: of all that were ever written the greatest stays, in whichever order they come. Gives the
    /// mark as it then stands.
    pub(super) async fn raise(&self, user: UserId, (conversation, seq): (ConversationId, u64)) -> Result<u64> {
        if seq > 0 {
            let values = (user.as_bytes(), conversation.key(), stamp::number(seq), stamp::last_wins(seq));
            self.connection.write(&self.write, values).await?;
        }
        Ok(self.read(user, &[conversation]).await?.into_iter().max().unwrap_or_default())
    }
}
