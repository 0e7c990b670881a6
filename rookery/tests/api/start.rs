//! How the server is built and started: the script and the Makefile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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

/// There is another crate `log`: a name alone might not say which package is meant.
#[tokio::test]
async fn the_makefile_names_packages_that_there_are() {
    let text = std::fs::read_to_string(super::root().join("Makefile")).unwrap();
    let (_, names) = text.split_once("--packages ").unwrap();
    for name in names.lines().next().unwrap().split(' ') {
        let mut ask = Command::new("cargo");
        super::succeed(ask.args(["pkgid", "--locked", "--offline", name]).current_dir(super::root())).await;
    }
}

/// A configuration on embedded stores, and one on real stores that are ready for it.
async fn configurations(folder: &Path) -> [PathBuf; 2] {
    let write = |name: &str, stores: toml::Table| {
        let data = folder.join(name);
        let mut table = toml::Table::try_from(testkit::config(&data)).unwrap();
        table.extend(stores);
        // What a file says of the port goes before what the platform says.
        table["edge"].as_table_mut().unwrap().remove("listen");
        let file = data.with_extension("toml");
        std::fs::write(&file, table.to_string()).unwrap();
        file
    };
    let on_servers = write("on-servers", testkit::stores_on(servers::endpoints(), 1).await);
    super::succeed(Command::new(env!("CARGO_BIN_EXE_rookery")).args(["migrate", "--config"]).arg(&on_servers)).await;
    [write("embedded", toml::Table::new()), on_servers]
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Puts a stand-in for cargo into a folder and gives a search path that begins with it: a build is there already.
async fn stand_in_for_cargo(folder: &Path, script: &str) -> String {
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::write(bin.join("cargo"), format!("#!/bin/sh\n{script}\n")).unwrap();
    super::succeed(Command::new("chmod").arg("+x").arg(bin.join("cargo"))).await;
    format!("{}:/usr/bin:/bin", bin.display())
}

/// A user registers at the server on this port.
async fn serves(port: u16) {
    let client = testkit::Client::new(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
    testkit::eventually("the server is ready", || async { client.get("/readyz").await.is(200).then_some(()) }).await;
    client.register("ada").await.get("/v1/users/me").await.expect(200);
}

/// What `make start-api` runs starts the server.
#[tokio::test(flavor = "multi_thread")]
async fn b3_05_the_makefile_starts_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = super::succeed(Command::new("make").args(["--dry-run", "start-api"]).current_dir(super::root())).await;
    assert_eq!(recipe.trim(), "cargo run --release --locked");
    for configuration in configurations(folder.path()).await {
        let port = free_port();
        let program = env!("CARGO_BIN_EXE_rookery");
        let started =
            format!("exec {program} --config '{}' --listen 127.0.0.1:{port} >/dev/null", configuration.display());
        let path = stand_in_for_cargo(folder.path(), &started).await;
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("exec {recipe}")]).env("PATH", path).kill_on_drop(true);
        let mut server = bash.spawn().unwrap();
        serves(port).await;
        server.kill().await.unwrap();
    }
}

/// The script builds and starts the server. Here the build is one that is there already: a stand-in for cargo puts this
/// test's own program where a build would.
#[tokio::test(flavor = "multi_thread")]
async fn b5_05_the_script_builds_and_starts_the_server_on_the_port_of_the_platform() {
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    let build = format!(
        "mkdir -p \"$CARGO_TARGET_DIR/release\"\nln -sf {} \"$CARGO_TARGET_DIR/release/rookery\"\necho \"$@\" >{}",
        env!("CARGO_BIN_EXE_rookery"),
        asked.display()
    );
    let path = stand_in_for_cargo(folder.path(), &build).await;
    for configuration in configurations(folder.path()).await {
        let port = free_port();
        let mut script = Command::new(super::root().join("scripts/start"));
        script.arg("--config").arg(configuration);
        script.env("PORT", port.to_string()).env("CARGO_TARGET_DIR", folder.path().join("target")).env("PATH", &path);
        let mut server = script.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let first = lines.next_line().await.unwrap().unwrap();
        assert!(first.contains(&format!("0.0.0.0:{port}")), "{first}");
        serves(port).await;
        let built = std::fs::read_to_string(&asked).unwrap();
        assert_eq!(built.trim(), "build --release --locked --package rookery");
        server.kill().await.unwrap();
    }
}
