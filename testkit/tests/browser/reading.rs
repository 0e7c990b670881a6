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
async fn a_read_mark_that_did_not_get_through_is_sent_again() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    let (ana, ben, group) = ben_in_a_group(&cluster, &window).await;
    let sent = ana.send(&group, "Is the hut open?").await;
    window.sees(".conversation .badge", "1").await;
    window.run("hooks.refused = 'PUT '", vec![]).await;
    window.click(".conversation", "Weekend hike").await;
    window.until("it is marked", "return hooks.calls.some((call) => call.startsWith('PUT '))").await;
    window.sees_no(".conversation .badge", "1").await;
    window.run("hooks.refused = ''; hooks.runTimers(1000)", vec![]).await;
    has_read(&ana, &ben, &group, &sent["seq"]).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_is_lost_goes_from_the_list() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    let (ana, ben, group) = ben_in_a_group(&cluster, &window).await;
    window.run("hooks.deafTo = 'event'", vec![]).await;
    let path = format!("/v1/conversations/{group}/members/{}", ben.id());
    assert_eq!(ana.delete(&path).await.status, 204);
    window.sees_no(".conversation", "Weekend hike").await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_it_reconnects_in_an_outage_it_asks_once_at_a_time() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    let (_, _, group) = ben_in_a_group(&cluster, &window).await;
    window.run("hooks.refused = 'GET /v1/conversations?limit'; hooks.done = []", vec![]).await;
    let again = "hooks.tell({ ...hooks.frames.find(({ type }) => type === 'hello') })";
    for _ in 0..3 {
        window.run(again, vec![]).await;
    }
    let asked = "return hooks.done.filter((call) => call.includes('kind=group')).length === 3";
    window.until("the groups alone are there", asked).await;
    let waiting = "return [...hooks.timers.values()].filter(({ wait_ms }) => wait_ms === 10_000).length";
    assert_eq!(window.run(waiting, vec![]).await, json!(1), "{group}");
    browser.quit().await;
}

/// Keeps what the log said of itself whenever many rows came into it.
const WATCH_ROWS: &str = "hooks.busy = []; new MutationObserver((records) => { \
     const added = records.flatMap(({ addedNodes }) => [...addedNodes]).length; \
     if (added > 10) hooks.busy.push(document.querySelector('.scroller').getAttribute('aria-busy')); \
     }).observe(document.querySelector('.messages'), { childList: true })";

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_the_focus_has_a_name_and_a_page_of_messages_is_not_read_out() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    let (ana, ben, group) = ben_in_a_group(&cluster, &window).await;
    window.click(".conversation", "Weekend hike").await;
    window.sees(".scroller[aria-busy=false]", "").await;
    window.click(".foot-link", "About").await;
    for number in 1..=20 {
        ana.send(&group, &format!("number {number}.")).await;
    }
    ben.send(&group, "the last").await;
    window.sees(".conversation", "the last").await;
    window.run("hooks.held = '/messages?'; hooks.tell({ type: 'resumed', complete: false })", vec![]).await;
    window.until("the page is on its way", "return hooks.release !== null").await;
    window.click(".conversation", "Weekend hike").await;
    window.sees(".chat", "Loading").await;
    window.run(WATCH_ROWS, vec![]).await;
    window.run("hooks.release()", vec![]).await;
    window.sees(".message", "the last").await;
    assert_eq!(window.run("return hooks.busy", vec![]).await, json!(["true"]));
    window.sees(".scroller[aria-busy=false]", "").await;
    let nameless = "return [...document.querySelectorAll('.message [tabindex]')] \
         .filter((node) => !node.getAttribute('role') || !node.getAttribute('aria-label')).length";
    assert_eq!(window.run(nameless, vec![]).await, json!(0));
    window.sees(".bubble[aria-label='Your message: the last']", "").await;
    browser.quit().await;
}
