//! The README's commands, run from the README's own text against the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use testkit::Process;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// The shell blocks under a heading, in order.
fn blocks(readme: &str, heading: &str) -> Vec<String> {
    let after = readme.split_once(heading).unwrap_or_else(|| panic!("the README has {heading}")).1;
    let section = after.split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    std::fs::read_to_string(path).unwrap()
}

/// Runs a script in bash and gives its output by lines, each command's answer on its own.
async fn bash(script: &str) -> Vec<Value> {
    let output = Command::new("bash").args(["-euc", script]).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::Deserializer::from_str(&text).into_iter().map(|value| value.expect("answers are JSON")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_commands_do_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(env!("CARGO_BIN_EXE_rookery"), &folder.path().join("data")).await;
    let here = server.client().address().to_string();
    let text = readme().replace("127.0.0.1:8080", &here);
    let by_curl = blocks(&text, "## A message by curl");
    let by_socket = blocks(&text, "## Live by WebSocket");
    let [set_up, use_it] = by_curl.as_slice() else { panic!("two blocks by curl") };
    let [listen, send] = by_socket.as_slice() else { panic!("two blocks by WebSocket") };

    // One shell for all, as the reader has: variables of one block are used in the next. The listener runs
    // beside it, its input held open, and what it prints goes to a file that is read until the message is there.
    let heard = folder.path().join("heard");
    let script = format!(
        "{set_up}\n{use_it}\nmkfifo {pipe}\nexec 3<>{pipe}\n{listen} <&3 >{heard} 2>&1 &\necho \"{{\\\"listener\\\":$!}}\"\n\
         for _ in $(seq 300); do grep -q hello {heard} && break; sleep 0.1; done\n{send}\n\
         for _ in $(seq 300); do grep -q 'Are you there' {heard} && break; sleep 0.1; done\nkill $! || true\n",
        listen = listen.trim(),
        pipe = folder.path().join("pipe").display(),
        heard = heard.display(),
    );
    let answers = bash(&script).await;
    let heard = std::fs::read_to_string(&heard).unwrap();
    let [_members, page, edited, top, _listener, sent] = answers.as_slice() else { panic!("{answers:#?}") };
    assert_eq!(page["items"][0]["text"], "Helo!");
    assert_eq!(edited["text"], "Hello!");
    assert!(top["items"].is_array());
    assert_eq!(sent["text"], "Are you there?");
    let frames: Vec<Value> =
        heard.lines().filter_map(|line| serde_json::from_str(line.trim_start_matches(|c| c != '{')).ok()).collect();
    let event = frames.iter().find(|frame| frame["event"]["text"] == "Are you there?");
    let event = event.unwrap_or_else(|| panic!("Ben hears it: {heard}"));
    assert_eq!(event["seq"], sent["seq"]);
    assert!(event["prev"].as_u64() > Some(0) && event["epoch"].is_string());
}

#[tokio::test]
async fn the_clusters_configuration_is_one() {
    let text = readme();
    let toml = text.split_once("```toml\n").unwrap().1.split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rookery.toml");
    std::fs::write(&file, toml).unwrap();
    let mut config = Command::new(env!("CARGO_BIN_EXE_rookery"));
    let printed = config.arg("--config").arg(&file).arg("config").output().await.unwrap();
    let (said, complaint) = (String::from_utf8_lossy(&printed.stdout), String::from_utf8_lossy(&printed.stderr));
    assert!(printed.status.success(), "{complaint}");
    for store in ["jetstream", "scylla", "postgres", "clickhouse", "s3"] {
        assert!(said.contains(&format!("type = \"{store}\"")), "{said}");
    }
}

#[tokio::test]
async fn the_first_command_says_where_to_look() {
    let text = readme();
    assert!(text.contains("```sh\ncargo run --release\n```") && text.contains("```sh\ncargo xtask test\n```"));
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rookery"))
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let url = first.split_once("http://").unwrap().1.to_owned();
    let page = lines.next_line().await.unwrap().unwrap();
    assert!(page.contains(&url), "{page}");
    child.stdin.take().unwrap().shutdown().await.unwrap();
    child.kill().await.unwrap();
}
