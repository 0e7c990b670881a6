//! The contract on Postgres, and what only a shared server can do.

mod replica;
mod silence;

use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::AssertSqlSafe;

use super::*;
use crate::contract::{Shared, add, at, at_once, create, create_group, done, new_user, register, register_all};
use crate::{Config, MAX_MEMBERS, MAX_NAMES_SEARCHED};

/// A database of its own on the shared server. Dropped with the test that has it, if that ends well.
pub(super) struct Database {
    server: String,
    name: String,
}

impl Database {
    /// A new one, without a schema.
    pub(super) async fn empty_on(server: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("directory_{}_{count}_{}", std::process::id(), types::Timestamp::now().as_millis());
        let database = Self { server: server.to_owned(), name };
        database.administer(format!("CREATE DATABASE {}", database.name)).await;
        database
    }

    /// A new one on the server that tests share, with the present schema.
    async fn migrated() -> Self {
        let database = Self::empty_on(&servers::endpoints().postgres).await;
        migrate(&database.url()).await.unwrap();
        database
    }

    pub(super) fn url(&self) -> Secret {
        format!("{}/{}", self.server, self.name).into()
    }

    fn config(&self) -> Config {
        Config::Postgres { url: self.url(), replica_url: None, max_connections: 8 }
    }

    async fn open(&self) -> Shared {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Shared> {
        crate::open(&self.config(), std::path::Path::new("/nowhere")).await
    }

    /// A connection of its own, to do what the directory itself never does.
    pub(super) async fn connect(&self) -> PgConnection {
        parse(&self.url()).unwrap().connect().await.unwrap()
    }

    /// Says something to the server and not to this database.
    async fn administer(&self, sql: String) {
        let url = format!("{}/postgres", self.server).into();
        let mut connection = parse(&url).unwrap().connect().await.unwrap();
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let url = format!("{}/postgres", self.server).into();
        // A thread with a runtime of its own: this one may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = parse(&url).unwrap().connect().await.unwrap();
                sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await.unwrap();
            });
        });
        dropping.join().unwrap();
    }
}

/// A new directory in a database of its own.
async fn fresh() -> (Shared, Database) {
    let database = Database::migrated().await;
    (database.open().await, database)
}

crate::contract::on!(super::fresh);

#[tokio::test]
async fn a_schema_is_migrated_once_though_two_do_so_at_once() {
    let database = Database::empty_on(&servers::endpoints().postgres).await;
    let Err(Error::Unfit(reason)) = database.try_open().await else { panic!("it was opened") };
    assert!(reason.contains("run `rookery migrate`"), "{reason}");
    let (config, folder) = (database.config(), std::path::Path::new("/nowhere"));
    let (one, other) = tokio::join!(crate::migrate(&config, folder), crate::migrate(&config, folder));
    one.and(other).unwrap();
    register(&database.open().await, "ada").await;
    crate::migrate(&config, folder).await.unwrap();
    let directory = database.open().await;
    assert!(directory.credentials("ada").await.unwrap().is_some());
}

const TOMORROW: &str = "
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (9000, 'of tomorrow', TRUE, '', 0)";

#[tokio::test]
async fn a_newer_schema_is_worked_on_and_never_taken_back() {
    let (_, database) = fresh().await;
    sqlx::query(TOMORROW).execute(&mut database.connect().await).await.unwrap();
    register(&database.open().await, "ada").await;
    let migrated = migrate(&database.url()).await;
    let Err(Error::Damaged(reason)) = migrated else { panic!("{migrated:?}") };
    assert!(reason.contains("9000") && reason.contains("newer program"), "{reason}");
}

const FORGETFUL: &str = "
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$";

#[tokio::test]
async fn a_server_that_would_lose_what_it_acknowledged_is_refused() {
    let (_, database) = fresh().await;
    sqlx::query(FORGETFUL).execute(&mut database.connect().await).await.unwrap();
    let Err(Error::Unfit(reason)) = database.try_open().await else { panic!("it was opened") };
    assert!(reason.contains("synchronous_commit"), "{reason}");
}

#[tokio::test]
async fn a_server_without_the_user_or_the_database_is_not_waited_for() {
    let server = &servers::endpoints().postgres;
    let known = parse(&server.clone().into()).unwrap().get_username().to_owned();
    for url in [format!("{server}/no_such_database"), format!("{server}/postgres").replace(&known, "no_such_user")] {
        let config = Config::Postgres { url: url.clone().into(), replica_url: None, max_connections: 1 };
        let opened = crate::open(&config, std::path::Path::new("/nowhere")).await.map(drop);
        assert!(matches!(opened, Err(Error::Unfit(_))), "{url}: {opened:?}");
        let migrated = migrate(&url.clone().into()).await;
        assert!(matches!(migrated, Err(Error::Unfit(_))), "{url}: {migrated:?}");
    }
}

