//! Ports on loopback: chosen at a server's first start, and kept with its data.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// The lowest that is taken.
const LOWEST: u16 = 10_000;
/// How many are tried before we give up.
const MAX_TRIES: usize = 1_000;

/// Those that this process has given out: a server that is down keeps its own.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// The ports of a server's folder: the same ones at every start.
pub(crate) fn of<const COUNT: usize>(folder: &Path) -> Result<[u16; COUNT]> {
    let file = folder.join("ports.json");
    if let Ok(text) = std::fs::read_to_string(&file) {
        let ports: Vec<u16> = serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
        return ports.try_into().map_err(|_| anyhow::anyhow!("{} is of another version", file.display()));
    }
    let mut ports = [0; COUNT];
    for port in &mut ports {
        *port = free()?;
    }
    std::fs::write(file, serde_json::to_string(ports.as_slice())?)?;
    Ok(ports)
}

/// A port that nobody listens on and that this process has not given out before.
///
/// It lies below those that the kernel gives to outgoing connections: a client that keeps trying to reach a server
/// that is down would otherwise take the server's port, or even connect to itself.
pub fn free() -> Result<u16> {
    let range = range();
    for _ in 0..MAX_TRIES {
        let offset = RandomState::new().build_hasher().finish() % u64::try_from(range.len())?;
        let port = range.start + u16::try_from(offset)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && given().insert(port) {
            return Ok(port);
        }
    }
    bail!("no free port among {range:?}")
}

fn given() -> std::sync::MutexGuard<'static, BTreeSet<u16>> {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn range() -> Range<u16> {
    let outgoing = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = outgoing.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(32_768);
    LOWEST..first.max(2 * LOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_ports_and_another_gets_others() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first: [u16; 3] = of(one.path()).unwrap();
        assert_eq!(of::<3>(one.path()).unwrap(), first);
        let second: [u16; 3] = of(other.path()).unwrap();
        assert!(first.iter().all(|port| !second.contains(port)), "{first:?} {second:?}");
    }
}
