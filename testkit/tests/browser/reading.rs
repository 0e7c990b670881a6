//! What the page takes for read, and that it holds what it shows without holes.

use serde_json::json;
use testkit::{Client, Cluster, eventually};

use super::{DESK, connected, hooked, sign_up};
use crate::chromium::{Browser, Window};

/// Ben in a window, and the group that Ana and he are in.
async fn ben_in_a_group(cluster: &Cluster, window: &Window<'_>) -> (Client, Client, String) {
    hooked(window).await;
    sign_up(window, "ben", "Ben Okafor").await;
    connected(window).await;
    let ana = cluster.client().register("ana").await;
    let ben = cluster.client().log_in("ben").await;
    let group = ana.create_group("Weekend hike", &[&ben]).await;
    window.sees(".conversation", "Weekend hike").await;
    (ana, ben, group)
}

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

#[tokio::test(flavor = "multi_thread")]
async fn an_older_page_that_comes_late_does_not_take_the_place_of_the_newest() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    let (ana, _, group) = ben_in_a_group(&cluster, &window).await;
    for number in 1..=120 {
        ana.send(&group, &format!("number {number}.")).await;
    }
    window.run("hooks.held = 'before_seq'", vec![]).await;
    window.click(".conversation", "Weekend hike").await;
    window.sees(".message", "number 120.").await;
    window.run("document.querySelector('.scroller').scrollTop = 0", vec![]).await;
    window.until("an older page is on its way", "return hooks.release !== null").await;
    let anew = "hooks.held = ''; \
         hooks.tell({ type: 'resumed', complete: false, incomplete: [{ conversation: arguments[0] }] }); \
         hooks.release()";
    window.run(anew, vec![json!(group)]).await;
    window.until("the older page has come", "return hooks.done.some((call) => call.includes('before_seq'))").await;
    window.sees(".message", "number 120.").await;
    window.sees_no(".messages-start .loading", "Loading").await;
    let texts = "return [...document.querySelectorAll('.message-text')].map((node) => node.innerText)";
    let shown = window.run(texts, vec![]).await;
    let shown: Vec<_> = shown.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    let whole: Vec<_> = (121 - shown.len()..=120).map(|number| format!("number {number}.")).collect();
    assert_eq!(shown, whole);
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_newer_than_the_first_page_leaves_no_hole() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    let (ana, _, group) = ben_in_a_group(&cluster, &window).await;
    ana.send(&group, "first").await;
    window.sees(".conversation", "first").await;
    window.run("hooks.held = '/messages?'", vec![]).await;
    window.click(".conversation", "Weekend hike").await;
    window.until("the page is on its way", "return hooks.release !== null").await;
    window.run("hooks.held = ''; hooks.deafTo = 'event'", vec![]).await;
    ana.send(&group, "unheard").await;
    window.until("it has not heard it", "return hooks.frames.some(({ event }) => event?.text === 'unheard')").await;
    let greeted = "hooks.deafTo = ''; hooks.tell({ ...hooks.frames.find(({ type }) => type === 'hello') })";
    window.run(greeted, vec![]).await;
    window.sees(".conversation", "unheard").await;
    window.run("hooks.release()", vec![]).await;
    window.sees(".message", "first").await;
    ana.send(&group, "heard").await;
    window.sees(".message", "heard").await;
    window.sees(".message", "unheard").await;
    browser.quit().await;
}
