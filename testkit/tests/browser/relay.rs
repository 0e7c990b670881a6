//! A way to the server that can be cut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to a server until it is cut. It ends with its value.
pub(crate) struct Relay {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Passes on to the server at `url`.
    pub(crate) async fn start(url: &str) -> Self {
        let target = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, gate) = watch::channel(true);
        let accepting = tokio::spawn(accept(listener, target, gate));
        Self { address, is_open, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends every connection and lets no new one through.
    pub(crate) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.is_open.send_replace(true);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: String, gate: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        if *gate.borrow() {
            tokio::spawn(pass(client, target.clone(), gate.clone()));
        }
    }
}

async fn pass(mut client: TcpStream, target: String, mut gate: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = gate.wait_for(|is_open| !is_open) => {}
    }
}
