//! The rows of the briefs that name paths of their own, each by a client over the network. The rows that the
//! canonical API answers are in the other files beside this one: `docs/REQUIREMENTS.md` names the test of each.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "briefs/analytics.rs"]
mod analytics;
#[path = "briefs/chat_api.rs"]
mod chat_api;
#[path = "briefs/chatrooms.rs"]
mod chatrooms;
#[path = "briefs/presence.rs"]
mod presence;
#[path = "briefs/realtime.rs"]
mod realtime;
#[path = "briefs/two_party.rs"]
mod two_party;

use serde_json::Value;
use testkit::{Client, Cluster};

/// The operator of a new system: the first to register. And a user that it lets import.
async fn operator_and_importer(cluster: &Cluster) -> (Client, Client) {
    let operator = cluster.client().register("operator").await;
    let importer = cluster.client().register("importer").await;
    let roles = format!("/v1/users/{}/roles", importer.id());
    operator.put(&roles, serde_json::json!({"roles": ["import"]})).await.expect(200);
    let importer = cluster.other_client().log_in(importer.username()).await;
    (operator, importer)
}

/// The texts under `field` of a page's items.
fn texts(items: &Value, field: &str) -> Vec<String> {
    items.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}
