//! A way to a server that is closed at first, as if the server were down.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// An address at which nobody listens until it is opened; then the server is there.
pub(crate) struct Way {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    passing: JoinHandle<()>,
}

impl Way {
    /// Leads to `server`, and is closed.
    pub(crate) async fn closed(server: &str) -> Self {
        // Bound, so that nobody else gets the port, and not listened at, so that whoever connects is refused.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        let (is_open, gate) = watch::channel(false);
        let passing = tokio::spawn(pass_on(socket, server.to_owned(), gate));
        Self { address, is_open, passing }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the server is there.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

async fn pass_on(socket: TcpSocket, server: String, mut gate: watch::Receiver<bool>) {
    if gate.wait_for(|is_open| *is_open).await.is_err() {
        return;
    }
    let listener: TcpListener = socket.listen(1_024).unwrap();
    while let Ok((mut client, _)) = listener.accept().await {
        let server = server.clone();
        tokio::spawn(async move {
            let Ok(mut there) = TcpStream::connect(server).await else { return };
            drop(tokio::io::copy_bidirectional(&mut client, &mut there).await);
        });
    }
}
