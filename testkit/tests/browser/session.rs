//! Who is logged in, and what is on its way when that changes.

use serde_json::json;
use testkit::{Cluster, PASSWORD};

use super::{DESK, connected, hooked, sign_up, write};
use crate::chromium::Browser;
use crate::relay::Relay;

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_sent_does_not_outlive_its_sender() {
    let cluster = Cluster::all().await;
    let relay = Relay::start(&cluster.url()).await;
    let browser = Browser::start().await;
    let window = browser.open(&relay.url(), DESK).await;
    hooked(&window).await;
    sign_up(&window, "ana", "Ana Lindqvist").await;
    connected(&window).await;
    let ben = cluster.client().register("ben").await;
    let ana = cluster.client().log_in("ana").await;
    let group = ana.create_group("Weekend hike", &[&ben]).await;
    window.click(".conversation", "Weekend hike").await;
    window.sees(".composer", "").await;
    relay.cut();
    window.sees(".connection", "Connection lost").await;
    // What failed is tried again after a wait that ends when the next user is there.
    window.run("hooks.frozen_ms = 300; Math.random = () => 0.9", vec![]).await;
    write(&window, "Ben must not read like this").await;
    window.sees(".message.is-sending", "Ben must not").await;
    window.click("button[aria-label='Log out']", "").await;
    window.sees("#field-login", "").await;

    relay.mend();
    window.types("#field-login", ben.username()).await;
    window.types("#field-password", PASSWORD).await;
    window.click("button[type=submit]", "Log in").await;
    window.click(".conversation", "Weekend hike").await;
    connected(&window).await;
    window.run("hooks.calls = []; hooks.frozen_ms = Infinity; hooks.runTimers(300)", vec![]).await;
    write(&window, "Ben here").await;
    window.sees(".message.is-own.is-sent", "Ben here").await;
    let posts =
        window.run("return hooks.calls.filter((call) => call.startsWith('POST /v1/conversations'))", vec![]).await;
    assert_eq!(posts, json!([]), "nothing is sent but what goes over the socket");
    assert_eq!(ben.texts(&group).await, ["Ben here"]);
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_out_while_the_session_is_renewed_is_logged_out() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    hooked(&window).await;
    sign_up(&window, "ana", "Ana Lindqvist").await;
    connected(&window).await;
    window.run("hooks.held = '/auth/refresh'; hooks.runTimers(60_000)", vec![]).await;
    window.until("the renewal is on its way", "return hooks.release !== null").await;
    window.click("button[aria-label='Log out']", "").await;
    window.sees("#field-login", "").await;
    window.run("hooks.release()", vec![]).await;
    window.until("the answer has come", "return hooks.done.some((call) => call.endsWith('/auth/refresh'))").await;
    assert_eq!(window.run("return sessionStorage.length", vec![]).await, json!(0));
    window.run("location.reload()", vec![]).await;
    window.sees("#field-login", "").await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_too_long_is_refused_and_the_connection_stays() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    hooked(&window).await;
    sign_up(&window, "ana", "Ana Lindqvist").await;
    cluster.client().log_in("ana").await.create_group("Notes", &[]).await;
    window.click(".conversation", "Notes").await;
    connected(&window).await;
    let paste = "document.querySelector('.composer textarea').value = 'word '.repeat(14_000)";
    window.run(paste, vec![]).await;
    write(&window, "end").await;
    window.sees(".message-failure", "Not sent").await;
    assert_eq!(window.run("return hooks.closes", vec![]).await, json!(0));
    write(&window, "and on").await;
    window.sees(".message.is-own.is-sent", "and on").await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_dialog_outlives_the_session() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    sign_up(&window, "ana", "Ana Lindqvist").await;
    connected(&window).await;
    window.click("button[aria-label='New group']", "").await;
    window.sees("dialog", "New group").await;
    let token = window.run("return JSON.parse(sessionStorage.getItem('rookery.session')).access_token", vec![]).await;
    let ana = cluster.client().with_token(token.as_str());
    ana.post("/v1/auth/logout", json!(null)).await.expect(204);
    window.until("she is asked to log in", "return document.querySelector('#field-login') !== null").await;
    window.sees_no("dialog", "").await;
    window.sees(".auth", "Your session has ended").await;
    browser.quit().await;
}
