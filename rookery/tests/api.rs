//! The API as others see it: the requests of its document, the Postman collection, the descriptions of it. Each is run
//! against the real program, alone on embedded stores and as a process for each role on real ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Makes a test of a function that takes a client of a new system, on either kind of store.
macro_rules! on_either_kind_of_store {
    ($name:ident) => {
        mod on_embedded_stores {
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let server = crate::server(&folder).await;
                super::$name(&server.client()).await;
            }
        }
        mod on_servers {
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let cluster = testkit::Cluster::processes(env!("CARGO_BIN_EXE_rookery")).await;
                super::$name(&cluster.client()).await;
                // A server has room for so many buckets.
                cluster.stored().remove().await;
            }
        }
    };
}

#[path = "api/description.rs"]
mod description;
#[path = "api/document.rs"]
mod document;
#[path = "api/frames.rs"]
mod frames;
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
