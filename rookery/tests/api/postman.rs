//! The Postman collection, run by newman.

use testkit::Client;
use tokio::process::Command;

on_either_kind_of_store!(the_postman_collection_runs_green);

/// What runs collections, at the version that this was tried with.
const NEWMAN: &str = "newman@6.2.2";

async fn the_postman_collection_runs_green(client: &Client) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut newman = Command::new("npx");
    newman.args(["--yes", NEWMAN, "run"]).arg(super::root().join("docs/postman_collection.json"));
    newman.args(["--env-var", &format!("api=http://{}", client.address()), "--color", "off"]);
    newman.args(["--reporters", "cli,json", "--reporter-json-export"]).arg(&report);
    super::succeed(&mut newman).await;
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let stats = &report["run"]["stats"];
    assert_eq!((&stats["assertions"]["failed"], &stats["requests"]["failed"]), (&0.into(), &0.into()));
    let requests = stats["requests"]["total"].as_u64().unwrap();
    assert!(requests >= 70 && stats["assertions"]["total"] == requests, "{stats}");
}
