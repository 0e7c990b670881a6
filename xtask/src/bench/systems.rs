//! The two systems that are measured: starting them, and making rooms in them.

mod peer;
mod rookery;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Result;

pub(super) use rookery::Rookery;

use crate::load::{Protocol, Room};
use peer::Peer;

/// Which system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Ours.
    Rookery,
    /// Socket.IO with Postgres.
    Peer,
}

/// A running system.
pub(super) enum System {
    Rookery(Rookery),
    Peer(Box<Peer>),
}

impl System {
    /// Starts it on a folder of its own below `data`.
    pub(super) fn start(kind: Kind, root: &Path, data: &Path) -> Result<Self> {
        Ok(match kind {
            Kind::Rookery => Self::Rookery(Rookery::start(root, &data.join("rookery"))?.0),
            Kind::Peer => Self::Peer(Box::new(Peer::start(root)?)),
        })
    }

    /// Ends the server's process and starts it anew on the same data.
    pub(super) fn restart(&mut self) -> Result<()> {
        match self {
            Self::Rookery(rookery) => rookery.restart(),
            Self::Peer(peer) => peer.restart(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Rookery(_) => Kind::Rookery,
            Self::Peer(_) => Kind::Peer,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Rookery(_) => "Rookery",
            Self::Peer(_) => "Socket.IO",
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Rookery(_) => Protocol::Rookery,
            Self::Peer(_) => Protocol::SocketIo,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Rookery(rookery) => rookery.address,
            Self::Peer(peer) => peer.address,
        }
    }

    /// The processes whose CPU time counts, with their children.
    pub(super) fn processes(&self) -> Vec<u32> {
        match self {
            Self::Rookery(rookery) => vec![rookery.pid()],
            Self::Peer(peer) => peer.processes(),
        }
    }

    /// The process that holds the connections.
    pub(super) fn server_process(&self) -> u32 {
        match self {
            Self::Rookery(rookery) => rookery.pid(),
            Self::Peer(peer) => peer.pid(),
        }
    }

    /// Makes rooms of new members, each of whom is in one room.
    pub(super) fn rooms(&mut self, count: usize, size: usize) -> Result<Vec<Room>> {
        match self {
            Self::Rookery(rookery) => rookery.rooms(count, size),
            Self::Peer(peer) => Ok(peer.rooms(count, size)),
        }
    }
}

/// An address that nobody listens on.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
