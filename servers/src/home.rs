//! Where downloads and data are, and as whom servers run.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::proc::Stat;
use crate::shell::{self, Needed};

/// The user that servers run as when we are root and they refuse to: nobody.
const NOBODY: u32 = 65534;
/// What makes a Python of our own. On Debian it is a package apart from Python's.
pub(crate) const VENV: Needed = Needed {
    package: "python3-venv",
    is_there: || shell::output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok(),
};
/// How often a download is tried.
const MAX_TRIES: usize = 3;

/// Where downloads and data are, and as whom servers run.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
    is_root: bool,
    outlive_us: bool,
}

/// As whom a server runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// As we do.
    Ours,
    /// As nobody, if we are root.
    NotRoot,
}

impl Home {
    /// `target/services` of this checkout, or a folder under `/var/tmp` when we are root and the checkout is closed to
    /// others.
    pub fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no checkout")?;
        let mut home = Self { path: root.join("target/services"), is_root: shell::is_root(), outlive_us: false };
        std::fs::create_dir_all(&home.path)?;
        if home.is_root && shell::output(home.command("test", User::NotRoot).arg("-x").arg(&home.path)).is_err() {
            home.path = "/var/tmp/rookery-services".into();
            std::fs::create_dir_all(&home.path)?;
        }
        Ok(home)
    }

    /// The same, for servers that run on when we end.
    #[must_use]
    pub fn for_servers_that_outlive_us(mut self) -> Self {
        self.outlive_us = true;
        self
    }

    /// The folder. `nobody` can reach it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn outlive_us(&self) -> bool {
        self.outlive_us
    }

    /// A new folder for servers' data, which every server can reach. Removed when dropped; if we are killed, by
    /// whoever asks for one next.
    pub fn scratch(&self, name: &str) -> Result<TempDir> {
        let parent = self.path.join("scratch");
        std::fs::create_dir_all(&parent)?;
        for entry in std::fs::read_dir(&parent)? {
            let entry = entry?;
            let owner = entry.file_name().to_str().and_then(|name| name.split('-').next()?.parse().ok());
            if owner.is_none_or(|pid| Stat::of(pid).is_none()) {
                // Somebody else may be at it too.
                drop(std::fs::remove_dir_all(entry.path()));
            }
        }
        let prefix = format!("{}-{name}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?;
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        Ok(folder)
    }

    /// Makes a folder that a server which is not root may write to.
    pub(crate) fn folder_of_its_own(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)?;
        if self.is_root {
            chown(path, Some(NOBODY), Some(NOBODY)).with_context(|| format!("cannot give away {}", path.display()))?;
        }
        Ok(())
    }

    /// A command that a server's user runs and that we wait for.
    pub(crate) fn command(&self, program: impl AsRef<Path>, user: User) -> Command {
        self.with_privileges(program.as_ref(), user, &[])
    }

    /// A command that runs a server: unless servers outlive us, the kernel kills it when we end, however we do.
    pub(crate) fn server(&self, program: impl AsRef<Path>, user: User) -> Command {
        let ends_with_us: &[&str] = if self.outlive_us { &[] } else { &["--pdeathsig", "KILL"] };
        self.with_privileges(program.as_ref(), user, ends_with_us)
    }

    /// In one step: the kernel forgets about our death when a process changes its user.
    fn with_privileges(&self, program: &Path, user: User, privileges: &[&str]) -> Command {
        let becomes_nobody = self.is_root && user == User::NotRoot;
        if !becomes_nobody && privileges.is_empty() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(privileges);
        if becomes_nobody {
            command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).arg("--clear-groups");
        }
        command.arg(program);
        command
    }

    /// The folder into which a pinned wheel (`name==version`) is installed, without its dependencies.
    pub(crate) fn wheel(&self, pin: &str) -> Result<PathBuf> {
        self.fetched(&pin.replace("==", "-"), |folder| {
            let mut pip = Command::new(self.python()?);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
            shell::output(pip.arg(folder).arg(pin)).map(drop)
        })
    }

    /// A Python that is not the system's, so that nothing is installed there.
    pub(crate) fn python(&self) -> Result<PathBuf> {
        let venv = self.fetched("venv", |folder| {
            shell::provide(&[VENV])?;
            shell::output(Command::new("python3").args(["-m", "venv"]).arg(folder)).map(drop)
        })?;
        Ok(venv.join("bin/python"))
    }

    /// A lock that one process holds at a time, until it drops it.
    pub fn lock(&self, name: &str) -> Result<File> {
        let lock = File::create(self.path.join(format!("{name}.lock")))?;
        lock.lock()?;
        Ok(lock)
    }

    /// The folder of that name, which `fetch` fills if it is not there yet. It is there as a whole or not at all, also
    /// when two processes fetch at once; a download that fails is tried again a few times.
    pub(crate) fn fetched(&self, name: &str, fetch: impl Fn(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.path.join(name);
        if folder.exists() {
            return Ok(folder);
        }
        let _lock = self.lock(name)?;
        if folder.exists() {
            return Ok(folder);
        }
        let partial = self.path.join(format!("{name}.partial"));
        let attempt = || {
            if partial.exists() {
                std::fs::remove_dir_all(&partial)?;
            }
            eprintln!("fetching {name}");
            fetch(&partial)
        };
        let mut outcome = attempt();
        for _ in 1..MAX_TRIES {
            let Err(error) = &outcome else { break };
            eprintln!("{error:#}");
            outcome = attempt();
        }
        outcome.with_context(|| format!("cannot fetch {name}"))?;
        std::fs::rename(&partial, &folder)?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use anyhow::ensure;

    use super::*;

    fn home(folder: &TempDir) -> Home {
        Home { path: folder.path().to_path_buf(), is_root: false, outlive_us: false }
    }

    #[test]
    fn what_many_want_at_once_is_fetched_once_and_seen_whole() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(&folder);
        let fetches = AtomicUsize::new(0);
        let fetch = |folder: &Path| {
            fetches.fetch_add(1, Ordering::Relaxed);
            std::fs::create_dir(folder)?;
            (0..100).try_for_each(|file| Ok(std::fs::write(folder.join(file.to_string()), "whole")?))
        };
        let look = || std::fs::read_dir(home.fetched("thing", fetch).unwrap()).unwrap().count();
        let seen = thread::scope(|scope| {
            let lookers: Vec<_> = (0..8).map(|_| scope.spawn(look)).collect();
            lookers.into_iter().map(|looker| looker.join().unwrap()).collect::<Vec<usize>>()
        });
        assert_eq!(seen, [100; 8]);
        assert_eq!(fetches.into_inner(), 1);
    }

    #[test]
    fn a_broken_download_is_tried_again_from_the_start_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(&folder);
        let tries = AtomicUsize::new(0);
        let breaks = |tries_until_whole: usize| {
            let tries = &tries;
            move |folder: &Path| {
                std::fs::create_dir(folder)?;
                ensure!(tries.fetch_add(1, Ordering::Relaxed) + 1 >= tries_until_whole, "the line is cut");
                Ok(())
            }
        };
        let error = home.fetched("never", breaks(MAX_TRIES + 1)).unwrap_err();
        assert!(format!("{error:#}").contains("the line is cut"));
        assert_eq!(tries.swap(0, Ordering::Relaxed), MAX_TRIES);
        assert!(!home.path().join("never").exists());
        home.fetched("late", breaks(MAX_TRIES)).unwrap();
        assert_eq!(tries.into_inner(), MAX_TRIES);
    }

    #[test]
    fn the_scratch_folder_of_a_program_that_is_gone_is_removed_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(&folder);
        let ours = home.scratch("ours").unwrap();
        let mut ended = Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let left = folder.path().join(format!("scratch/{}-left-abc", ended.id()));
        std::fs::create_dir(&left).unwrap();
        home.scratch("another").unwrap();
        assert!(ours.path().exists() && !left.exists());
    }
}
