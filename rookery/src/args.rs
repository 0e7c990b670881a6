//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use types::Timestamp;

/// A chat back end: one process on a laptop, or a cluster of many.
///
/// Without a command, every role runs in this process, on stores in the data folder unless configured otherwise.
#[derive(Debug, Parser)]
#[command(name = "rookery", version)]
pub struct Args {
    /// The folder of the embedded stores [default: rookery-data]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// The configuration file [default: rookery.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// What to do instead of running every role
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running every role.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an edge: REST and WebSocket
    Edge,
    /// Run ingest: log to history, and the directory service
    Ingest,
    /// Run the analytics worker: log to counts
    Analytics,
    /// Print the effective configuration
    Config,
    /// Create or upgrade the schema of every store
    Migrate,
    /// Give a user exactly these roles
    Grant {
        /// A user name or an email address
        login: String,
        /// The roles; none removes all
        roles: Vec<GrantedRole>,
    },
    /// Compare counts with history and print each difference; fails if there is one
    Reconcile {
        /// Only messages from this time on, such as 2026-01-31T09:30:00Z
        #[arg(long, value_name = "TIME")]
        start: Option<Timestamp>,
        /// Only messages before this time [default: a minute ago, because counts lag slightly]
        #[arg(long, value_name = "TIME")]
        end: Option<Timestamp>,
    },
}

/// A role that can be granted.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GrantedRole {
    /// Grants roles
    Operator,
    /// Sees all names, and direct conversations, in analytics
    Analyst,
    /// Sends messages with another sender or time
    Import,
}

impl From<GrantedRole> for directory::Role {
    fn from(role: GrantedRole) -> Self {
        match role {
            GrantedRole::Operator => Self::Operator,
            GrantedRole::Analyst => Self::Analyst,
            GrantedRole::Import => Self::Import,
        }
    }
}
