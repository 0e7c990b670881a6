//! Reads from a real streaming replica that lags, and from one that is gone.

mod server;

use std::sync::Arc;
use std::time::Instant;

use server::Server;
use tempfile::TempDir;

use super::*;
use crate::Directory;
use crate::sql::Sql;

/// A primary and its replica, and the directory as two processes have it.
struct Pair {
    // First, for it is dropped on the primary.
    database: Database,
    primary: Server,
    replica: Server,
    /// Reads from the replica.
    edge: Arc<Sql>,
    /// Carries out commands.
    service: Shared,
    folder: TempDir,
}

const PAUSE: &str = "SELECT pg_wal_replay_pause()";
const IS_PAUSED: &str = "SELECT pg_get_wal_replay_pause_state() = 'paused'";
const RESUME: &str = "SELECT pg_wal_replay_resume()";
const IS_REPLICA: &str = "SELECT pg_is_in_recovery()";

impl Pair {
    /// A pair in which the edge does read from the replica.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let primary = Server::start(folder.path()).await;
        let database = Database::empty_on(&primary.url()).await;
        migrate(&database.url()).await.unwrap();
        let replica = primary.replica(folder.path()).await;
        let service = database.open().await;
        let edge = open(&database.url(), Some(&url_on(&replica, &database)), 4).await.unwrap();
        let pair = Self { primary, replica, database, edge: Arc::new(Sql::Postgres(Box::new(edge))), service, folder };
        pair.until_replica_is_read().await;
        pair
    }

    fn edge(&self) -> Shared {
        self.edge.clone()
    }

    async fn on_replica(&self) -> PgConnection {
        parse(&url_on(&self.replica, &self.database)).unwrap().connect().await.unwrap()
    }

    /// From now on the replica shows nothing new.
    async fn pause(&self) {
        let mut db = self.on_replica().await;
        sqlx::query(PAUSE).execute(&mut db).await.unwrap();
        eventually(async || sqlx::query_scalar(IS_PAUSED).fetch_one(&mut db).await.unwrap()).await;
    }

    async fn resume(&self) {
        sqlx::query(RESUME).execute(&mut self.on_replica().await).await.unwrap();
    }

    async fn is_replica_read(&self) -> bool {
        let Sql::Postgres(store) = &*self.edge else { unreachable!("it is on Postgres") };
        let Reader::Postgres(mut connection) = store.reader().await.unwrap() else { unreachable!("it is on Postgres") };
        sqlx::query_scalar(IS_REPLICA).fetch_one(&mut *connection).await.unwrap()
    }

    async fn until_replica_is_read(&self) {
        eventually(async || self.is_replica_read().await).await;
    }

    /// Registers a user by the service, and gives the version of its answer.
    async fn register(&self, username: &str) -> (types::UserId, Version) {
        let user = register(&self.service, username).await;
        (user.id, self.service.version().await.unwrap())
    }

    async fn is_seen(&self, user: types::UserId) -> bool {
        self.edge().users(&[user]).await.unwrap()[0].is_some()
    }
}

fn url_on(server: &Server, database: &Database) -> Secret {
    format!("{}/{}", server.url(), database.name).into()
}

async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_misses_an_own_write_while_the_replica_lags() {
    let pair = Pair::new().await;
    for round in 0..3 {
        pair.until_replica_is_read().await;
        pair.pause().await;
        let (user, version) = pair.register(&format!("user{round}")).await;
        pair.edge.catch_up(version);
        assert!(pair.is_seen(user).await);
        assert!(!pair.is_replica_read().await);
        pair.resume().await;
        pair.until_replica_is_read().await;
        assert!(pair.is_seen(user).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_told_of_is_seen_soon_all_the_same() {
    let pair = Pair::new().await;
    pair.pause().await;
    let (user, _) = pair.register("ada").await;
    let started = Instant::now();
    eventually(async || pair.is_seen(user).await).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_answers_while_the_replica_is_gone() {
    let mut pair = Pair::new().await;
    pair.replica.kill();
    let started = Instant::now();
    for number in 0..20 {
        let (user, version) = pair.register(&format!("user{number}")).await;
        pair.edge.catch_up(version);
        // A connection that breaks under a question fails that question alone.
        if let Ok(users) = pair.edge().users(&[user]).await {
            assert!(users[0].is_some());
        }
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    pair.replica.restart().await;
    pair.until_replica_is_read().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_answers_while_the_primary_is_gone_and_takes_no_command() {
    let mut pair = Pair::new().await;
    let (user, version) = pair.register("ada").await;
    pair.edge.catch_up(version);
    pair.until_replica_is_read().await;
    pair.primary.kill();
    let started = Instant::now();
    let command = Command::Register { user: new_user("bob"), session: None };
    assert!(matches!(pair.service.execute(&command).await, Err(Error::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(pair.is_seen(user).await);

    let read_only =
        Config::Postgres { url: url_on(&pair.replica, &pair.database), replica_url: None, max_connections: 2 };
    let read_only = crate::open(&read_only, pair.folder.path()).await.unwrap();
    assert!(matches!(read_only.execute(&command).await, Err(Error::Unavailable(_))));
    pair.primary.restart().await;
    eventually(async || pair.service.execute(&command).await.is_ok()).await;
}
