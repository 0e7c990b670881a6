//! The two systems that are measured: starting them, and making rooms in them.

mod cluster;
mod peer;
mod rookery;
mod users;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Result;

pub(super) use cluster::Cluster;
pub(super) use rookery::Rookery;

use crate::load::{Protocol, Room};
use crate::stores::LogServers;
use peer::Peer;

/// Which system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Ours.
    Rookery,
    /// Socket.IO with Postgres.
    Peer,
}

/// What stands behind Rookery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Stores {
    /// Every role in one process on embedded stores.
    #[default]
    Embedded,
    /// A process for each role on NATS, Cassandra, Postgres, ClickHouse and S3.
    Real,
}

/// A running system.
pub(super) enum System {
    Rookery(Rookery),
    Cluster(Box<Cluster>),
    Peer(Box<Peer>),
}

impl System {
    /// Starts it on a folder of its own below `data`.
    pub(super) fn start(kind: Kind, stores: (Stores, LogServers), root: &Path, data: &Path) -> Result<Self> {
        Ok(match kind {
            Kind::Rookery if stores.0 == Stores::Real => Self::Cluster(Box::new(Cluster::start(root, stores.1)?)),
            Kind::Rookery => Self::Rookery(Rookery::start(root, &data.join("rookery"))?.0),
            Kind::Peer => Self::Peer(Box::new(Peer::start(root)?)),
        })
    }

    /// Ends the server's process and starts it anew on the same data.
    pub(super) fn restart(&mut self) -> Result<()> {
        match self {
            Self::Rookery(rookery) => rookery.restart(),
            Self::Cluster(cluster) => cluster.restart(),
            Self::Peer(peer) => peer.restart(),
        }
    }

    pub(super) fn cluster(&self) -> Option<&Cluster> {
        if let Self::Cluster(cluster) = self { Some(cluster) } else { None }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Rookery(_) | Self::Cluster(_) => Kind::Rookery,
            Self::Peer(_) => Kind::Peer,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Rookery(_) | Self::Cluster(_) => "Rookery",
            Self::Peer(_) => "Socket.IO",
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Rookery(_) | Self::Cluster(_) => Protocol::Rookery,
            Self::Peer(_) => Protocol::SocketIo,
        }
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        match self {
            Self::Rookery(rookery) => Ok(rookery.address),
            Self::Cluster(cluster) => cluster.address(),
            Self::Peer(peer) => Ok(peer.address),
        }
    }

    /// The parts that it is made of, by name, when they are more than one: the first process of each. Servers of one
    /// kind have one name.
    pub(super) fn parts(&self) -> Vec<(&'static str, u32)> {
        self.cluster().map(Cluster::parts).unwrap_or_default()
    }

    /// The processes whose CPU time counts, with their children.
    pub(super) fn processes(&self) -> Vec<u32> {
        match self {
            Self::Rookery(rookery) => vec![rookery.pid()],
            Self::Cluster(cluster) => cluster.parts().into_iter().map(|(_, pid)| pid).collect(),
            Self::Peer(peer) => peer.processes(),
        }
    }

    /// The process that holds the connections.
    pub(super) fn server_process(&self) -> u32 {
        match self {
            Self::Rookery(rookery) => rookery.pid(),
            Self::Cluster(cluster) => cluster.parts().first().map_or(0, |(_, pid)| *pid),
            Self::Peer(peer) => peer.pid(),
        }
    }

    /// Makes rooms of new members, each of whom is in one room.
    pub(super) fn rooms(&mut self, count: usize, size: usize) -> Result<Vec<Room>> {
        match self {
            Self::Rookery(rookery) => rookery.rooms(count, size),
            Self::Cluster(cluster) => cluster.rooms(count, size),
            Self::Peer(peer) => Ok(peer.rooms(count, size)),
        }
    }
}

/// An address that nobody listens on.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
