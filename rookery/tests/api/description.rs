//! The description of the API, held against the server by schemathesis: no 5xx, no answer that breaks its schema, no
//! status that is not documented.

use std::path::{Path, PathBuf};

use serde_json::json;
use testkit::Client;
use tokio::process::Command;
use tokio::sync::OnceCell;

on_either_kind_of_store!(every_answer_is_as_the_description_says);

/// What reads the description, at the version that this was tried with.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// What is checked of each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// Operations that end the session that asks, or what it asks for, and the WebSocket: other tests call them.
const LEFT_OUT: [&str; 7] =
    ["logout", "revoke_session", "delete_me", "delete_user", "alias_delete_user", "delete_conversation", "connect"];

/// The program, installed once into a folder of its own below the build's.
pub(super) async fn schemathesis() -> PathBuf {
    static INSTALLED: OnceCell<PathBuf> = OnceCell::const_new();
    INSTALLED.get_or_init(install).await.clone()
}

async fn install() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(SCHEMATHESIS);
    let program = home.join("bin/schemathesis");
    if !program.exists() {
        super::succeed(Command::new("python3").args(["-m", "venv"]).arg(&home)).await;
        super::succeed(Command::new(home.join("bin/pip")).args(["install", "--quiet", SCHEMATHESIS])).await;
    }
    program
}

/// What there is to be asked for: an operator that may import, another user, a group with a message. The file tells the
/// ids, for nobody guesses them.
async fn scene(client: &Client, file: &Path) -> Client {
    let other = client.register("other").await;
    let tester = client.log_in(client.register("tester").await.username()).await;
    let group = tester.create_group("fuzz", &[&other]).await;
    let message = tester.send(&group, "x").await;
    let (message, user) = (&message["id"], other.id());
    let ids =
        format!("\"path.conversation\" = \"{group}\"\n\"path.message\" = {message}\n\"path.user\" = \"{user}\"\n");
    std::fs::write(file, format!("[parameters]\n{ids}")).unwrap();
    tester
}

async fn every_answer_is_as_the_description_says(client: &Client) {
    let program = schemathesis().await;
    let folder = tempfile::tempdir().unwrap();
    let operator = client.register("operator").await;
    let tester = scene(client, &folder.path().join("schemathesis.toml")).await;
    let roles = json!({"roles": ["import", "operator", "analyst"]});
    operator.put(&format!("/v1/users/{}/roles", tester.id()), roles).await.expect(200);
    let tester = client.log_in(tester.username()).await;
    let here = format!("http://{}", tester.address());
    let mut run = Command::new(program);
    run.current_dir(folder.path()).args(["run", &format!("{here}/openapi.json"), "--url", &here]);
    run.args(["--header", &format!("Authorization: Bearer {}", tester.token()), "--checks", CHECKS]);
    run.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--workers", "2"]);
    run.args(["--request-timeout", "20", "--suppress-health-check", "all", "--no-color"]);
    for operation in LEFT_OUT {
        run.args(["--exclude-operation-id", operation]);
    }
    let said = super::succeed(&mut run).await;
    assert!(said.contains("Test cases:"), "{said}");
    tester.get("/v1/users/me").await.expect(200);
    client.get("/readyz").await.expect(200);
}
