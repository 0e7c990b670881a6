//! A client of the REST API.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::Socket;

/// A client of one edge, signed in or not. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    http: reqwest::Client,
    /// The user, when signed in: its id, name and so on.
    user: Value,
    token: Option<String>,
    refresh_token: Option<String>,
    /// Sent with every request.
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: header::HeaderMap,
    /// The body as JSON; `null` when it is none.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

/// Bytes that came back.
#[derive(Debug)]
pub struct Download {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: header::HeaderMap,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Download {
    /// A header's text; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A text as the value of a parameter.
fn escape(text: &str) -> String {
    let escaped = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(escaped).collect()
}

impl Answer {
    /// Whether it has this status.
    #[must_use]
    pub fn is(&self, status: u16) -> bool {
        self.status == status
    }

    /// The body, when the status is this.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }
}

/// How long an answer may take at most; a server that says nothing is an answer of status 0.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// User names that no two tests share.
static USERS: AtomicU32 = AtomicU32::new(0);

impl Client {
    /// A stranger to the edge at this address.
    ///
    /// # Panics
    /// When the system has no room for a client.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            http: reqwest::Client::builder().timeout(ANSWER_WITHIN).build().expect("a client can be made"),
            user: Value::Null,
            token: None,
            refresh_token: None,
            headers: Vec::new(),
        }
    }

    /// The address of the edge.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers a user whose name begins with `name`, and signs in as it.
    pub async fn register(&self, name: &str) -> Self {
        let username = format!("{name}{}", USERS.fetch_add(1, Ordering::Relaxed));
        let body = json!({"username": username, "email": format!("{username}@example.org"), "password": PASSWORD, "name": name});
        let session = self.post("/v1/auth/register", body).await.expect(201);
        self.signed_in(&session)
    }

    /// Signs in as a user that is registered.
    pub async fn log_in(&self, username: &str) -> Self {
        let session = self.post("/v1/auth/login", json!({"login": username, "password": PASSWORD})).await.expect(200);
        self.signed_in(&session)
    }

    /// This client with the tokens of a session as the API answers it.
    #[must_use]
    pub fn signed_in(&self, session: &Value) -> Self {
        let text = |name: &str| session[name].as_str().map(str::to_owned);
        Self {
            user: session["user"].clone(),
            token: text("access_token"),
            refresh_token: text("refresh_token"),
            ..self.clone()
        }
    }

    /// The same user at another edge.
    #[must_use]
    pub fn at(&self, other: &Self) -> Self {
        Self { address: other.address, ..self.clone() }
    }

    /// The same edge with another access token, or none.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    /// This client with one more header in each of its requests.
    #[must_use]
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// The user's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.user["id"].as_str().expect("signed in")
    }

    /// The user's user name.
    #[must_use]
    pub fn username(&self) -> &str {
        self.user["username"].as_str().expect("signed in")
    }

    /// The access token.
    #[must_use]
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("signed in")
    }

    /// The refresh token.
    #[must_use]
    pub fn refresh_token(&self) -> &str {
        self.refresh_token.as_deref().expect("signed in")
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path, Some(body)).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.request(Method::PUT, path, Some(body)).await
    }

    /// PATCH.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.request(Method::PATCH, path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, None).await
    }

    /// Any request with a JSON body or none. A connection that breaks is an answer of status 0.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let bytes = body.map(|body| body.to_string().into_bytes());
        self.send_bytes(method, path, "application/json", bytes).await
    }

    /// Any request with any body.
    pub async fn send_bytes(&self, method: Method, path: &str, content_type: &str, body: Option<Vec<u8>>) -> Answer {
        let mut request = self.http.request(method, format!("http://{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, content_type).body(body);
        }
        match request.send().await {
            Ok(response) => {
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                let text = response.text().await.unwrap_or_default();
                Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
            }
            Err(error) => {
                Answer { status: 0, headers: header::HeaderMap::new(), body: Value::Null, text: error.to_string() }
            }
        }
    }

    /// Uploads a file as a raw body.
    pub async fn upload(&self, name: &str, content_type: &str, file: Vec<u8>) -> Answer {
        let path = format!("/v1/attachments?name={}", escape(name));
        self.send_bytes(Method::POST, &path, content_type, Some(file)).await
    }

    /// Sends an attachment and gives the message.
    pub async fn send_attachment(&self, conversation: &str, attachment: &Value) -> Answer {
        let body = json!({"kind": "attachment", "attachment": {"id": attachment["id"]}});
        self.post(&format!("/v1/conversations/{conversation}/messages"), body).await
    }

    /// GET of any bytes with further headers. Redirects are followed.
    pub async fn download(&self, path: &str, headers: &[(&str, &str)]) -> Download {
        let mut request = self.http.get(format!("http://{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer comes");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("the answer is whole").to_vec();
        Download { status, headers, bytes }
    }

    /// Creates a group with these other members and gives its id.
    pub async fn create_group(&self, name: &str, members: &[&Self]) -> String {
        let members: Vec<&str> = members.iter().map(|member| member.id()).collect();
        let body = json!({"kind": "group", "name": name, "members": members});
        let group = self.post("/v1/conversations", body).await.expect(201);
        group["id"].as_str().expect("a group has an id").to_owned()
    }

    /// Sends a text and gives the message.
    pub async fn send(&self, conversation: &str, text: &str) -> Value {
        self.post(&format!("/v1/conversations/{conversation}/messages"), json!({"text": text})).await.expect(201)
    }

    /// The texts of a conversation's latest messages, oldest first.
    pub async fn texts(&self, conversation: &str) -> Vec<String> {
        let page = self.get(&format!("/v1/conversations/{conversation}/messages?limit=100")).await.expect(200);
        let items = page["items"].as_array().expect("a page has items");
        items.iter().rev().map(|message| message["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Opens a WebSocket and waits for its `hello`.
    pub async fn connect(&self) -> Socket {
        Socket::open(self.address, self.token()).await
    }
}

/// The password of every user in tests.
pub const PASSWORD: &str = "correct horse battery staple";
