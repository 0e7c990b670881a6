//! The built-in page in a real browser: what people see of Rookery, from signing up to the counts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "browser/chromium.rs"]
mod chromium;
#[path = "browser/reading.rs"]
mod reading;
#[path = "browser/relay.rs"]
mod relay;
#[path = "browser/session.rs"]
mod session;

use chromium::{Browser, Window};
use relay::Relay;
use serde_json::json;
use testkit::{Cluster, PASSWORD, eventually, files};

const DESK: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);

async fn sign_up(window: &Window<'_>, username: &str, name: &str) {
    window.click(".auth button", "Sign up").await;
    window.sees("h1", "Create your account").await;
    window.types("#field-username", username).await;
    window.types("#field-name", name).await;
    window.types("#field-email", &format!("{username}@example.org")).await;
    window.types("#field-new_password", PASSWORD).await;
    window.click("button[type=submit]", "Sign up").await;
    window.sees(".me", name).await;
}

/// Puts in what a test sees of the page and holds up in it.
async fn hooked(window: &Window<'_>) {
    window.sees(".auth button", "Sign up").await;
    window.run(include_str!("browser/hooks.js"), vec![]).await;
}

/// Waits until the live connection is there.
async fn connected(window: &Window<'_>) {
    window
        .until("the page is connected", "return document.querySelector('.shell').dataset.connection === 'live'")
        .await;
}

async fn write(window: &Window<'_>, text: &str) {
    window.types(".composer textarea", &format!("{text}\u{e007}")).await;
}

/// Ana begins a group with nobody in it and invites Ben.
async fn gather(ana: &Window<'_>, ben: &Window<'_>) {
    ana.click("button[aria-label='New group']", "").await;
    ana.types("#group-name", "Weekend hike").await;
    ana.click("button[type=submit]", "Create group").await;
    ana.sees(".chat-title", "Weekend hike").await;
    ana.sees(".chat-subtitle", "1 member").await;
    ana.click(".chat-head a[aria-label='Details']", "").await;
    ana.click(".details .button", "Invite people").await;
    ana.types("dialog input[type=search]", "ben").await;
    ana.click("dialog .person", "@ben").await;
    ana.sees("dialog .chip", "Ben Okafor").await;
    ana.click("dialog button[type=submit]", "Invite").await;
    ana.sees(".member", "Ben Okafor").await;
    ana.sees(".chat-subtitle", "2 members").await;
    ana.click(".details a", "").await;
    ben.sees(".conversation", "Weekend hike").await;
}

async fn a_message_crosses_both_ways(ana: &Window<'_>, ben: &Window<'_>) {
    write(ana, "Is the hut open?").await;
    ana.sees(".message.is-own.is-sent", "Is the hut open?").await;
    ben.sees(".conversation.is-unread", "Ana Lindqvist: Is the hut open?").await;
    ben.sees(".conversation .badge", "1").await;
    ben.sees(".conversation .badge .visually-hidden", "unread").await;
    ben.click(".conversation", "Weekend hike").await;
    ben.sees(".message.is-other", "Is the hut open?").await;
    ben.sees_no(".conversation .badge", "1").await;
    ben.types(".composer textarea", "Until the").await;
    ana.sees(".chat-subtitle", "Ben Okafor is typing…").await;
    ben.types(".composer textarea", " first snow\u{e008}\u{e007}\u{e008}second line\u{e007}").await;
    ana.sees(".message.is-other", "Until the first snow\nsecond line").await;
    ana.sees_no(".chat-subtitle", "typing").await;
}

