//! Running other programs, with errors that say which one and how it ended.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// Runs it to its end and answers with what it wrote to its output. What it said is part of the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}\n{stdout}{stderr}", output.status);
    }
    Ok(stdout)
}

/// Where a program is, if it is on the search path.
pub fn find(program: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a developer's tool looks where the shell looks")]
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Whether we may install packages.
pub fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

/// Something that must be on the machine, and the Debian package that brings it.
#[derive(Clone, Copy)]
pub struct Needed {
    /// The package's name.
    pub package: &'static str,
    /// Whether it is there.
    pub is_there: fn() -> bool,
}

/// The packages of what is not there.
pub fn missing(needed: &[Needed]) -> Vec<&'static str> {
    needed.iter().filter(|needed| !(needed.is_there)()).map(|needed| needed.package).collect()
}

/// Sees to it that all of it is there: installs what is missing when we are root on Debian, and otherwise says in one
/// line what to install.
pub fn provide(needed: &[Needed]) -> Result<()> {
    let missing = missing(needed);
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Installs Debian packages when we are root, and otherwise says in one line which are missing.
pub fn install(packages: &[&str]) -> Result<()> {
    if !is_root() || find("apt-get").is_none() {
        bail!("missing: install the packages {}", packages.join(" "));
    }
    // Servers are fetched side by side, and only one of them can use apt.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    eprintln!("installing {}", packages.join(" "));
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        // A line may break, and somebody else may be installing.
        command.args(["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=600"]);
        command
    };
    output(apt_get().arg("update"))?;
    output(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))?;
    Ok(())
}
