//! The contract on Postgres, and what only a shared server can do.

mod replica;

use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::AssertSqlSafe;

use super::*;
use crate::contract::{Shared, add, at, create, create_group, done, refused, register, remove};
use crate::{Config, MAX_MEMBERS};

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
