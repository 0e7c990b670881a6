//! Processes that start while a store is away: they live, say what they wait for, and go on by themselves once it comes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "away/started.rs"]
mod started;
#[path = "away/way.rs"]
mod way;

use serde_json::json;
use servers::Endpoints;
use started::Started;
use tempfile::TempDir;
use testkit::eventually;
use toml::Table;
use way::Way;

/// The stores that each role needs.
const EDGE: [&str; 5] = ["log", "directory", "history", "analytics", "blobs"];
const INGEST: [&str; 4] = ["log", "directory", "history", "blobs"];
const ANALYTICS: [&str; 2] = ["log", "analytics"];

/// Stores on real servers that are ready for a cluster, and a folder.
struct Scene {
    folder: TempDir,
    stores: Table,
}

impl Scene {
    async fn new() -> Self {
        let scene = Self::unmigrated().await;
        let file = scene.write("migrate", scene.stores.clone());
        let migrated = Started::output(&["migrate"], &file).await;
        assert!(migrated.status.success(), "{migrated:?}");
        scene
    }

    async fn unmigrated() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), stores: testkit::stores_on(servers::endpoints(), 1).await }
    }

    fn write(&self, name: &str, stores: Table) -> std::path::PathBuf {
        let data = self.folder.path().join(name);
        let mut table = Table::try_from(testkit::config(&data)).unwrap();
        table["operations"].as_table_mut().unwrap().insert("listen".into(), "127.0.0.1:0".into());
        table.extend(stores);
        let file = data.with_extension("toml");
        std::fs::write(&file, table.to_string()).unwrap();
        file
    }

    /// The stores' tables, with one of them behind `way`.
    fn behind(&self, store: &str, way: &Way) -> Table {
        let mut stores = self.stores.clone();
        let table = Table::from_iter([(store.to_owned(), stores[store].clone())]).to_string();
        let table: Table = table.replace(&address(store), &way.address().to_string()).parse().unwrap();
        assert_ne!(table[store], stores[store], "the address of {store} is another one now");
        stores.extend(table);
        stores
    }
}

/// Where the server of a store is, as it stands in a configuration.
fn address(store: &str) -> String {
    let Endpoints { nats, postgres, cassandra, clickhouse, s3 } = servers::endpoints();
    let url = match store {
        "log" => nats,
        "directory" => postgres,
        "history" => cassandra,
        "analytics" => clickhouse,
        _ => &s3.endpoint,
    };
    let address = url.rsplit_once("//").map_or(url.as_str(), |(_, rest)| rest);
    address.rsplit_once('@').map_or(address, |(_, rest)| rest).trim_end_matches('/').to_owned()
}

/// A process of a role starts while a store is away.
async fn starts_without(scene: &Scene, role: &str, needs: &[&str], store: &str) {
    let way = Way::closed(&address(store)).await;
    let file = scene.write(&format!("{role}-without-{store}"), scene.behind(store, &way));
    let process = Started::start(role, &file).await;
    let client = process.client();
    assert_eq!(client.get("/healthz").await.expect(200), json!({"status": "ok"}));
    // No role does anything without the log; no edge takes tokens before it knows which are revoked.
    let waits = store == "log" || (role, store) == ("edge", "directory");
    eventually("it says what it lacks", || async {
        let answer = client.get("/readyz").await;
        if !waits {
            return (answer.is(200) && answer.body["stores"][store] == false).then_some(());
        }
        assert!(answer.is(503), "{role} is not ready without {store}: {}", answer.text);
        answer.text.contains(store).then_some(())
    })
    .await;
    if waits && role == "edge" {
        let refused = client.get("/v1/users/me").await;
        assert_eq!((refused.status, &refused.body["code"]), (503, &json!("not_ready")), "{}", refused.text);
    }
    way.open();
    eventually("it has what it needs", || async {
        let answer = client.get("/readyz").await;
        let has_all = answer.is(200) && needs.iter().all(|store| answer.body["stores"][store] == true);
        has_all.then_some(())
    })
    .await;
    if role == "edge" {
        client.get("/v1/users/me").await.expect(401);
    }
    assert!(process.terminate().await.success(), "{role} ends well");
}

async fn starts_without_each(role: &str, needs: &[&str]) {
    let scene = Scene::new().await;
    for store in needs {
        starts_without(&scene, role, needs, store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_starts_without_any_store() {
    starts_without_each("edge", &EDGE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_starts_without_any_store() {
    starts_without_each("ingest", &INGEST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analytics_worker_starts_without_any_store() {
    starts_without_each("analytics", &ANALYTICS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_asks_only_the_stores_that_it_needs() {
    let scene = Scene::new().await;
    for (role, needs) in [("ingest", INGEST.as_slice()), ("analytics", ANALYTICS.as_slice())] {
        let mut stores = scene.stores.clone();
        for store in EDGE.iter().filter(|store| !needs.contains(store)) {
            let way = Way::closed(&address(store)).await;
            stores.insert((*store).to_owned(), scene.behind(store, &way)[*store].clone());
        }
        let process = Started::start(role, &scene.write(role, stores)).await;
        let stores = eventually("it is ready", || async {
            let answer = process.client().get("/readyz").await;
            answer.is(200).then(|| answer.body["stores"].clone())
        });
        let expected: serde_json::Map<_, _> = needs.iter().map(|store| ((*store).to_owned(), true.into())).collect();
        assert_eq!(stores.await, serde_json::Value::Object(expected));
        assert!(process.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_for_a_store_ends_when_it_is_told_to() {
    let scene = Scene::new().await;
    let way = Way::closed(&address("log")).await;
    for role in ["edge", "ingest"] {
        let process = Started::start(role, &scene.write(role, scene.behind("log", &way))).await;
        process.client().get("/readyz").await.expect(503);
        assert!(process.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_not_migrated_ends_the_process_and_is_named() {
    let scene = Scene::new().await;
    let fresh = Scene::unmigrated().await;
    // All tests share one keyspace.
    let mut history = scene.stores["history"].clone();
    history.as_table_mut().unwrap().insert("keyspace".into(), "nobody_made_it".into());
    for (store, title) in
        [("log", "the log"), ("directory", "the directory"), ("analytics", "analytics"), ("blobs", "the blob store")]
            .into_iter()
            .chain([("history", "history")])
    {
        let mut stores = scene.stores.clone();
        let unmigrated = if store == "history" { &history } else { &fresh.stores[store] };
        stores.insert(store.to_owned(), unmigrated.clone());
        let ended = Started::output(&["edge"], &scene.write(&format!("unmigrated-{store}"), stores)).await;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success(), "{store}: {said}");
        assert!(
            said.contains(&format!("{title} does not open")) && said.contains("rookery migrate"),
            "{store}: {said}"
        );
    }
}
