//! The connection to the server: how it is asked, and what its errors mean.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{BadQuery, ExecutionError, PrepareError, RequestAttemptError};
use scylla::frame::types::Consistency;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::Batch;
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::Semaphore;

use crate::{CqlServer, Error, Result};

/// Writes that are on their way at once, of all callers together. More do not make a server faster, but let it
/// take on more than it can do.
const WRITES_AT_ONCE: usize = 64;
/// How long a read may go unanswered before another replica is asked as well.
const SPECULATE_AFTER: Duration = Duration::from_millis(100);
/// How many more replicas are asked.
const SPECULATIVE_READS: usize = 1;
/// Rows that are fetched at a time.
const ROWS_AT_ONCE: i32 = 256;
/// How long finding the server and its nodes may take, however many are away.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);

/// A session with the server. The driver keeps connections to all nodes, and renews them by itself.
pub(super) struct Connection {
    pub(super) session: Session,
    reads: ExecutionProfileHandle,
    writes: Semaphore,
    /// How many requests were made.
    #[cfg(test)]
    pub(super) requests: std::sync::atomic::AtomicUsize,
}

impl Connection {
    /// Finds the server and its nodes; no keyspace is chosen yet.
    pub(super) async fn open(server: &CqlServer) -> Result<Self> {
        let writes = profile(server);
        let speculation =
            SimpleSpeculativeExecutionPolicy { max_retry_count: SPECULATIVE_READS, retry_interval: SPECULATE_AFTER };
        let reads = writes.to_builder().speculative_execution_policy(Some(Arc::new(speculation))).build();
        let timeout = request_timeout(server);
        let mut builder = SessionBuilder::new()
            .known_nodes(&server.nodes)
            .keyspaces_to_fetch([&server.keyspace])
            .connection_timeout(timeout)
            .default_execution_profile_handle(writes.into_handle());
        if let (Some(username), Some(password)) = (&server.username, &server.password) {
            builder = builder.user(username, password.expose());
        }
        let session = tokio::time::timeout(CONNECT_PATIENCE, builder.build()).await;
        let session = session.map_err(|_| Error::Unavailable("the server does not answer".into()))?;
        let session = session.map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Self {
            session,
            reads: reads.into_handle(),
            writes: Semaphore::new(WRITES_AT_ONCE),
            #[cfg(test)]
            requests: Default::default(),
        })
    }

    /// Prepares a statement that reads.
    pub(super) async fn prepare_read(&self, cql: &str) -> Result<PreparedStatement> {
        let mut statement = self.prepare_write(cql).await?;
        statement.set_execution_profile_handle(Some(self.reads.clone()));
        statement.set_page_size(ROWS_AT_ONCE);
        Ok(statement)
    }

    /// Prepares a statement that writes. Ours may all be repeated: see [`super::stamp`].
    pub(super) async fn prepare_write(&self, cql: &str) -> Result<PreparedStatement> {
        let mut statement = self.session.prepare(cql).await.map_err(prepare_error)?;
        statement.set_is_idempotent(true);
        Ok(statement)
    }

    /// All rows. The statement bounds how many those can be.
    pub(super) async fn rows<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Vec<R>>
    where
        R: for<'r> DeserializeRow<'r, 'r>,
    {
        let mut rows = Vec::new();
        let mut page = PagingState::start();
        loop {
            self.count();
            let answer = self.session.execute_single_page(statement, &values, page).await;
            let (answer, state) = answer.map_err(execution_error)?;
            let answer = answer.into_rows_result().map_err(damaged)?;
            for row in answer.rows::<R>().map_err(damaged)? {
                rows.push(row.map_err(damaged)?);
            }
            match state {
                PagingStateResponse::HasMorePages { state } => page = state,
                PagingStateResponse::NoMorePages => return Ok(rows),
            }
        }
    }

    /// The only row, if there is one.
    pub(super) async fn row<R>(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<Option<R>>
    where
        R: for<'r> DeserializeRow<'r, 'r>,
    {
        Ok(self.rows(statement, values).await?.pop())
    }

    /// Writes one row.
    pub(super) async fn write(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<()> {
        let _permit = self.writes.acquire().await.map_err(|_| Error::Unavailable("it is closed".into()))?;
        self.count();
        self.session.execute_unpaged(statement, values).await.map(drop).map_err(execution_error)
    }

    fn count(&self) {
        #[cfg(test)]
        self.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes rows of one partition, all at once.
    pub(super) async fn write_batch(&self, batch: &Batch, values: &[impl SerializeRow]) -> Result<()> {
        let _permit = self.writes.acquire().await.map_err(|_| Error::Unavailable("it is closed".into()))?;
        self.count();
        self.session.batch(batch, values).await.map(drop).map_err(execution_error)
    }
}

pub(super) fn request_timeout(server: &CqlServer) -> Duration {
    Duration::from_millis(server.request_timeout_ms.into())
}

fn profile(server: &CqlServer) -> ExecutionProfile {
    let mut nodes = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &server.local_datacenter {
        nodes = nodes.prefer_datacenter(datacenter.clone());
    }
    ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(request_timeout(server)))
        .load_balancing_policy(nodes.build())
        .build()
}

/// What a failed request means: nearly always that it may succeed later, also when the server says that there is no
/// such table, for an operator can bring it back.
pub(super) fn execution_error(error: ExecutionError) -> Error {
    match &error {
        ExecutionError::BadQuery(BadQuery::SerializationError(_))
        | ExecutionError::LastAttemptError(RequestAttemptError::CqlResultParseError(_)) => damaged(error),
        _ => Error::Unavailable(error.to_string()),
    }
}

fn prepare_error(error: PrepareError) -> Error {
    Error::Unavailable(error.to_string())
}

/// What was read is not what the schema says.
pub(super) fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}
