//! What the kernel says of processes, under `/proc`.

use std::collections::BTreeMap;

use anyhow::Result;

/// What `/proc/<pid>/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The process that started it, or that took it over.
    pub parent: u32,
    /// Whether it has ended and only waits to be asked how.
    pub has_ended: bool,
    /// CPU time of the process itself and of its children that have ended, in user and kernel mode, in hundredths of a
    /// second.
    pub ticks: u64,
    /// When it started, in hundredths of a second since the machine did: with the pid, this names one process.
    pub started: u64,
}

impl Stat {
    /// What is known of a process, if there is one.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in brackets and may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            has_ended: matches!(*fields.first()?, "Z" | "X"),
            ticks: fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum(),
            started: fields.get(19)?.trim().parse().ok()?,
        })
    }
}

/// These processes and all below them.
pub fn tree(roots: &[u32]) -> Result<BTreeMap<u32, Stat>> {
    let mut all: BTreeMap<u32, Stat> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since.
        all.extend(Stat::of(pid).map(|stat| (pid, stat)));
    }
    let mut chosen = BTreeMap::new();
    let mut open: Vec<u32> = roots.to_vec();
    while let Some(pid) = open.pop() {
        open.extend(all.iter().filter(|(_, stat)| stat.parent == pid).map(|(pid, _)| *pid));
        chosen.extend(all.remove(&pid).map(|stat| (pid, stat)));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_confuse() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 7, has_ended: false, ticks: 127, started: 5 }));
    }

    #[test]
    fn our_own_children_are_in_our_tree() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let tree = tree(&[std::process::id()]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.contains_key(&child.id()));
    }
}
