//! Who relays the outbox.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::OwnedSemaphorePermit;

use crate::{Error, Result};

/// How long the server may take to say that the lease still holds.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The right to relay the outbox, which one relay has at a time. Given back when dropped.
pub struct Lease(Holder);

enum Holder {
    /// Of the one process that there is.
    Process { _permit: OwnedSemaphorePermit },
    /// It holds as long as the connection does, whose session has a lock on the server.
    Connection(PgConnection),
}

impl Lease {
    pub(crate) fn of_process(permit: OwnedSemaphorePermit) -> Self {
        Self(Holder::Process { _permit: permit })
    }

    pub(crate) fn of_connection(connection: PgConnection) -> Self {
        Self(Holder::Connection(connection))
    }

    /// Passes while the lease holds. Once it was lost, another relay may have begun.
    ///
    /// # Errors
    /// When it is lost, or nobody can tell.
    pub async fn check(&mut self) -> Result<()> {
        let Holder::Connection(connection) = &mut self.0 else { return Ok(()) };
        let answered = tokio::time::timeout(CHECK_TIMEOUT, connection.ping()).await;
        let lost = |reason: String| Error::Unavailable(format!("the lease on the outbox is lost: {reason}"));
        answered.map_err(|error| lost(error.to_string()))?.map_err(|error| lost(error.to_string()))
    }
}