#[tokio::test]
async fn nobody_sees_the_password_of_the_address() {
    for url in ["postgres://rook:sesame@127.0.0.1:1/rookery", "rook:sesame@host", "postgres://rook:sesame@host:x/"] {
        let config = Config::Postgres { url: url.to_owned().into(), replica_url: None, max_connections: 1 };
        let opened = crate::open(&config, std::path::Path::new("/nowhere")).await;
        let Err(Error::Unavailable(reason) | Error::Unfit(reason)) = opened else { panic!("it was opened") };
        assert!(!reason.contains("sesame"), "{reason}");
        assert!(!format!("{config:?}").contains("sesame"));
    }
}

const DROP_SESSIONS: &str = "
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_connection_breaks_is_carried_out_once_when_it_is_sent_again() {
    let (directory, database) = fresh().await;
    let owner = register(&directory, "owner").await.id;
    let mut db = database.connect().await;
    let commands: Vec<_> = (0..200).map(|_| create(owner, &[])).collect();
    let mut failed = 0;
    for (number, command) in commands.iter().enumerate() {
        let sent = directory.execute(command);
        // Broken at another moment of each command.
        let breaking = async {
            a_moment(number % 10).await;
            sqlx::query(DROP_SESSIONS).execute(&mut db).await.unwrap();
        };
        let (mut done, ()) = tokio::join!(sent, breaking);
        while let Err(error) = done {
            assert!(matches!(error, Error::Unavailable(_)), "{error}");
            failed += 1;
            done = directory.execute(command).await;
        }
        done.unwrap().unwrap();
    }
    assert!(failed > 0, "no connection broke");
    assert_eq!(directory.groups_of(owner).await.unwrap().len(), commands.len());
    assert_eq!(directory.outbox(0, 1_000).await.unwrap().len(), commands.len());
}

