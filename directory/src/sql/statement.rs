//! One statement, on either store. Most are worded so that both understand them; what the two must say
//! differently is [`Words`].

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::types::Uuid;
use sqlx::{Decode, Encode, PgConnection, Postgres, Row as _, Sqlite, SqliteConnection, Type};

/// How long one statement may take on a server, in all. The server gives up after the same time.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, or a transaction on one.
pub(crate) enum Db<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// One statement in two wordings.
pub(super) struct Words {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

impl From<&'static str> for Words {
    fn from(both: &'static str) -> Self {
        Self { sqlite: both, postgres: both }
    }
}

impl Db<'_> {
    pub(super) fn query(&self, words: impl Into<Words>) -> Statement {
        let words = words.into();
        match self {
            Self::Sqlite(_) => Statement::Sqlite(sqlx::query(words.sqlite)),
            Self::Postgres(_) => Statement::Postgres(sqlx::query(words.postgres)),
        }
    }
}

/// A statement with its parameters, to be run on the kind of connection that made it.
pub(super) enum Statement {
    Sqlite(Query<'static, Sqlite, SqliteArguments>),
    Postgres(Query<'static, Postgres, PgArguments>),
}

impl Statement {
    pub(super) fn bind<'t, T>(self, value: T) -> Self
    where
        T: Encode<'t, Sqlite> + Type<Sqlite> + Encode<'t, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(query) => Self::Sqlite(query.bind(value)),
            Self::Postgres(query) => Self::Postgres(query.bind(value)),
        }
    }

    /// Ids as one parameter: for SQLite a JSON array of hexadecimal texts, to be read with
    /// `(SELECT unhex(value) FROM json_each($1))`, for Postgres an array.
    pub(super) fn bind_ids<T: Copy + Into<Uuid>>(self, ids: &[T]) -> Self {
        let ids = ids.iter().map(|id| (*id).into());
        match self {
            Self::Sqlite(query) => {
                let texts = ids.map(|id| id.simple().to_string());
                Self::Sqlite(query.bind(serde_json::Value::from_iter(texts).to_string()))
            }
            Self::Postgres(query) => Self::Postgres(query.bind(ids.collect::<Vec<_>>())),
        }
    }

    /// How many rows it changed.
    pub(super) async fn execute(self, db: &mut Db<'_>) -> sqlx::Result<u64> {
        match (self, db) {
            (Self::Sqlite(query), Db::Sqlite(db)) => Ok(query.execute(&mut **db).await?.rows_affected()),
            (Self::Postgres(query), Db::Postgres(db)) => Ok(in_time(query.execute(&mut **db)).await?.rows_affected()),
            _ => unreachable!("a statement is run on the store that made it"),
        }
    }

    pub(super) async fn fetch_all(self, db: &mut Db<'_>) -> sqlx::Result<Vec<Row>> {
        match (self, db) {
            (Self::Sqlite(query), Db::Sqlite(db)) => {
                Ok(query.fetch_all(&mut **db).await?.into_iter().map(Row::Sqlite).collect())
            }
            (Self::Postgres(query), Db::Postgres(db)) => {
                Ok(in_time(query.fetch_all(&mut **db)).await?.into_iter().map(Row::Postgres).collect())
            }
            _ => unreachable!("a statement is run on the store that made it"),
        }
    }

    pub(super) async fn fetch_optional(self, db: &mut Db<'_>) -> sqlx::Result<Option<Row>> {
        Ok(self.fetch_all(db).await?.into_iter().next())
    }

    pub(super) async fn fetch_one(self, db: &mut Db<'_>) -> sqlx::Result<Row> {
        self.fetch_optional(db).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

/// A server that has vanished would be waited for until the network gives up, which takes a quarter of an hour.
pub(crate) async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    within(STATEMENT_TIMEOUT, answer).await
}

pub(crate) async fn within<T>(timeout: Duration, answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let timed_out = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(timeout, answer).await.map_err(timed_out)?
}

/// A row of a result.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(super) fn get<'r, T>(&'r self, column: &str) -> sqlx::Result<T>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}
