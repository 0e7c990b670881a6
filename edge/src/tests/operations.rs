//! Health, metrics, keys; and a real listener.

use std::time::Duration;

use http::Method;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::tests::harness::{App, config, seams};

#[tokio::test]
async fn an_edge_tells_that_it_is_alive_and_ready_until_it_ends() {
    let app = App::start().await;
    let ask = async |path: &str| app.call(Method::GET, path, None, None).await;
    assert_eq!(ask("/healthz").await.expect(200), json!({"status": "ok"}));
    let stores = json!({"log": true, "directory": true, "history": true, "analytics": true, "blobs": true});
    assert_eq!(ask("/readyz").await.expect(200), json!({"status": "ready", "stores": stores}));
    app.edge.shutdown.cancel();
    ask("/healthz").await.expect(200);
    assert_eq!(ask("/readyz").await.refusal(503), "not_ready");
}

#[tokio::test]
async fn an_edge_whose_log_is_gone_is_not_ready_and_says_so() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    app.log.close().await;
    let refused = app.post(&ada, "/v1/conversations", json!({"kind": "group", "name": "engines"})).await;
    assert_eq!(refused.refusal(503), "unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(app.call(Method::GET, "/readyz", None, None).await.refusal(503), "not_ready");
}

#[tokio::test]
async fn without_a_recorder_there_are_no_metrics() {
    let app = App::start().await;
    app.call(Method::GET, "/metrics", None, None).await.refusal(404);
}

#[tokio::test]
async fn anybody_can_verify_a_token_with_the_published_key() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let keys: JwkSet =
        serde_json::from_value(app.call(Method::GET, "/.well-known/jwks.json", None, None).await.json()).unwrap();
    let header = jsonwebtoken::decode_header(&ada.token).unwrap();
    assert_eq!(header.alg, Algorithm::EdDSA);
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&["rookery"]);
    let claims: Value = jsonwebtoken::decode(&ada.token, &key, &validation).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["roles"]), (&json!(ada.id), &json!(["operator", "analyst"])));
}

/// Sends bytes and reads until the server closes the connection.
async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn an_edge_serves_a_listener_until_it_is_told_to_end() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config();
    config.limits.head_seconds = 1;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let seams = seams(&data).await;
    let serving = tokio::spawn(crate::run(config, seams, data.path().to_owned(), listener, shutdown.clone()));

    let answer = exchange(address, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    let answer = exchange(address, "nonsense\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let unfinished = exchange(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n").await;
    assert!(unfinished.is_empty() || unfinished.starts_with("HTTP/1.1 408 "), "{unfinished}");

    let idle = TcpStream::connect(address).await.unwrap();
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
    drop(idle);
    TcpStream::connect(address).await.unwrap_err();
}
