//! A large upload leaves the program's memory flat.

use std::path::Path;
use std::time::{Duration, Instant};

use rookery::config::Config;
use testkit::{Client, Process, Stored, files};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use types::{EventId, Region};

const MIB: u64 = 1024 * 1024;
/// What the program may hold more than before, in bytes, however large the file is.
const ROOM: u64 = 64 * MIB;

/// Uploads a PNG whose image has so many parts of 8 MiB, and gives the status.
async fn upload(client: &Client, parts: usize) -> String {
    let part = files::png_chunk(b"IDAT", &vec![7; 8 << 20]);
    let (start, end) = (files::png_start(1000, 1000), files::png_end());
    let length = start.len() + part.len() * parts + end.len();
    let mut stream = TcpStream::connect(client.address()).await.expect("it listens");
    let head = format!(
        "POST /v1/attachments?name=large.png HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: image/png\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
        client.token()
    );
    for piece in [head.as_bytes(), &start].into_iter().chain((0..parts).map(|_| &*part)).chain([&*end]) {
        stream.write_all(piece).await.expect("it reads on");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer.lines().next().unwrap_or_default().to_owned()
}

async fn stays_flat(data: &Path, change: impl FnOnce(&mut Config), parts: usize) {
    let change = |config: &mut Config| {
        config.edge.attachments.max_bytes = 2048 * MIB;
        change(config);
    };
    let process = Process::start_with(env!("CARGO_BIN_EXE_rookery"), data, change).await;
    let client = process.client().register("ada").await;
    // What is allocated once, for whatever upload comes first, is none of the file.
    assert_eq!(upload(&client, 4).await, "HTTP/1.1 201 Created");
    let before = process.peak_memory();
    let began = Instant::now();
    assert_eq!(upload(&client, parts).await, "HTTP/1.1 201 Created");
    let (after, took) = (process.peak_memory(), began.elapsed());
    let megabytes = |bytes: u64| bytes / MIB;
    eprintln!(
        "{} MiB in {:.1} s: the peak rose from {} to {} MiB",
        parts * 8,
        took.as_secs_f64(),
        megabytes(before),
        megabytes(after)
    );
    assert!(after < before + ROOM, "the peak rose from {} to {} MiB", megabytes(before), megabytes(after));
    assert!(took < Duration::from_secs(120));
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_a_gigabyte_leaves_the_memory_flat() {
    let data = tempfile::tempdir().expect("a folder for the data");
    stays_flat(data.path(), |_| {}, 128).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_s3_leaves_the_memory_flat_too() {
    let data = tempfile::tempdir().expect("a folder for the data");
    let servers::S3 { endpoint, region, access_key_id, secret_access_key } = servers::endpoints().s3.clone();
    let mut config = testkit::config(data.path());
    config.blobs = blobs::Config::S3 {
        endpoint: Some(endpoint),
        region,
        bucket: format!("uploads-{}", EventId::generate(Region::default())),
        access_key_id,
        secret_access_key: secret_access_key.into(),
        path_style: true,
        public_endpoint: None,
    };
    blobs::migrate(&config.blobs, data.path()).await.expect("the bucket is made");
    let stored = Stored::of(&config);
    stays_flat(data.path(), |served| served.blobs = config.blobs, 32).await;
    assert_eq!(stored.names().await.len(), 2);
    stored.remove().await;
}
