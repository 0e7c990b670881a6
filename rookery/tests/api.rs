//! The API as others see it: the requests of its document, the Postman collection, the description of it. Each is run
//! against the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "api/description.rs"]
mod description;
#[path = "api/document.rs"]
mod document;
#[path = "api/postman.rs"]
mod postman;
#[path = "api/start.rs"]
mod start;

use std::path::PathBuf;
use std::process::Stdio;

use testkit::Process;
use tokio::process::Command;

/// The top of the checkout.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The program, on data of its own.
async fn server(folder: &tempfile::TempDir) -> Process {
    Process::start(env!("CARGO_BIN_EXE_rookery"), &folder.path().join("data")).await
}

/// Runs a command to its end. What it said is the message when it fails.
async fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}