async fn an_edit_and_a_deletion_show_up(ana: &Window<'_>, ben: &Window<'_>) {
    write(ana, "Who drvies?").await;
    ana.points_at(".message.is-own.is-sent", "Who drvies?").await;
    ana.click(".message.is-last button[aria-label='Edit']", "").await;
    ana.sees(".edit-banner", "Editing").await;
    ana.run("document.querySelector('.composer textarea').value = ''", vec![]).await;
    write(ana, "Who drives?").await;
    ben.sees(".message.is-other", "Who drives?").await;
    ben.sees(".message.is-other .message-meta", "edited").await;
    ben.sees_no(".message", "drvies").await;

    write(ana, "I do not").await;
    ben.sees(".message", "I do not").await;
    ana.points_at(".message.is-own.is-sent", "I do not").await;
    ana.click(".message.is-last button[aria-label='Delete']", "").await;
    ana.sees("dialog .button-danger", "Delete").await;
    let focused = ana.run("return document.activeElement.innerText", vec![]).await;
    assert_eq!(focused, json!("Cancel"), "the return key deletes nothing");
    ana.click("dialog .button-danger", "Delete").await;
    ben.sees(".message.is-deleted", "Message deleted").await;
    ben.sees_no(".message", "I do not").await;
    ana.sees_no(".message", "I do not").await;
}

async fn the_counts_follow_without_a_reload(ana: &Window<'_>, ben: &Window<'_>) {
    ana.run("window.isSamePage = true", vec![]).await;
    ana.click(".foot-link", "Top five").await;
    ana.sees("#top-users .rank", "Ana Lindqvist").await;
    ana.sees("#top-users .rank:nth-child(1) .rank-count", "3").await;
    ana.sees("#top-users .rank:nth-child(2) .rank-count", "1").await;
    ana.sees("#top-chats .rank", "Weekend hike").await;
    ana.sees("#top-chats .rank-count", "4").await;
    for number in 1..=3 {
        write(ben, &format!("I have room for {number}")).await;
    }
    ana.sees("#top-users .rank:nth-child(1)", "Ben Okafor").await;
    ana.sees("#top-users .rank:nth-child(1) .rank-count", "4").await;
    ana.sees("#top-chats .rank-count", "7").await;
    assert_eq!(ana.run("return window.isSamePage === true", vec![]).await, json!(true), "the page was not loaded anew");

    let tomorrow = "const at = new Date(Date.now() + 864e5); const field = document.querySelector('#top-start'); \
         field.value = at.toISOString().slice(0, 16); field.dispatchEvent(new Event('change'))";
    ana.run(tomorrow, vec![]).await;
    ana.sees("#top-users", "No messages in this time.").await;
    ana.sees("#top-chats", "No messages in this time.").await;
    ana.click(".preset", "Last hour").await;
    ana.sees("#top-chats .rank-count", "7").await;
}

