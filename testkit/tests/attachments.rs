//! Attachments over the network: uploaded, checked, sent, downloaded by members alone, and removed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "browser/relay.rs"]
mod relay;

use std::time::Duration;

use relay::Relay;
use serde_json::{Value, json};
use testkit::{Client, Cluster, eventually, files};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

testkit::scenarios!(
    a_file_is_sent_and_the_same_bytes_come_back,
    a_form_carries_a_file_too,
    a_file_that_is_not_what_it_says_is_refused,
    only_members_download_an_attachment,
    a_deleted_message_takes_its_file_along,
    only_its_uploader_sends_an_attachment,
    a_part_of_a_file_can_be_asked_for,
    a_client_that_breaks_off_leaves_nothing,
);

/// Links lead to a bucket, which only clusters on servers have.
mod by_link {
    use super::{
        a_file_by_a_link_is_checked_like_any_other, a_file_is_uploaded_by_a_link,
        a_link_does_not_reach_what_was_checked,
    };

    testkit::scenarios!(@shape all_on_servers, testkit::Cluster::all_on_servers(),
        a_file_is_uploaded_by_a_link a_file_by_a_link_is_checked_like_any_other a_link_does_not_reach_what_was_checked);
    testkit::scenarios!(@shape processes_on_servers,
        testkit::Cluster::processes(env!("CARGO_BIN_EXE_rookery-under-test")),
        a_file_is_uploaded_by_a_link a_file_by_a_link_is_checked_like_any_other a_link_does_not_reach_what_was_checked);
}

fn path_of(attachment: &Value) -> String {
    attachment["url"].as_str().unwrap().to_owned()
}

/// A pair of users in a group, at two edges where there are two, and somebody else.
async fn people(cluster: &Cluster) -> (Client, Client, Client, String) {
    let ada = cluster.client().register("ada").await;
    let bob = cluster.other_client().register("bob").await;
    let eve = cluster.other_client().register("eve").await;
    let group = ada.create_group("rooks", &[&bob]).await;
    (ada, bob, eve, group)
}

