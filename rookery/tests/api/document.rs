//! The requests of `docs/API.md`, run from the document's own text against the real program.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use testkit::Client;
use tokio::process::Command;

on_either_kind_of_store!(every_endpoint_has_a_sample_request_that_does_what_the_document_says);

/// What stands before the document's requests: a `curl` that notes the method, the address and the status of each.
const NOTING: &str = r#"
curl() {
    local answer
    answer=$(command curl -w '\n%{method} %{url_effective} %{http_code}' "$@")
    printf '%s\n' "${answer##*$'\n'}" >>"$NOTES"
    printf '%s\n' "${answer%$'\n'*}"
}
"#;

/// Stands between the statuses of a request that depends on where files are kept.
const ALTERNATIVE: &str = " or ";

/// A request that was sent.
struct Sent {
    method: String,
    path: String,
    status: String,
}

/// The shell blocks of the document, as one script, and the statuses that it promises, in order.
fn script_and_statuses(document: &str) -> (String, Vec<String>) {
    let blocks = document.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let script: String = blocks.collect();
    let statuses = script.lines().filter_map(|line| line.rsplit_once(" # ")).map(|(_, status)| status.to_owned());
    let statuses: Vec<String> = statuses.collect();
    let is_promise = |status: &String| status.split(ALTERNATIVE).all(|status| status.len() == 3);
    assert!(statuses.len() > 50 && statuses.iter().all(is_promise), "{statuses:?}");
    (script, statuses)
}

async fn run(script: &str, notes: &Path) -> Vec<Sent> {
    let mut bash = Command::new("bash");
    let output = bash.args(["-euc", &format!("{NOTING}{script}")]).env("NOTES", notes).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let notes = std::fs::read_to_string(notes).unwrap();
    let sent = notes.lines().map(|line| {
        let [method, url, status] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let path = url.splitn(4, '/').nth(3).unwrap().split('?').next().unwrap();
        Sent { method: method.to_owned(), path: format!("/{path}"), status: status.to_owned() }
    });
    sent.collect()
}

/// Whether a path is one of the template's.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(wanted, found)| wanted.starts_with('{') || *wanted == found)
}

/// The routes of the description that no request used. A WebSocket is not for curl; the README opens one.
fn unused(description: &Value, sent: &[Sent]) -> BTreeSet<String> {
    let paths = description["paths"].as_object().unwrap();
    // `/v1/users/me` also fits `/v1/users/{user}`: a literal path is used for itself alone.
    let is_literal = |path: &str| paths.contains_key(path);
    let uses = |method: &str, template: &str, one: &Sent| {
        one.method.eq_ignore_ascii_case(method)
            && (one.path == template || (!is_literal(&one.path) && fits(template, &one.path)))
    };
    let mut unused = BTreeSet::new();
    for (path, item) in paths {
        for method in ["get", "put", "post", "patch", "delete"] {
            let is_there = item.get(method).is_some() && path != "/v1/ws";
            if is_there && !sent.iter().any(|one| uses(method, path, one)) {
                unused.insert(format!("{method} {path}"));
            }
        }
    }
    unused
}

async fn every_endpoint_has_a_sample_request_that_does_what_the_document_says(client: &Client) {
    let folder = tempfile::tempdir().unwrap();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/API.md");
    let document = std::fs::read_to_string(document).unwrap();
    let here = client.address().to_string();
    let (script, statuses) = script_and_statuses(&document.replace("127.0.0.1:8080", &here));
    let sent = run(&script, &folder.path().join("notes")).await;
    for (one, status) in sent.iter().zip(&statuses) {
        let is_promised = status.split(ALTERNATIVE).any(|status| status == one.status);
        assert!(is_promised, "{} {}: {} instead of {status}", one.method, one.path, one.status);
    }
    assert_eq!(sent.len(), statuses.len(), "each request tells its status");
    let description = client.get("/openapi.json").await.expect(200);
    assert_eq!(unused(&description, &sent), BTreeSet::new(), "docs/API.md has no sample of these");
}