/// The page asked nobody but its own server, and had nothing to complain of.
async fn all_was_well(browser: &Browser, windows: &[&Window<'_>], url: &str) {
    let requested = browser.requested().await;
    let own = url.trim_start_matches("http");
    let is_own = |address: &str| {
        address.strip_prefix("http").or(address.strip_prefix("ws")).is_some_and(|rest| rest.starts_with(own))
    };
    let foreign: Vec<_> = requested.iter().filter(|address| !is_own(address)).collect();
    assert!(foreign.is_empty(), "requests to others: {foreign:?}");
    assert!(requested.iter().any(|address| address.ends_with("/web/app.js")), "requests are seen at all");
    assert!(requested.iter().any(|address| address.starts_with("ws:")), "WebSockets are seen at all");

    assert_eq!(browser.complaints().await, Vec::<String>::new());
    for window in windows {
        window.run("console.error('a complaint of the test')", vec![]).await;
    }
    assert_eq!(browser.complaints().await.len(), windows.len(), "complaints are seen in every window");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_chat_in_two_windows_and_the_counts_follow() {
    let cluster = Cluster::all().await;
    let url = cluster.url();
    let browser = Browser::start().await;
    let ana = browser.open(&url, DESK).await;
    let ben = browser.open(&url, DESK).await;
    sign_up(&ana, "ana", "Ana Lindqvist").await;
    sign_up(&ben, "ben", "Ben Okafor").await;

    gather(&ana, &ben).await;
    a_message_crosses_both_ways(&ana, &ben).await;
    an_edit_and_a_deletion_show_up(&ana, &ben).await;
    the_counts_follow_without_a_reload(&ana, &ben).await;

    all_was_well(&browser, &[&ana, &ben], &url).await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_the_connection_is_lost_arrives_once() {
    let cluster = Cluster::all().await;
    let url = cluster.url();
    let relay = Relay::start(&url).await;
    let browser = Browser::start().await;
    let ana = browser.open(&relay.url(), DESK).await;
    let ben = browser.open(&url, DESK).await;
    sign_up(&ana, "ana", "Ana Lindqvist").await;
    sign_up(&ben, "ben", "Ben Okafor").await;
    gather(&ana, &ben).await;
    ben.click(".conversation", "Weekend hike").await;
    write(&ana, "before the tunnel").await;
    ben.sees(".message.is-other", "before the tunnel").await;

    relay.cut();
    ana.sees(".connection", "Connection lost").await;
    write(&ana, "in the tunnel").await;
    ana.sees(".message.is-sending", "in the tunnel").await;
    write(&ben, "in the sun").await;
    ben.sees(".message.is-own.is-sent", "in the sun").await;
    ben.sees_no(".message", "in the tunnel").await;

    relay.mend();
    ana.sees(".message.is-other", "in the sun").await;
    ben.sees(".message.is-other", "in the tunnel").await;
    ana.sees(".message.is-own.is-sent", "in the tunnel").await;
    ana.sees_no(".connection", "").await;
    let texts = "return [...document.querySelectorAll('.message-text')].map((node) => node.innerText)";
    let wanted = json!(["before the tunnel", "in the sun", "in the tunnel"]);
    assert_eq!(ana.run(texts, vec![]).await, wanted);
    assert_eq!(ben.run(texts, vec![]).await, wanted);
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_shows_the_list_or_a_chat_and_leads_back() {
    let cluster = Cluster::all().await;
    let url = cluster.url();
    let browser = Browser::start().await;
    let window = browser.open(&url, PHONE).await;
    sign_up(&window, "cleo", "Cléo Marchand").await;
    window.sees(".list-empty", "No conversations yet").await;
    window.click(".list-empty button", "New group").await;
    window.types("#group-name", "Notes").await;
    window.click("button[type=submit]", "Create group").await;
    window.sees(".chat-title", "Notes").await;
    window.sees_no(".sidebar", "").await;
    write(&window, &"averyveryverylongword".repeat(20)).await;
    window.sees(".message.is-sent", "averyveryverylongword").await;
    let (room, drawn) = window.widths().await;
    assert_eq!((room, drawn), (u64::from(PHONE.0), u64::from(PHONE.0)), "nothing sticks out to the side");

    window.click(".chat-head .back", "").await;
    window.sees(".conversation", "You: averyveryverylongword").await;
    window.sees_no(".chat", "").await;
    window.click(".conversation", "Notes").await;
    window.sees(".message", "averyveryverylongword").await;
    window.resizes(DESK).await;
    window.sees(".conversation", "Notes").await;
    window.sees(".chat-title", "Notes").await;

    all_was_well(&browser, &[&window], &url).await;
    browser.quit().await;
}

/// Drops a file on the conversation.
async fn drop_file(window: &Window<'_>, name: &str, content_type: &str, file: &[u8]) {
    let script = "const file = new File([Uint8Array.from(arguments[0])], arguments[1], { type: arguments[2] }); \
         const dataTransfer = new DataTransfer(); dataTransfer.items.add(file); \
         const drop = new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }); \
         document.querySelector('.chat-column').dispatchEvent(drop)";
    window.run(script, vec![json!(file), json!(name), json!(content_type)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_and_documents_are_attached_shown_and_saved() {
    let cluster = Cluster::all().await;
    let url = cluster.url();
    let browser = Browser::start().await;
    let ana = browser.open(&url, DESK).await;
    let ben = browser.open(&url, DESK).await;
    sign_up(&ana, "ana", "Ana Lindqvist").await;
    sign_up(&ben, "ben", "Ben Okafor").await;
    gather(&ana, &ben).await;
    ben.click(".conversation", "Weekend hike").await;
    ana.sees(".composer button[aria-label='Attach files']", "").await;

    drop_file(&ana, "hut.png", "image/png", &files::png(1, 1)).await;
    drop_file(&ana, "map.pdf", "application/pdf", &files::pdf()).await;
    ana.sees(".tray-file:nth-child(1) .tray-state", "ready").await;
    ana.sees(".tray-file:nth-child(2) .tray-state", "ready").await;
    write(&ana, "The hut and the way").await;
    ana.sees_no(".tray", "").await;
    for window in [&ana, &ben] {
        window.sees(".message.is-first .message-text", "The hut and the way").await;
        window.sees(".message-file-name", "hut.png").await;
        window.sees(".message-file-name", "map.pdf").await;
        let is_shown =
            "return [...document.querySelectorAll('.message-image')].some((image) => image.naturalWidth === 1)";
        eventually("the picture is shown", || async {
            (window.run(is_shown, vec![]).await == json!(true)).then_some(())
        })
        .await;
    }
    ben.click(".message-file", "map.pdf").await;
    all_was_well(&browser, &[&ana, &ben], &url).await;

    drop_file(&ana, "hut.png", "image/png", &files::executable()).await;
    ana.sees(".tray-file.is-failed .tray-state", "the file is").await;
    write(&ana, "and this").await;
    ana.sees(".composer-problem", "Remove the files").await;
    ana.click(".tray-file button[aria-label='Remove hut.png']", "").await;
    ana.types(".composer textarea", "\u{e007}").await;
    ben.sees(".message", "and this").await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_said_beside_the_field() {
    let cluster = Cluster::all().await;
    let url = cluster.url();
    let browser = Browser::start().await;
    let window = browser.open(&url, DESK).await;
    window.click(".auth button", "Sign up").await;
    window.types("#field-username", "d!").await;
    window.types("#field-email", "nowhere").await;
    window.types("#field-new_password", "short").await;
    window.click("button[type=submit]", "Sign up").await;
    window.sees(".field.is-invalid:has(#field-username) .field-note", "3 to 32").await;
    window.sees(".field.is-invalid:has(#field-email) .field-note", "email").await;
    window.sees(".field.is-invalid:has(#field-new_password) .field-note", "8").await;
    window.click(".auth button", "Log in").await;
    window.types("#field-login", "nobody").await;
    window.types("#field-password", PASSWORD).await;
    window.click("button[type=submit]", "Log in").await;
    window.sees(".form-problem", "Wrong user name or password").await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_no_text_leads_to_the_list() {
    let cluster = Cluster::all().await;
    let url = cluster.url();
    let browser = Browser::start().await;
    let window = browser.open(&url, DESK).await;
    sign_up(&window, "ana", "Ana Lindqvist").await;
    window.run("location.hash = '#/c/%'; location.reload()", vec![]).await;
    window.sees(".me", "Ana Lindqvist").await;
    window.sees(".empty h1", "Choose a conversation").await;
    all_was_well(&browser, &[&window], &url).await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_page_asks_for_nothing_that_the_server_refuses() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    sign_up(&window, "ana", "Ana Lindqvist").await;
    let frames = tokio::sync::Mutex::new(Vec::new());
    eventually("the page has its first answer", || async {
        let mut frames = frames.lock().await;
        frames.append(&mut browser.received().await);
        frames.iter().any(|frame| frame["type"] == "pong" || frame["type"] == "error").then_some(())
    })
    .await;
    let types: Vec<_> = frames.into_inner().iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(types, ["hello", "pong"]);
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_window_too_many_says_so() {
    let cluster = Cluster::with(|config| config.edge.limits.connections_per_user = 1).await;
    let url = cluster.url();
    let browser = Browser::start().await;
    let first = browser.open(&url, DESK).await;
    sign_up(&first, "ana", "Ana Lindqvist").await;
    first.sees(".me", "Ana Lindqvist").await;
    let is_live = "return document.querySelector('.shell').dataset.connection === 'live'";
    eventually("the first window is connected", || async {
        (first.run(is_live, vec![]).await == json!(true)).then_some(())
    })
    .await;
    let second = browser.open(&url, DESK).await;
    second.types("#field-login", "ana").await;
    second.types("#field-password", PASSWORD).await;
    second.click("button[type=submit]", "Log in").await;
    second.sees(".connection", "too many windows").await;
    first.sees_no(".connection", "").await;
    browser.quit().await;
}

/// Keeps the page's WebSocket and how long it waits for anything.
const WATCHING: &str = "const later = window.setTimeout; window.waits = []; \
     window.setTimeout = (run, wait_ms) => { window.waits.push(wait_ms); return later(run, wait_ms); }; \
     const Own = window.WebSocket; \
     window.WebSocket = class extends Own { constructor(...given) { super(...given); window.socket = this; } };";
/// The server sends the page away, and says for how long.
const SENT_AWAY: &str = "window.socket.dispatchEvent(new CloseEvent('close', \
     { code: 1001, reason: JSON.stringify({ reason: 'the server goes away', resume: true, after_ms: 3100 }) })); \
     return window.waits.some((wait_ms) => wait_ms >= 3100 && wait_ms < 4100)";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_sent_away_comes_back_when_it_was_told() {
    let cluster = Cluster::all().await;
    let browser = Browser::start().await;
    let window = browser.open(&cluster.url(), DESK).await;
    window.sees(".auth button", "Sign up").await;
    window.run(WATCHING, vec![]).await;
    sign_up(&window, "ana", "Ana Lindqvist").await;
    let is_live = "return document.querySelector('.shell').dataset.connection === 'live'";
    let connected = || async { (window.run(is_live, vec![]).await == json!(true)).then_some(()) };
    eventually("the page is connected", connected).await;
    assert_eq!(window.run(SENT_AWAY, vec![]).await, json!(true), "it waits as long as it was asked to");
    assert_eq!(window.run(is_live, vec![]).await, json!(false));
    eventually("the page has come back", connected).await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_shows_frames_and_sends_files() {
    let cluster = Cluster::all().await;
    let url = cluster.url();
    let ana = cluster.client().register("ana").await;
    let browser = Browser::start().await;
    let window = browser.open(&format!("{url}/docs#%"), DESK).await;
    window.sees("#frame-hello .what", "The first frame of a connection.").await;
    window.click("#frame-send summary", "send").await;
    window.sees("#frame-send .about", "message ack").await;
    window.sees("#frame-send td", "reply_to").await;
    window.sees("#frames td", "4429").await;

    window.run("document.querySelector('#bearer').value = arguments[0]", vec![json!(ana.token())]).await;
    window.run("location.hash = '#upload_attachment'", vec![]).await;
    window.sees("#upload_attachment button", "Try it").await;
    let choose = "const file = new File([Uint8Array.from(arguments[0])], 'dot.png', { type: 'image/png' }); \
         const chosen = new DataTransfer(); chosen.items.add(file); \
         document.querySelector('#upload_attachment input[type=file]').files = chosen.files";
    window.run(choose, vec![json!(files::png(1, 1))]).await;
    window.click("#upload_attachment button", "Try it").await;
    window.sees("#upload_attachment .status", "201").await;
    window.sees("#upload_attachment pre", "\"name\": \"dot.png\"").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}
