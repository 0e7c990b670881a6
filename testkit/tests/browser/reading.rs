//! What the page takes for read, and that it holds what it shows without holes.

use serde_json::json;
use testkit::{Client, Cluster, eventually};

use super::{DESK, connected, hooked, sign_up};
use crate::chromium::Browser;

/// Waits until others can see how far `reader` has read.
async fn has_read(asking: &Client, reader: &Client, conversation: &str, seq: &serde_json::Value) {
    eventually("the mark is at the server", || async {
        let reads = asking.get(&format!("/v1/conversations/{conversation}/reads")).await.expect(200);
        let items = reads["items"].as_array()?;
        items.iter().any(|item| item["user"] == reader.id() && item["seq"] == *seq).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_the_other_one_leaves_a_message_unread() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    hooked(&window).await;
    sign_up(&window, "ben", "Ben Okafor").await;
    connected(&window).await;
    let ana = cluster.client().register("ana").await;
    let ben = cluster.client().log_in("ben").await;
    let chat = ana.post("/v1/conversations", json!({"kind": "direct", "user": ben.id()})).await.body["id"].clone();
    let chat = chat.as_str().unwrap();
    let sent = ana.send(chat, "Is the hut open?").await;
    window.sees(".conversation .badge", "1").await;
    let marked = ana.put(&format!("/v1/conversations/{chat}/read"), json!({"seq": sent["seq"]})).await;
    assert!(marked.status < 300, "{}", marked.text);
    let has_come = "return hooks.frames.some(({ type, user }) => type === 'read' && user !== undefined)";
    window.until("her mark has come", has_come).await;
    assert_eq!(window.run("return document.title", vec![]).await, json!("(1) Rookery"));

    window.click(".conversation", "ana").await;
    window.sees_no(".conversation .badge", "1").await;
    has_read(&ana, &ben, chat, &sent["seq"]).await;
    browser.quit().await;
}
