//! What the program may do at a NATS server, as `docs/OPERATING.md` lists it, is all that it needs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use rookery::roles::Role;
use serde_json::json;
use servers::{Endpoints, Home, Nats, USER};
use testkit::{Process, Stored, eventually};
use tokio::process::Command;
use toml::Table;

/// The subjects that the document lists: those to publish and subscribe to, and those to subscribe to as well.
fn listed(name: &str, ranges: &str) -> (Vec<String>, Vec<String>) {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATING.md")).unwrap();
    let item = document.split_once("- *Permissions.*").unwrap().1.split("\n- ").next().unwrap();
    let (both, more) = item.split_once("in a cluster").unwrap();
    let subjects = |text: &str| {
        let quoted =
            text.split('`').skip(1).step_by(2).filter(|quoted| quoted.ends_with(['>', '*']) && quoted.contains('.'));
        let filled = quoted.map(|subject| {
            subject.replace("<name>", name).replace("<region>", "0").replace("<analytics.ranges.name>", ranges)
        });
        filled.collect::<Vec<String>>()
    };
    (subjects(both), subjects(more))
}

/// A NATS server that permits what is listed, and real stores beside it.
async fn guarded(folder: &Path) -> (Nats, Table) {
    let endpoints = Endpoints { nats: "nats://guarded".into(), ..servers::endpoints().clone() };
    let mut stores = testkit::stores_on(&endpoints, 1).await;
    // Unlike the log's, as it is by default.
    let ranges = format!("{}-ranges", stores["log"]["name"].as_str().unwrap());
    stores["analytics"]["ranges"]["name"] = ranges.clone().into();
    let (both, more) = listed(stores["log"]["name"].as_str().unwrap(), &ranges);
    let folder = folder.to_owned();
    let nats = tokio::task::spawn_blocking(move || {
        let publish: Vec<&str> = both.iter().map(String::as_str).collect();
        let subscribe: Vec<&str> = both.iter().chain(&more).map(String::as_str).collect();
        Nats::start_with_permissions(&Home::open().unwrap(), &folder, &publish, &subscribe).unwrap()
    });
    let nats = nats.await.unwrap();
    // `@` would end the password.
    let (user, password) = (USER.0, USER.1.replace('@', "%40"));
    let url = nats.url().replace("nats://", &format!("nats://{user}:{password}@"));
    let stores = stores.to_string().replace("nats://guarded", &url).parse().unwrap();
    (nats, stores)
}

/// Runs every role as a process of its own, on these stores. The first is the edge.
async fn roles(folder: &Path, stores: &Table) -> Vec<Process> {
    let configured = |name: &str| {
        let data = folder.join(name);
        let mut table = Table::try_from(testkit::config(&data)).unwrap();
        table["operations"].as_table_mut().unwrap().insert("listen".into(), "127.0.0.1:0".into());
        table.extend(stores.clone());
        let file = data.with_extension("toml");
        std::fs::write(&file, table.to_string()).unwrap();
        file
    };
    let program = env!("CARGO_BIN_EXE_rookery");
    let migrated =
        Command::new(program).arg("migrate").arg("--config").arg(configured("migrate")).output().await.unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let mut processes = Vec::new();
    for role in [Role::Edge, Role::Ingest, Role::Analytics] {
        processes.push(Process::start_role(program, role, &configured(role.name())).await);
    }
    processes
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_that_the_document_lists_are_enough() {
    let scratch = Home::open().unwrap().scratch("permissions").unwrap();
    let (nats, stores) = guarded(&scratch.path().join("nats")).await;
    let processes = roles(scratch.path(), &stores).await;
    let client = processes[0].client();
    eventually("the edge is ready", || async { client.get("/readyz").await.is(200).then_some(()) }).await;
    let ada = client.register("ada").await;
    let ben = client.register("ben").await;
    let mut socket = ben.connect().await;
    let group = ada.create_group("Rooks", &[&ben]).await;
    ada.send(&group, "hello").await;
    assert_eq!(socket.next_event("message").await["event"]["text"], "hello");
    eventually("it is counted", || async {
        let ranking = ada.get("/v1/analytics/top-users").await.expect(200);
        (ranking["items"][0]["messages"] == json!(1)).then_some(())
    })
    .await;
    for process in processes {
        assert!(process.terminate().await.success());
    }
    let said = std::fs::read_to_string(nats.log()).unwrap();
    let refused: Vec<&str> = said.lines().filter(|line| line.contains("Violation")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    // A server has room for so many buckets.
    let mut table = Table::try_from(testkit::config(scratch.path())).unwrap();
    table.extend(stores);
    Stored::of(&table.try_into().unwrap()).remove().await;
}