async fn a_file_is_sent_and_the_same_bytes_come_back(cluster: &Cluster) {
    let (ada, bob, _, group) = people(cluster).await;
    let mut socket = bob.connect().await;
    for (name, content_type, file, size) in [
        ("Krähe 1.png", "image/png", files::png(1, 1), json!([1, 1])),
        ("b.jpeg", "image/jpeg", files::jpeg(640, 480), json!([640, 480])),
        ("c.pdf", "application/pdf", files::pdf(), json!([null, null])),
    ] {
        let attachment = ada.upload(name, content_type, file.clone()).await.expect(201);
        assert_eq!((&attachment["name"], &attachment["content_type"]), (&json!(name), &json!(content_type)));
        assert_eq!(attachment["size"], file.len());
        assert_eq!(json!([attachment["width"], attachment["height"]]), size);
        assert!(attachment["created_at"].is_string());

        let message = ada.send_attachment(&group, &attachment).await.expect(201);
        assert_eq!((&message["kind"], &message["attachment"]), (&json!("attachment"), &attachment));
        let event = socket.next_of("event").await;
        assert_eq!(event["event"]["attachment"], attachment, "what is heard is what is read");
        let page = bob.get(&format!("/v1/conversations/{group}/messages")).await.expect(200);
        assert_eq!(page["items"][0]["attachment"], attachment);

        for way in ["", "?redirect=false"] {
            let download = bob.download(&format!("{}{way}", path_of(&attachment)), &[]).await;
            assert_eq!((download.status, download.bytes == file), (200, true), "{name} {way}");
            assert_eq!(download.header("content-type"), content_type);
            let disposition = download.header("content-disposition");
            assert!(disposition.starts_with("attachment; filename="), "{disposition}");
        }
        let download = bob.download(&format!("{}?redirect=false", path_of(&attachment)), &[]).await;
        assert_eq!(download.header("x-content-type-options"), "nosniff");
        assert!(download.header("content-security-policy").contains("sandbox"));
    }
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let part = |(head, data): &(&str, &[u8])| {
        [format!("--x\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes(), data, b"\r\n"].concat()
    };
    [parts.iter().flat_map(part).collect(), b"--x--\r\n".to_vec()].concat()
}

async fn a_form_carries_a_file_too(cluster: &Cluster) {
    let (ada, ..) = people(cluster).await;
    let send = async |body: Vec<u8>| {
        ada.send_bytes(reqwest::Method::POST, "/v1/attachments", "multipart/form-data; boundary=x", Some(body)).await
    };
    let png = files::png(1, 1);
    let file = "name=\"file\"; filename=\"a.png\"\r\nContent-Type: image/png";
    let attachment =
        send(form(&[("name=\"note\"", b"hello"), (file, &png), ("name=\"note\"", b"x")])).await.expect(201);
    assert_eq!((&attachment["name"], &attachment["width"]), (&json!("a.png"), &json!(1)));
    let download = ada.download(&path_of(&attachment), &[]).await;
    assert!(download.bytes == png);

    assert_eq!(send(form(&[(file, &png), (file, &png)])).await.expect(422)["code"], "invalid");
    assert_eq!(send(form(&[("name=\"note\"", b"hello")])).await.expect(422)["code"], "invalid");
    assert_eq!(send(b"--x\r\nnonsense".to_vec()).await.expect(400)["code"], "malformed");
    let cut = form(&[(file, &png)]);
    assert_eq!(send(cut[..cut.len() - 12].to_vec()).await.expect(400)["code"], "malformed");
    let lying = "name=\"file\"; filename=\"a.png\"\r\nContent-Type: application/pdf";
    assert_eq!(send(form(&[(lying, &png)])).await.expect(415)["code"], "type_mismatch");
    let path = "name=\"file\"; filename=\"../a.png\"\r\nContent-Type: image/png";
    assert_eq!(send(form(&[(path, &png)])).await.expect(422)["code"], "invalid");
    // The last one: what is not read to its end costs the connection.
    let mut endless = b"--x\r\nContent-Disposition: ".to_vec();
    endless.resize(2 << 20, b'a');
    assert_eq!(send(endless).await.expect(400)["code"], "malformed");
}

/// What must be refused, as the name, the type that it is called, the bytes, the status and the code.
fn not_what_they_say() -> Vec<(&'static str, &'static str, Vec<u8>, u16, &'static str)> {
    let (png, pdf) = (files::png(1, 1), files::pdf());
    let cut = png[..png.len() - 8].to_vec();
    let mut flipped = png.clone();
    flipped[45] ^= 1;
    let with = |file: &[u8], more: &[u8]| [file, more].concat();
    let script = b"<script>alert(1)</script>";
    vec![
        ("photo.png", "image/png", files::executable(), 415, "unsupported_type"),
        ("photo.png", "image/png", b"<html><script>alert(1)</script></html>".to_vec(), 415, "unsupported_type"),
        ("photo.png", "image/png", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), 415, "unsupported_type"),
        ("photo.png", "image/png", Vec::new(), 415, "unsupported_type"),
        ("photo.png", "image/png", cut, 422, "damaged_file"),
        ("photo.png", "image/png", flipped, 422, "damaged_file"),
        ("photo.jpg", "image/jpeg", files::jpeg(9, 9)[..40].to_vec(), 422, "damaged_file"),
        ("paper.pdf", "application/pdf", pdf[..60].to_vec(), 422, "damaged_file"),
        ("photo.png", "image/png", with(&png, &files::zip()), 422, "polyglot_file"),
        ("photo.png", "image/png", with(&png, script), 422, "polyglot_file"),
        ("photo.jpg", "image/jpeg", with(&files::jpeg(9, 9), script), 422, "polyglot_file"),
        ("paper.pdf", "application/pdf", with(&pdf, &files::zip()), 422, "polyglot_file"),
        ("paper.pdf", "application/pdf", with(&pdf, script), 422, "polyglot_file"),
        ("paper.pdf", "application/pdf", with(&pdf, &png), 422, "polyglot_file"),
        ("../../etc/passwd", "image/png", png.clone(), 422, "invalid"),
        ("C:\\photo.png", "image/png", png.clone(), 422, "invalid"),
        ("photo.png", "image/jpeg", png.clone(), 415, "type_mismatch"),
        ("photo.png", "text/html", png, 415, "type_mismatch"),
    ]
}

async fn a_file_that_is_not_what_it_says_is_refused(cluster: &Cluster) {
    let (ada, ..) = people(cluster).await;
    for (name, content_type, file, status, code) in not_what_they_say() {
        let start = String::from_utf8_lossy(&file[..file.len().min(30)]).into_owned();
        let answer = ada.upload(name, content_type, file).await;
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{}", answer.text);
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{name} {content_type} {start}");
        assert!(!answer.body["detail"].as_str().unwrap().is_empty());
    }
    assert_eq!(cluster.stored().names().await, Vec::<String>::new(), "nothing was kept");
    // A name that lies is put right: no program takes the file for another.
    let renamed = ada.upload("photo.exe", "", files::png(1, 1)).await.expect(201);
    assert_eq!(renamed["name"], "photo.exe.png");
}

async fn only_members_download_an_attachment(cluster: &Cluster) {
    let (ada, bob, eve, group) = people(cluster).await;
    let attachment = ada.upload("a.png", "image/png", files::png(1, 1)).await.expect(201);
    let path = path_of(&attachment);
    let unknown = "/v1/attachments/01980a8e-6c00-7001-8a3b-5d2f1c9e7a40";
    let looks_like_nothing = async |client: &Client| {
        for way in ["", "?redirect=false"] {
            let answer = client.get(&format!("{path}{way}")).await;
            assert_eq!((answer.status, &answer.body), (404, &client.get(unknown).await.body));
        }
    };
    assert_eq!(ada.download(&path, &[]).await.status, 200);
    looks_like_nothing(&bob).await;

    ada.send_attachment(&group, &attachment).await.expect(201);
    assert_eq!(bob.download(&path, &[]).await.status, 200);
    looks_like_nothing(&eve).await;
    assert_eq!(ada.with_token(None).get(&path).await.status, 401);

    ada.delete(&format!("/v1/conversations/{group}/members/{}", bob.id())).await.expect(204);
    eventually("a removed member loses the file", || async { bob.get(&path).await.is(404).then_some(()) }).await;
    looks_like_nothing(&bob).await;

    // In a direct conversation the other one is a member, and nobody else.
    ada.send_attachment(&format!("@{}", eve.id()), &attachment).await.expect(201);
    assert_eq!(eve.download(&path, &[]).await.status, 200);
    looks_like_nothing(&bob).await;
    let ben = cluster.other_client().register("ben").await;
    ada.post(&format!("/v1/conversations/{group}/members"), json!({"users": [ben.id()]})).await.expect(200);
    eventually("a new member has the file", || async { ben.get(&path).await.is(200).then_some(()) }).await;
}

async fn a_deleted_message_takes_its_file_along(cluster: &Cluster) {
    let (ada, bob, _, group) = people(cluster).await;
    let attachment = ada.upload("a.png", "image/png", files::png(1, 1)).await.expect(201);
    let path = path_of(&attachment);
    let mut messages = Vec::new();
    for _ in 0..2 {
        let message = ada.send_attachment(&group, &attachment).await.expect(201);
        messages.push(format!("/v1/conversations/{group}/messages/{}", message["id"].as_str().unwrap()));
    }
    ada.delete(&messages[0]).await.expect(204);
    assert_eq!(bob.download(&path, &[]).await.status, 200, "another message has it still");
    ada.delete(&messages[1]).await.expect(204);
    assert_eq!(bob.get(&path).await.status, 404);
    assert!(bob.get(&messages[1]).await.expect(200)["attachment"].is_null());
    assert_eq!(ada.download(&path, &[]).await.status, 200, "it can be sent again");
}

async fn only_its_uploader_sends_an_attachment(cluster: &Cluster) {
    let (ada, bob, _, group) = people(cluster).await;
    let attachment = ada.upload("a.png", "image/png", files::png(1, 1)).await.expect(201);
    let refused = bob.send_attachment(&group, &attachment).await.expect(422);
    assert_eq!(refused["errors"][0]["pointer"], "/attachment/id");
    let unknown = json!({"id": "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40"});
    assert_eq!(ada.send_attachment(&group, &unknown).await.expect(422), refused, "the two look alike");
    ada.send_attachment(&group, &attachment).await.expect(201);
    bob.send_attachment(&group, &attachment).await.expect(422);

    // With a text and an id, over the socket, and once however often it is sent.
    let id = types::EventId::generate(types::Region::default()).to_string();
    let mut socket = ada.connect().await;
    let frame = json!({"type": "send", "ref": "1", "conversation": group, "id": id, "kind": "attachment",
        "text": "look", "attachment": {"id": attachment["id"]}});
    socket.send(&frame).await;
    assert_eq!(socket.next_of("ack").await["duplicate"], false);
    socket.send(&frame).await;
    assert_eq!(socket.next_of("ack").await["duplicate"], true);
    let message = bob.get(&format!("/v1/conversations/{group}/messages/{id}")).await.expect(200);
    assert_eq!((&message["text"], &message["attachment"]), (&json!("look"), &attachment));
    let two = json!({"image": {"url": "https://example.org/a.png", "width": 1, "height": 1}, "attachment": {"id": attachment["id"]}});
    ada.post(&format!("/v1/conversations/{group}/messages"), two).await.expect(422);
}

async fn a_part_of_a_file_can_be_asked_for(cluster: &Cluster) {
    let (ada, ..) = people(cluster).await;
    let file = [files::png_start(9, 9), files::png_chunk(b"IDAT", &[7; 300_000]), files::png_end()].concat();
    let attachment = ada.upload("a.png", "image/png", file.clone()).await.expect(201);
    let path = format!("{}?redirect=false", path_of(&attachment));
    let whole = ada.download(&path, &[]).await;
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, "bytes"));
    assert_eq!(whole.header("content-length"), file.len().to_string());
    let tag = whole.header("etag");

    let size = file.len();
    for (range, start, end) in [
        ("bytes=0-99".to_owned(), 0, 100),
        ("bytes=100000-250000".to_owned(), 100_000, 250_001),
        (format!("bytes={}-", size - 5), size - 5, size),
        ("bytes=-7".to_owned(), size - 7, size),
    ] {
        for condition in [vec![("range", &*range)], vec![("range", &*range), ("if-range", tag)]] {
            let part = ada.download(&path, &condition).await;
            assert_eq!((part.status, part.bytes == file[start..end]), (206, true), "{range}");
            assert_eq!(part.header("content-range"), format!("bytes {start}-{}/{size}", end - 1));
        }
        let of_another = ada.download(&path, &[("range", &*range), ("if-range", "\"other\"")]).await;
        assert_eq!((of_another.status, of_another.bytes == file), (200, true));
    }
    let beyond = ada.download(&path, &[("range", &format!("bytes={size}-"))]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, &*format!("bytes */{size}")));
    assert_eq!(ada.download(&path, &[("if-none-match", tag)]).await.status, 304);
    let head = ada.send_bytes(reqwest::Method::HEAD, &path, "", None).await;
    assert_eq!((head.status, head.headers["content-length"].to_str().unwrap()), (200, &*size.to_string()));
}

