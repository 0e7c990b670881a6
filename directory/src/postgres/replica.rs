//! Reads from a streaming replica, which lags behind the primary.
//!
//! A replica answers only once it has replayed the version that its readers must see; it is asked so on the very
//! connection that then reads, for behind one address may stand several. Where it takes too long, the primary
//! answers, and the replica is left alone for a moment, so that a broken one costs next to nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres};

use crate::sql::in_time;
use crate::{Error, Result, Version};

/// How long a read waits for a connection to the replica before it goes to the primary.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a read waits for the replica to catch up before it goes to the primary.
const CATCH_UP_TIMEOUT: Duration = Duration::from_millis(100);
/// How often the replica is asked meanwhile.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(5);
/// How long a replica that failed or lagged is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(2);
/// How old the newest version that is known may become before the primary is asked. Whatever notices of changes
/// are lost, no read is older than this.
const MAX_STALENESS: Duration = Duration::from_secs(1);

pub(super) struct Replica {
    pool: PgPool,
    /// What its readers must see.
    needed: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// When the primary was last asked for its version.
    asked: Option<Instant>,
    /// Until when it is left alone.
    left_alone: Option<Instant>,
}

impl Replica {
    pub(super) fn new(pool: PgPoolOptions, options: PgConnectOptions) -> Self {
        let pool = pool.acquire_timeout(ACQUIRE_TIMEOUT).connect_lazy_with(options);
        let state = Mutex::new(State { asked: None, left_alone: None });
        Self { pool, needed: AtomicU64::new(0), state }
    }

    pub(super) fn catch_up(&self, version: Version) {
        self.needed.fetch_max(version.0, Ordering::SeqCst);
    }

    /// A connection that sees what its readers must see; `None` when the primary is to be read.
    pub(super) async fn caught_up(&self, primary: &PgPool) -> Option<PoolConnection<Postgres>> {
        if self.is_left_alone() {
            return None;
        }
        if self.is_time_to_ask() {
            let asked = tokio::time::timeout(CATCH_UP_TIMEOUT, super::version(primary)).await;
            // Without the primary there are no newer versions either, and reads go on.
            if let Ok(Ok(version)) = asked {
                self.catch_up(version);
            }
        }
        let connection = self.connect().await.ok();
        self.state.lock().left_alone = connection.is_none().then(|| Instant::now() + LEFT_ALONE);
        connection
    }

    /// Of those who come when its time alone is over, the first one tries; the others wait for how it fares.
    fn is_left_alone(&self) -> bool {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let Some(until) = state.left_alone else { return false };
        if now >= until {
            state.left_alone = Some(now + LEFT_ALONE);
        }
        now < until
    }

    fn is_time_to_ask(&self) -> bool {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let is_time = state.asked.is_none_or(|asked| now >= asked + MAX_STALENESS);
        if is_time {
            state.asked = Some(now);
        }
        is_time
    }

    async fn connect(&self) -> Result<PoolConnection<Postgres>> {
        let mut connection = self.pool.acquire().await?;
        let needed = Version(self.needed.load(Ordering::SeqCst));
        let catching_up = async {
            while !has_replayed(&mut connection, needed).await? {
                tokio::time::sleep(CATCH_UP_PAUSE).await;
            }
            Ok(())
        };
        let caught_up = tokio::time::timeout(CATCH_UP_TIMEOUT, catching_up).await;
        caught_up.unwrap_or_else(|_| Err(Error::Unavailable("the replica lags behind".into())))?;
        Ok(connection)
    }
}

/// A server that is no replica, such as one that has just become the primary, has everything that there is.
const HAS_REPLAYED: &str = "
    SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() - '0/0'::pg_lsn >= $1";

async fn has_replayed(connection: &mut PoolConnection<Postgres>, needed: Version) -> Result<bool> {
    let asked = sqlx::query_scalar(HAS_REPLAYED).bind(needed.0.cast_signed()).fetch_one(&mut **connection);
    Ok(in_time(asked).await?)
}