/// Lets others go on so many times.
async fn a_moment(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

const SEIZE: &str = "LOCK TABLE users IN ACCESS EXCLUSIVE MODE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_unavailable_and_mends_by_itself() {
    let (directory, database) = fresh().await;
    let ada = register(&directory, "ada").await.id;
    let mut db = database.connect().await;
    let mut seizing = db.begin().await.unwrap();
    sqlx::query(SEIZE).execute(&mut *seizing).await.unwrap();
    let started = std::time::Instant::now();
    // More than there are connections: some wait for a lock, some for a connection.
    let calls = (0..20).map(|_| {
        let directory = directory.clone();
        async move { directory.execute(&create(ada, &[])).await }
    });
    for done in calls.collect::<tokio::task::JoinSet<_>>().join_all().await {
        assert!(matches!(done, Err(Error::Unavailable(_))), "{done:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    seizing.rollback().await.unwrap();
    create_group(&directory, ada, &[]).await;
    assert_eq!(directory.groups_of(ada).await.unwrap().len(), 1);
}

const WAITING: &str = "
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Within a transaction what other sessions do is looked up once and remembered, unless that is forgotten.
const LOOK_AGAIN: &str = "SELECT pg_stat_clear_snapshot()";

/// Waits until so many sessions wait for a lock.
async fn until_waiting(db: &mut PgConnection, sessions: i64) {
    let waiting = async {
        while sqlx::query_scalar::<_, i64>(WAITING).fetch_one(&mut *db).await.unwrap() < sessions {
            sqlx::query(LOOK_AGAIN).execute(&mut *db).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

const HOLD_UP_NAMES: &str = "LOCK TABLE usernames IN SHARE MODE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_first_registrations_that_overlap_one_is_the_first() {
    let (directory, database) = fresh().await;
    let mut db = database.connect().await;
    let mut holding = db.begin().await.unwrap();
    sqlx::query(HOLD_UP_NAMES).execute(&mut *holding).await.unwrap();
    let registering = ["ada", "bob"].map(|name| {
        let directory = directory.clone();
        tokio::spawn(async move { register(&directory, name).await })
    });
    // One before it commits, the other before it looks whether it is the first.
    until_waiting(&mut holding, 2).await;
    holding.rollback().await.unwrap();
    let mut operators = 0;
    for registered in registering {
        operators += usize::from(!registered.await.unwrap().roles.is_empty());
    }
    assert_eq!(operators, 1);
}

const HOLD_UP_USERS: &str = "LOCK TABLE users IN SHARE MODE";
const HOLD: &str = "INSERT INTO usernames (folded, user_id) VALUES ('lady', $1)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_given_and_left_meanwhile_stays_reserved() {
    let (directory, database) = fresh().await;
    let ada = register(&directory, "ada").await.id;
    let mut db = database.connect().await;
    let mut holding = db.begin().await.unwrap();
    sqlx::query(HOLD_UP_USERS).execute(&mut *holding).await.unwrap();
    let late = Command::Register { user: new_user("lady"), session: None };
    let registering = tokio::spawn(async move { directory.execute(&late).await.unwrap() });
    until_waiting(&mut holding, 1).await;
    // It has found the name free. Ada takes it and goes on to another one.
    sqlx::query(HOLD).bind(sqlx::types::Uuid::from(ada)).execute(&mut *holding).await.unwrap();
    holding.commit().await.unwrap();
    assert_eq!(registering.await.unwrap(), Err(Refusal::UsernameTaken));
}

const DROP_LEASES: &str = "
    SELECT pg_terminate_backend(pid, 20000) FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test]
async fn a_lease_that_was_lost_is_known_to_be_lost_and_passes_on() {
    let (one, database) = fresh().await;
    let other = database.open().await;
    let mut lease = one.lease().await.unwrap().unwrap();
    assert!(other.lease().await.unwrap().is_none());
    assert!(other.lease().await.unwrap().is_none());
    sqlx::query(DROP_LEASES).execute(&mut database.connect().await).await.unwrap();
    assert!(matches!(lease.check().await, Err(Error::Unavailable(_))));
    let mut next = other.lease().await.unwrap().unwrap();
    assert!(one.lease().await.unwrap().is_none());
    next.check().await.unwrap();
}

const FILL: &str = "
    INSERT INTO users (id, username, name, email, password_hash, roles, fingerprint, created_at, updated_at)
    SELECT ('01980a8e-6c00-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'u', '', '', '', '[]', '', 0, 0
    FROM generate_series(1, $2) AS n WHERE $1 IS NOT NULL";
const JOIN: &str = "INSERT INTO members SELECT $1, id, 0 FROM users WHERE username = 'u' AND $2 > 0";
const RECOUNT: &str = "
    UPDATE groups SET members_count = (SELECT count(*) FROM members WHERE group_id = groups.id)
    WHERE id = $1 AND $2 > 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_fills_to_its_limit_and_ends_whole() {
    let (directory, database) = fresh().await;
    let owner = register(&directory, "owner").await.id;
    let late: [types::UserId; 6] = register_all(&directory).await;
    let group = create_group(&directory, owner, &[]).await.id;
    let mut db = database.connect().await;
    let missing = i64::try_from(MAX_MEMBERS - 3).unwrap();
    for sql in [FILL, JOIN, RECOUNT] {
        sqlx::query(sql).bind(sqlx::types::Uuid::from(group)).bind(missing).execute(&mut db).await.unwrap();
    }
    let joined = at_once(&directory, late.map(|user| add(group, owner, &[user]))).await;
    assert_eq!(joined.iter().filter(|done| done.is_ok()).count(), 2);
    assert_eq!(joined.iter().filter(|done| **done == Err(Refusal::TooManyMembers)).count(), 4);
    let full = directory.groups(&[group]).await.unwrap().remove(0).unwrap();
    assert_eq!(full.members_count, u64::try_from(MAX_MEMBERS).unwrap());
    let outcome = done(&directory, Command::DeleteGroup { group, by: owner, at: at(3) }).await;
    assert_eq!(outcome.events.len(), MAX_MEMBERS);
    assert_eq!(directory.outbox(0, MAX_MEMBERS + 10).await.unwrap()[3..], outcome.events[..]);
}

/// How many statements this connection has carried out.
const CARRIED_OUT: &str = "SELECT coalesce(sum(generic_plans + custom_plans), 0)::bigint FROM pg_prepared_statements";

/// How many statements it takes to delete a user who is in so many groups of each kind.
async fn statements_of_deletion(groups: usize) -> i64 {
    let database = Database::migrated().await;
    let store = open(&database.url(), None, 1).await.unwrap();
    let only = store.primary.clone();
    let directory: Shared = std::sync::Arc::new(sql::Sql::Postgres(Box::new(store)));
    let (ada, bob) = (register(&directory, "ada").await.id, register(&directory, "bob").await.id);
    for _ in 0..groups {
        create_group(&directory, ada, &[]).await;
        create_group(&directory, ada, &[bob]).await;
        create_group(&directory, bob, &[ada]).await;
    }
    let before: i64 = sqlx::query_scalar(CARRIED_OUT).fetch_one(&only).await.unwrap();
    done(&directory, Command::DeleteUser { user: ada, at: at(2) }).await;
    let after: i64 = sqlx::query_scalar(CARRIED_OUT).fetch_one(&only).await.unwrap();
    after - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_leaves_many_groups_by_as_many_statements_as_few() {
    let few = statements_of_deletion(1).await;
    assert!(few > 5, "{few}");
    assert_eq!(statements_of_deletion(20).await, few);
}

const FILL_NAMES: &str = "
    INSERT INTO users (id, username, username_folded, name, name_folded, email, password_hash, roles, fingerprint,
        created_at, updated_at)
    SELECT ('01980a8e-6c00-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, username, username, name, name, '', '',
        '[]', '', 0, 0
    FROM generate_series(1, $1) AS n,
        LATERAL (SELECT 'u' || lpad(($1 - n)::text, 6, '0') AS username, 'a' || lpad(n::text, 6, '0') AS name)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_looks_through_so_many_names_and_no_more() {
    let (directory, database) = fresh().await;
    let one_more = i64::try_from(MAX_NAMES_SEARCHED + 1).unwrap();
    sqlx::query(FILL_NAMES).bind(one_more).execute(&mut database.connect().await).await.unwrap();
    crate::contract::users::the_last_of_too_many_names_is_not_found(&directory).await;
}