/// Begins an upload, of which more is told than comes.
async fn begin_raw(client: &Client, told: usize) -> TcpStream {
    let mut stream = TcpStream::connect(client.address()).await.unwrap();
    let head = format!(
        "POST /v1/attachments?name=a.png HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: image/png\r\nContent-Length: {told}\r\n\r\n",
        client.token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn a_client_that_breaks_off_leaves_nothing(cluster: &Cluster) {
    let (ada, ..) = people(cluster).await;
    let mut stream = begin_raw(&ada, 20_000_000).await;
    stream.write_all(&files::png_start(9, 9)).await.unwrap();
    stream.write_all(&19_000_000_u32.to_be_bytes()).await.unwrap();
    stream.write_all(b"IDAT").await.unwrap();
    // More than one part of an upload to a bucket.
    stream.write_all(&[7; 9 << 20]).await.unwrap();
    let stored = cluster.stored();
    eventually("the file is on its way", || async { (stored.unfinished().await > 0).then_some(()) }).await;
    drop(stream);
    eventually("what came is gone", || async { (stored.unfinished().await == 0).then_some(()) }).await;
    assert_eq!(stored.names().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_too_large_is_not_read() {
    let cluster = Cluster::with(|config| config.edge.attachments.max_bytes = 1000).await;
    let ada = cluster.client().register("ada").await;
    let large = [files::png_start(9, 9), files::png_chunk(b"IDAT", &[7; 2000]), files::png_end()].concat();
    let answer = ada.upload("a.png", "image/png", large).await;
    assert_eq!(answer.expect(413)["code"], "too_large");
    let mut stream = begin_raw(&ada, 5_000_000_000).await;
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    let stored = cluster.stored();
    assert_eq!((stored.names().await.len(), stored.unfinished().await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sent_is_removed_after_a_time() {
    let change = |config: &mut rookery::config::Config| {
        config.ingest.orphan_seconds = 3;
        config.ingest.sweep_seconds = 1;
    };
    let cluster = Cluster::with(change).await;
    let (ada, bob, _, group) = people(&cluster).await;
    // On a busy machine what is uploaded may be an orphan before it is sent.
    let (sent, message) = eventually("an upload is sent in time", || async {
        let sent = ada.upload("a.png", "image/png", files::png(1, 1)).await.expect(201);
        let answer = ada.send_attachment(&group, &sent).await;
        answer.is(201).then_some((sent, answer.body))
    })
    .await;
    let unsent = ada.upload("b.png", "image/png", files::png(1, 1)).await.expect(201);
    let gone = async |path: &str| ada.get(path).await.is(404).then_some(());
    eventually("the unsent one is removed", || gone(unsent["url"].as_str().unwrap())).await;
    let stored = cluster.stored();
    eventually("its bytes are gone", || async { (stored.names().await.len() == 1).then_some(()) }).await;
    ada.send_attachment(&group, &unsent).await.expect(422);
    assert_eq!(bob.download(&path_of(&sent), &[]).await.status, 200, "the one that was sent stays");

    ada.delete(&format!("/v1/conversations/{group}/messages/{}", message["id"].as_str().unwrap())).await.expect(204);
    eventually("the withdrawn one is removed", || gone(sent["url"].as_str().unwrap())).await;
    eventually("its bytes are gone", || async { stored.names().await.is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_no_links() {
    let cluster = Cluster::all().await;
    let ada = cluster.client().register("ada").await;
    let body = json!({"name": "a.png", "size": 10});
    assert_eq!(ada.post("/v1/attachments/uploads", body).await.expect(409)["code"], "not_supported");
}

/// Begins an upload by link; gives its id and the link.
async fn link_for(client: &Client, name: &str, content_type: &str, size: usize) -> (String, String) {
    let body = json!({"name": name, "content_type": content_type, "size": size});
    let link = client.post("/v1/attachments/uploads", body).await.expect(201);
    assert_eq!(link["method"], "PUT");
    (link["id"].as_str().unwrap().to_owned(), link["url"].as_str().unwrap().to_owned())
}

async fn put(link: &str, file: Vec<u8>) -> u16 {
    reqwest::Client::new().put(link).body(file).send().await.unwrap().status().as_u16()
}

async fn a_file_is_uploaded_by_a_link(cluster: &Cluster) {
    let (ada, bob, eve, group) = people(cluster).await;
    let file = [files::png_start(9, 8), files::png_chunk(b"IDAT", &[7; 300_000]), files::png_end()].concat();
    let (id, link) = link_for(&ada, "a.png", "image/png", file.len()).await;
    let complete = format!("/v1/attachments/uploads/{id}/complete");
    assert_eq!(ada.post(&complete, Value::Null).await.expect(409)["code"], "not_uploaded");
    assert_eq!(put(&link, file.clone()).await, 200);
    assert_eq!(eve.post(&complete, Value::Null).await.status, 404, "it is somebody else's");
    let attachment = ada.post(&complete, Value::Null).await.expect(201);
    assert_eq!((&attachment["width"], &attachment["height"]), (&json!(9), &json!(8)));
    assert_eq!(ada.post(&complete, Value::Null).await.expect(200), attachment);

    ada.send_attachment(&group, &attachment).await.expect(201);
    let redirect = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let redirect = redirect.get(format!("http://{}{}", bob.address(), path_of(&attachment))).bearer_auth(bob.token());
    let redirect = redirect.send().await.unwrap();
    assert_eq!(redirect.status(), 302);
    assert!(redirect.headers()["location"].to_str().unwrap().contains("X-Amz-Expires=60"));
    assert!(bob.download(&path_of(&attachment), &[]).await.bytes == file);
    assert_eq!(eve.get(&path_of(&attachment)).await.status, 404);
}

async fn a_file_by_a_link_is_checked_like_any_other(cluster: &Cluster) {
    let (ada, ..) = people(cluster).await;
    for (name, content_type, file, status, code) in not_what_they_say() {
        if code == "invalid" || file.is_empty() {
            let body = json!({"name": name, "content_type": content_type, "size": file.len()});
            assert_eq!(ada.post("/v1/attachments/uploads", body).await.expect(422)["code"], "invalid");
            continue;
        }
        let (id, link) = link_for(&ada, name, content_type, file.len()).await;
        assert_eq!(put(&link, file.clone()).await, 200);
        let answer = ada.post(&format!("/v1/attachments/uploads/{id}/complete"), Value::Null).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{name} {content_type}");
    }
    let body = json!({"name": "a.png", "size": 26 * 1024 * 1024});
    assert_eq!(ada.post("/v1/attachments/uploads", body).await.expect(413)["code"], "too_large");
    let (_, link) = link_for(&ada, "a.png", "image/png", 100).await;
    assert_eq!(put(&link, vec![0; 101]).await, 403, "the link takes what was told and no more");
}

async fn a_link_does_not_reach_what_was_checked(cluster: &Cluster) {
    let (ada, ..) = people(cluster).await;
    let file = files::png(1, 1);
    let (id, link) = link_for(&ada, "a.png", "image/png", file.len()).await;
    put(&link, file.clone()).await;
    let complete = format!("/v1/attachments/uploads/{id}/complete");
    let attachment = ada.post(&complete, Value::Null).await.expect(201);
    let mut bad = files::executable();
    bad.resize(file.len(), 0);
    assert_eq!(put(&link, bad).await, 200);
    assert_eq!(ada.post(&complete, Value::Null).await.expect(200), attachment);
    assert!(ada.download(&path_of(&attachment), &[]).await.bytes == file);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_uploaded_by_a_link_and_not_completed_is_removed() {
    let change = |config: &mut rookery::config::Config| {
        // Long enough for the upload, also on a busy machine.
        config.ingest.orphan_seconds = 10;
        config.ingest.sweep_seconds = 1;
    };
    let cluster = Cluster::on(servers::endpoints(), change).await;
    let ada = cluster.client().register("ada").await;
    let (id, link) = link_for(&ada, "a.png", "image/png", 100).await;
    assert_eq!(put(&link, vec![7; 100]).await, 200);
    let stored = cluster.stored();
    assert_eq!(stored.names().await, [format!("incoming/{id}")]);
    eventually("the upload is removed", || async { stored.names().await.is_empty().then_some(()) }).await;
    ada.post(&format!("/v1/attachments/uploads/{id}/complete"), Value::Null).await.expect(404);
    stored.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_files_are_out_of_reach_a_clear_503_says_so() {
    let mut servers = servers::endpoints().clone();
    let relay = Relay::start(&servers.s3.endpoint).await;
    servers.s3.endpoint = relay.url();
    let cluster = Cluster::on(&servers, |_| {}).await;
    let (ada, _, _, group) = people(&cluster).await;
    let attachment = ada.upload("a.png", "image/png", files::png(1, 1)).await.expect(201);
    relay.cut();
    let began = std::time::Instant::now();
    let answer = ada.upload("b.png", "image/png", files::png(1, 1)).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("unavailable")));
    assert!(answer.headers.contains_key("retry-after"));
    let download = ada.get(&format!("{}?redirect=false", path_of(&attachment))).await;
    assert_eq!((download.status, &download.body["code"]), (503, &json!("unavailable")));
    assert!(began.elapsed() < Duration::from_secs(40));
    ada.send_attachment(&group, &attachment).await.expect(201);
    relay.mend();
    ada.upload("b.png", "image/png", files::png(1, 1)).await.expect(201);
    cluster.stored().remove().await;
}
