//! A client of the WebSocket.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::PATIENCE;

/// An open WebSocket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The server's first frame.
    pub hello: Value,
}

impl Socket {
    /// Connects, and waits for the `hello`.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn open(address: SocketAddr, token: &str) -> Self {
        let mut socket = Self::try_open(address, Some(token)).await.expect("the server takes the socket");
        socket.hello = socket.next_of("hello").await;
        socket
    }

    /// Connects with a token or none; does not wait for the `hello`.
    ///
    /// # Errors
    /// What the server answered instead.
    pub async fn try_open(address: SocketAddr, token: Option<&str>) -> Result<Self, Error> {
        let mut request = format!("ws://{address}/v1/ws").into_client_request()?;
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a token is ASCII");
            request.headers_mut().insert("authorization", value);
        }
        let (stream, _) = connect_async(request).await?;
        Ok(Self { stream, hello: Value::Null })
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_raw(Message::text(frame.to_string())).await.expect("the socket is open");
    }

    /// Sends anything.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send_raw(&mut self, message: Message) -> Result<(), Error> {
        self.stream.send(message).await
    }

    /// The next JSON frame, or the close frame as `{"type":"close","code":…,"reason":…}`; a broken connection is
    /// `{"type":"broken"}`.
    ///
    /// # Panics
    /// When nothing comes for [`PATIENCE`].
    pub async fn next(&mut self) -> Value {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("a frame comes in time");
            match next {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("frames are JSON"),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return json!({"type": "close", "code": u16::from(frame.code), "reason": frame.reason.as_str()});
                }
                Some(Ok(Message::Close(None))) => return json!({"type": "close"}),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return json!({"type": "broken"}),
            }
        }
    }

    /// The next frame as [`Socket::next`] gives it, `None` when none comes in this time.
    pub async fn next_within(&mut self, patience: std::time::Duration) -> Option<Value> {
        tokio::time::timeout(patience, self.next()).await.ok()
    }

    /// The next frame of this type; others before it are passed over.
    ///
    /// # Panics
    /// When the socket ends first.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
            assert!(frame["type"] != "broken" && frame["type"] != "close", "no {kind} came before {frame}");
        }
    }

    /// The next event of this kind; other frames before it are passed over.
    pub async fn next_event(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next_of("event").await;
            if frame["event"]["kind"] == kind {
                return frame;
            }
        }
    }

    /// Sends a text and waits for the ack, which must be the next frame that is no event.
    pub async fn send_text(&mut self, conversation: &str, text: &str) -> Value {
        self.send(&json!({"type": "send", "ref": text, "conversation": conversation, "text": text})).await;
        self.next_of("ack").await
    }

    /// Sends a ping frame of ours and gives every frame that came before its answer: what the server had to say
    /// until now.
    pub async fn frames_so_far(&mut self) -> Vec<Value> {
        self.send(&json!({"type": "ping", "ref": "so far"})).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            if frame["type"] == "pong" {
                return frames;
            }
            assert!(frame["type"] != "broken", "the socket broke after {frames:?}");
            frames.push(frame);
        }
    }

    /// Closes the socket.
    pub async fn close(mut self) {
        drop(self.stream.close(None).await);
    }
}
