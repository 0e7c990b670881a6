//! How the server is built and started: the script and the Makefile.

use std::collections::BTreeSet;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Each target of the Makefile calls cargo and nothing else.
#[test]
fn b3_05_the_makefile_has_the_targets_and_each_calls_cargo() {
    let text = std::fs::read_to_string(super::root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with(['\t', '#', '.']))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(targets, BTreeSet::from(["setup", "install", "lint", "test", "example-setup", "start-api"]));
    let calls: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('\t')).collect();
    assert!(calls.len() >= targets.len() && calls.iter().all(|call| call.starts_with("cargo ")), "{calls:#?}");
}

/// The script builds and starts the server. Here the build is one that is there already: a stand-in for cargo puts this
/// test's own program where a build would.
#[tokio::test(flavor = "multi_thread")]
async fn b5_05_the_script_builds_and_starts_the_server_on_the_port_of_the_platform() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cargo = format!(
        "#!/bin/sh\nmkdir -p \"$CARGO_TARGET_DIR/release\"\nln -sf {} \"$CARGO_TARGET_DIR/release/rookery\"\necho \"$@\" >{}\n",
        env!("CARGO_BIN_EXE_rookery"),
        folder.path().join("asked").display()
    );
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("cargo"), cargo).unwrap();
    super::succeed(Command::new("chmod").arg("+x").arg(bin.join("cargo"))).await;
    let mut script = Command::new(super::root().join("scripts/start"));
    script.arg("--data").arg(folder.path().join("data"));
    script.env("PORT", port.to_string()).env("CARGO_TARGET_DIR", folder.path().join("target"));
    script.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    let mut server = script.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains(&format!("0.0.0.0:{port}")), "{first}");
    let client = testkit::Client::new(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    testkit::eventually("the server is ready", || async { client.get("/readyz").await.is(200).then_some(()) }).await;
    assert_eq!(
        std::fs::read_to_string(folder.path().join("asked")).unwrap().trim(),
        "build --release --locked --package rookery"
    );
    server.kill().await.unwrap();
}
