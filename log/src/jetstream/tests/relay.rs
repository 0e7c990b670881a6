//! A connection that can be cut and held.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// Carries connections to a server, until it is cut.
pub(super) struct Relay {
    port: u16,
    server: String,
    /// Whether what comes for the server is kept back.
    pub(super) holds: watch::Sender<bool>,
    carrying: Option<tokio::task::JoinSet<()>>,
}

impl Relay {
    pub(super) async fn to(server: &str) -> Self {
        let server = server.trim_start_matches("nats://").to_owned();
        let mut relay = Self { port: 0, server, holds: watch::Sender::new(false), carrying: None };
        relay.join().await;
        relay
    }

    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Carries again, on the same port.
    pub(super) async fn join(&mut self) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let (server, holds) = (self.server.clone(), self.holds.subscribe());
        let mut carrying = tokio::task::JoinSet::new();
        carrying.spawn(carry(listener, server, holds));
        self.carrying = Some(carrying);
    }

    /// Breaks all connections and takes no more.
    pub(super) async fn cut(&mut self) {
        if let Some(mut carrying) = self.carrying.take() {
            carrying.shutdown().await;
        }
    }
}

/// Carries whoever connects; all are cut off when this is dropped.
async fn carry(listener: tokio::net::TcpListener, server: String, holds: watch::Receiver<bool>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let mut server = tokio::net::TcpStream::connect(&server).await.unwrap();
        let holds = holds.clone();
        connections.spawn(async move {
            let (from_client, mut to_client) = client.split();
            let (mut from_server, to_server) = server.split();
            tokio::select! {
                ended = hand_on(from_client, to_server, holds) => drop(ended),
                ended = tokio::io::copy(&mut from_server, &mut to_client) => drop(ended),
            }
        });
    }
}

/// Hands on what comes, but not while it is to be kept back.
async fn hand_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut holds: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes).await?;
        holds.wait_for(|holds| !holds).await.map_err(std::io::Error::other)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..read]).await?;
    }
}
