//! All of ingest under one roof.

use std::time::Duration;

use directory::{Answer, Command, NewUser, SERVICE};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use types::{GroupId, Region, Timestamp, UserId};

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

async fn seams() -> (Seams, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let log = log::open(&log::Config::default(), folder.path(), Region::default()).await.unwrap();
    let history = history::open(&history::Config::default(), folder.path()).await.unwrap();
    let directory = directory::open(&directory::Config::default(), folder.path()).await.unwrap();
    let blobs = blobs::open(&blobs::Config::default(), folder.path()).await.unwrap();
    (Seams { log, history, directory, blobs }, folder)
}

fn start(seams: &Seams) -> (JoinHandle<Result<()>>, CancellationToken) {
    let shutdown = CancellationToken::new();
    (tokio::spawn(run(Config::default(), seams.clone(), shutdown.clone())), shutdown)
}

/// Asks the directory service, once it serves.
async fn ask(log: &dyn Log, command: Command) -> Answer {
    loop {
        match log.request(SERVICE, command.encode(), PATIENCE).await {
            Ok(answer) => return Answer::decode(&answer).unwrap(),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

fn new_user() -> NewUser {
    let id = UserId::generate(Region::default());
    let (username, email, at) = (id.to_string()[4..].to_owned(), format!("{id}@example.org"), Timestamp::now());
    NewUser { id, username, name: String::new(), email, password_hash: "$".into(), at }
}

#[tokio::test]
async fn what_the_directory_changes_comes_into_history() {
    let (seams, _folder) = seams().await;
    let (ingest, shutdown) = start(&seams);
    let (user, group) = (new_user(), GroupId::generate(Region::default()));
    let owner = user.id;
    let registered = within(ask(&*seams.log, Command::Register { user, session: None })).await;
    assert!(matches!(registered, Answer::Done { .. }), "{registered:?}");
    let create = Command::CreateGroup { group, name: "Tea".into(), owner, members: vec![], at: Timestamp::now() };
    let created = within(ask(&*seams.log, create)).await;
    assert!(matches!(created, Answer::Done { .. }), "{created:?}");

    let told = seams.log.read(group.into(), 0, 10).await.unwrap();
    assert!(!told.is_empty());
    let arriving = async {
        while seams.history.events(group.into(), 0, 10).await.unwrap() != told {
            tokio::task::yield_now().await;
        }
    };
    within(arriving).await;
    shutdown.cancel();
    within(ingest).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_part_that_ends_ends_the_others_with_its_reason() {
    let (seams, _folder) = seams().await;
    let (ingest, shutdown) = start(&seams);
    let asked = within(ask(&*seams.log, Command::Register { user: new_user(), session: None })).await;
    assert!(matches!(asked, Answer::Done { .. }), "{asked:?}");
    seams.log.close().await;
    let ended = within(ingest).await.unwrap();
    assert!(matches!(ended, Err(Error::Log(log::Error::Unavailable(_)))), "{ended:?}");
    assert!(!shutdown.is_cancelled());
}
