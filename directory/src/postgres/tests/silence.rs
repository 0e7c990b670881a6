//! A server whose machine vanishes: its connections are never closed, and nothing comes through them any more.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::Directory;
use crate::sql::Sql;

/// Stands between a directory and the shared server.
struct Wire {
    port: u16,
    /// How many times it was cut: connections that were made before the last time are silent.
    cuts: watch::Sender<usize>,
}

impl Wire {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, (cuts, cut)) = (listener.local_addr().unwrap().port(), watch::channel(0));
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(near, TcpStream::connect(server.clone()).await.unwrap(), cut.clone()));
            }
        });
        Self { port, cuts }
    }

    /// Silences the connections that there are. New ones go through.
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// Carries bytes both ways until the wire is cut; from then on it holds both ends, and carries nothing.
async fn carry(mut near: TcpStream, mut far: TcpStream, mut cut: watch::Receiver<usize>) {
    cut.mark_unchanged();
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => return,
        _ = cut.changed() => {}
    }
    std::future::pending::<()>().await;
}

const CONNECTIONS: u32 = 4;

/// A directory behind a wire, that has a user.
async fn wired() -> (Arc<Sql>, types::UserId, Wire, Database) {
    let database = Database::migrated().await;
    let ada = register(&database.open().await, "ada").await.id;
    let options = parse(&database.url()).unwrap();
    let wire = Wire::to(format!("{}:{}", options.get_host(), options.get_port())).await;
    let url = options.host("127.0.0.1").port(wire.port).to_url_lossy();
    let store = open(&url.to_string().into(), None, CONNECTIONS).await.unwrap();
    (Arc::new(Sql::Postgres(Box::new(store))), ada, wire, database)
}

fn store(directory: &Sql) -> &Store {
    let Sql::Postgres(store) = directory else { unreachable!("it is on Postgres") };
    store
}

/// All connections that the directory may have.
async fn all_connections(directory: &Sql) -> Vec<Reader> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(store(directory).writer().await.unwrap());
    }
    connections
}

/// Waits until all of them are back in the pool, which happens in the background.
async fn until_idle(directory: &Sql) {
    let waiting = async {
        while store(directory).primary.num_idle() < usize::try_from(CONNECTIONS).unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

/// Asks until there is an answer.
async fn until_answered(directory: &Sql, user: types::UserId) {
    let asking = async {
        while directory.users(&[user]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_under_questions_is_asked_again_on_new_connections() {
    let (directory, ada, wire, _database) = wired().await;
    let connections = all_connections(&directory).await;
    wire.cut();
    // As whoever waits too long for an answer does.
    drop(connections);
    until_answered(&directory, ada).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_fell_silent_do_not_fail_a_question_each() {
    let (directory, ada, wire, _database) = wired().await;
    drop(all_connections(&directory).await);
    until_idle(&directory).await;
    wire.cut();
    let mut failed = 0;
    while directory.users(&[ada]).await.is_err() {
        failed += 1;
    }
    assert!(failed < CONNECTIONS, "{failed}");
}
