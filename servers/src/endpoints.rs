//! Where the servers are that tests share.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Where each server is. One that was not started is at [`NOT_STARTED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// A NATS server with JetStream: `nats://127.0.0.1:4222`.
    pub nats: String,
    /// Postgres, without a database, as a superuser: `postgres://postgres@127.0.0.1:5432`.
    pub postgres: String,
    /// A CQL server: `127.0.0.1:9042`.
    pub cassandra: String,
    /// ClickHouse over HTTP: `http://127.0.0.1:8123`.
    pub clickhouse: String,
    /// An S3 store.
    pub s3: S3,
}

/// An S3 store, with path-style addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// `http://127.0.0.1:8333`.
    pub endpoint: String,
    /// The name of its region.
    pub region: String,
    /// Who we are.
    pub access_key_id: String,
    /// What proves it.
    pub secret_access_key: String,
}

/// The address of a server that was not started: whoever tries to reach it reads why it cannot.
pub const NOT_STARTED: &str = "not-started";

impl Default for Endpoints {
    fn default() -> Self {
        let not_started = || NOT_STARTED.to_owned();
        Self {
            nats: not_started(),
            postgres: not_started(),
            cassandra: not_started(),
            clickhouse: not_started(),
            s3: S3 {
                endpoint: not_started(),
                region: not_started(),
                access_key_id: not_started(),
                secret_access_key: not_started(),
            },
        }
    }
}

impl Endpoints {
    /// Writes them where [`endpoints`] reads them when its runner names this file, as a whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let partial = path.with_extension("partial");
        std::fs::write(&partial, serde_json::to_string_pretty(self)?)?;
        Ok(std::fs::rename(partial, path)?)
    }
}

/// The variable that names the file of endpoints, when it is not where `cargo xtask services` puts it.
pub const ENDPOINTS_VARIABLE: &str = "ROOKERY_TEST_SERVERS";

/// The servers that tests share. Each test makes a stream name, database, keyspace or bucket of its own there.
///
/// # Panics
/// When they were not started: a test that needs a server fails without it.
#[must_use]
pub fn endpoints() -> &'static Endpoints {
    static ENDPOINTS: OnceLock<Endpoints> = OnceLock::new();
    ENDPOINTS.get_or_init(|| match read_endpoints() {
        Ok(endpoints) => endpoints,
        Err(error) => panic!("this test needs real servers: run `cargo xtask services up` first ({error:#})"),
    })
}

fn read_endpoints() -> Result<Endpoints> {
    let path = endpoints_file();
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} has another form", path.display()))
}

/// The file in which the endpoints stand that tests use.
#[must_use]
pub fn endpoints_file() -> PathBuf {
    named_endpoints_file().unwrap_or_else(shared_endpoints_file)
}

/// The file of endpoints that whoever started us names, if any.
#[must_use]
pub fn named_endpoints_file() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test asks its runner where the servers are")]
    let named = std::env::var_os(ENDPOINTS_VARIABLE);
    named.map(PathBuf::from)
}

/// The file into which `cargo xtask services up` writes.
#[must_use]
pub fn shared_endpoints_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("services/endpoints.json")
}
