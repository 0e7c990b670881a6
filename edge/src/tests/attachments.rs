//! Attachments, as far as they need no cluster: what bounds uploads.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, header};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server;
use crate::tests::harness::{App, Person, Reply, config};

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut check = crc32fast::Hasher::new();
    check.update(kind);
    check.update(data);
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length, kind.as_slice(), data, &check.finalize().to_be_bytes()].concat()
}

fn png() -> Vec<u8> {
    let header = chunk(b"IHDR", b"\0\0\0\x09\0\0\0\x08\x08\0\0\0\0");
    [b"\x89PNG\r\n\x1a\n".to_vec(), header, chunk(b"IDAT", b"image"), chunk(b"IEND", b"")].concat()
}

fn begun() -> Body {
    let start = Bytes::copy_from_slice(&png()[..30]);
    Body::from_stream(stream::iter([Ok::<_, io::Error>(start)]).chain(stream::pending()))
}

async fn upload(app: &App, person: &Person, body: impl Into<Body>) -> Reply {
    let request = Request::post("/v1/attachments?name=a.png").header(header::CONTENT_TYPE, "image/png");
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", person.token));
    app.send(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn of_one_user_so_many_uploads_run_at_once() {
    let mut config = config();
    config.attachments.uploads_at_once_per_user = 1;
    config.limits.request_burst_per_user = 10_000;
    let app = App::start_with(config).await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let second_is_refused = async {
        while upload(&app, &ada, png()).await.status != 503 {}
        assert_eq!(upload(&app, &ada, png()).await.refusal(503), "busy");
        upload(&app, &bob, png()).await.expect(201);
    };
    tokio::select! {
        // Asked first, it is the one that runs.
        biased;
        _ = upload(&app, &ada, begun()) => unreachable!("its body never ends"),
        () = second_is_refused => {}
    }
    // The first is given up: there is room again.
    upload(&app, &ada, png()).await.expect(201);
}

#[tokio::test]
async fn an_upload_that_takes_too_long_is_ended() {
    let mut config = config();
    config.attachments.upload_seconds = 0;
    let app = App::start_with(config).await;
    let ada = app.register("ada").await;
    assert_eq!(upload(&app, &ada, begun()).await.refusal(408), "too_slow");
}

/// What is answered, over a connection of its own, to a form whose file never begins.
async fn answer_to_a_form(app: &App, person: &Person, path: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: rookery\r\nauthorization: Bearer {}\r\ncontent-length: 1000\r\n\
        content-type: multipart/form-data; boundary=x\r\n\r\n--x\r\ncontent-disposition: form-da",
        person.token
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let answered = async {
        let mut answer = Vec::new();
        // The rest of the body is never read, so the connection may end hard.
        while !answer.ends_with(b"}") && connection.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
        String::from_utf8(answer).unwrap()
    };
    tokio::select! {
        () = server::serve(app.router(), &app.edge, listener) => unreachable!("it is not told to end"),
        answer = tokio::time::timeout(Duration::from_secs(60), answered) => answer.unwrap(),
    }
}

#[tokio::test]
async fn a_form_whose_file_does_not_begin_in_time_is_ended() {
    let mut config = config();
    config.limits.body_seconds = 1;
    let app = App::start_with(config).await;
    let ada = app.register("ada").await;
    for path in ["/v1/attachments".to_owned(), format!("/uploads?to={}", ada.id)] {
        let answer = answer_to_a_form(&app, &ada, &path).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("too_slow"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_senders_fault() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let pieces = [Ok(Bytes::copy_from_slice(&png()[..30])), Err(io::Error::other("gone"))];
    assert_eq!(upload(&app, &ada, Body::from_stream(stream::iter(pieces))).await.refusal(400), "malformed");
}

#[tokio::test]
async fn a_message_bears_its_attachment_and_a_kind_that_fits() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let group = app.group("rooks", &[&ada]).await;
    let attachment = upload(&app, &ada, png()).await.expect(201);
    assert_eq!((&attachment["width"], &attachment["height"]), (&json!(9), &json!(8)));
    let path = format!("/v1/conversations/{group}/messages");
    let body = |kind: &str| json!({"kind": kind, "text": "look", "attachment": {"id": attachment["id"]}});
    assert_eq!(app.post(&ada, &path, body("text")).await.refusal(422), "invalid");
    let sent = app.post(&ada, &path, body("attachment")).await.expect(201);
    app.ingest().await;
    let read = app.get(&ada, &path).await.expect(200);
    assert_eq!(read["items"][0], sent);
    assert_eq!(sent["attachment"], attachment);
    let edit = format!("{path}/{}", sent["id"].as_str().unwrap());
    let edited = app.patch(&ada, &edit, json!({"text": ""})).await.expect(200);
    assert_eq!(
        (&edited["text"], &edited["attachment"]),
        (&json!(""), &attachment),
        "a text beside a file may be empty"
    );
}

#[tokio::test]
async fn a_deleted_message_that_is_sent_again_does_not_open_its_file() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("rooks", &[&ada, &bob]).await;
    let attachment = upload(&app, &ada, png()).await.expect(201);
    let file = format!("/v1/attachments/{}", attachment["id"].as_str().unwrap());
    let path = format!("/v1/conversations/{group}/messages");
    let id = types::EventId::generate(types::Region::default()).to_string();
    let message = json!({"id": id, "kind": "attachment", "attachment": {"id": attachment["id"]}});
    app.post(&ada, &path, message.clone()).await.expect(201);
    assert_eq!(app.get(&bob, &file).await.status, 200);
    app.delete(&ada, &format!("{path}/{id}")).await.expect(204);
    app.get(&bob, &file).await.refusal(404);
    // As a client does that has not heard of the deletion.
    app.post(&ada, &path, message).await.expect(200);
    app.get(&bob, &file).await.refusal(404);
    assert_eq!(app.get(&ada, &file).await.status, 200, "it is its uploader's still");
}

/// Has a future take so many steps, and waits until it could take another; whether it is done before.
async fn is_done_after(mut future: Pin<&mut impl Future>, steps: usize) -> bool {
    let mut taken = 0;
    poll_fn(|ctx| {
        if taken == steps {
            return Poll::Ready(false);
        }
        taken += 1;
        future.as_mut().poll(ctx).map(|_| true)
    })
    .await
}

/// Waits until a message is there with its file, or neither is.
async fn until_they_agree(app: &App, message: (&Person, &str), file: (&Person, &str)) {
    let is_there = async || app.get(message.0, message.1).await.expect(200)["deleted"] != true;
    while is_there().await != (app.get(file.0, file.1).await.status == 200) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_message_without_its_file() {
    let mut config = config();
    config.limits.request_burst_per_user = 1_000_000;
    let app = App::start_with(config).await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("rooks", &[&ada, &bob]).await;
    let path = format!("/v1/conversations/{group}/messages");
    // It goes away after every number of steps that the request may take.
    for steps in 1.. {
        let attachment = upload(&app, &ada, png()).await.expect(201);
        let file = format!("/v1/attachments/{}", attachment["id"].as_str().unwrap());
        let message = json!({"kind": "attachment", "attachment": {"id": attachment["id"]}});
        let message = app.post(&ada, &path, message).await.expect(201);
        let message = format!("{path}/{}", message["id"].as_str().unwrap());
        let mut deleting = Box::pin(app.delete(&ada, &message));
        let is_done = is_done_after(deleting.as_mut(), steps).await;
        drop(deleting);
        let agree = until_they_agree(&app, (&ada, &message), (&bob, &file));
        tokio::time::timeout(Duration::from_secs(60), agree).await.expect("a message and its file go together");
        if is_done {
            return;
        }
    }
}

#[tokio::test]
async fn what_is_said_of_a_file_is_one_short_line() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    for content_type in ["image/png\0".to_owned(), "image/p\u{f1}g".to_owned(), "a".repeat(128)] {
        let body = json!({"name": "a.png", "content_type": content_type, "size": 48_213});
        let refused = app.post(&ada, "/v1/attachments/uploads", body).await.expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/content_type", "{content_type:?}");
    }
    let body = json!({"name": "a.png", "content_type": "image/png; charset=binary", "size": 48_213});
    assert_eq!(app.post(&ada, "/v1/attachments/uploads", body).await.refusal(409), "not_supported");
}
