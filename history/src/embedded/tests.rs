//! The contract, and what is this implementation's own.

use std::sync::Arc;

use tempfile::TempDir;

use super::open as open_at;
use crate::contract::{Room, contract, group, user};
use crate::{Error, History};

contract!(open);

async fn open() -> (Arc<dyn History>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (open_at(folder.path().join("history")).await.unwrap(), folder)
}

#[tokio::test]
async fn all_is_there_after_reopening() {
    let (history, folder) = open().await;
    let (me, marked) = (user(), group());
    let (mut room, mut later) = (Room::new(), Room::new());
    let sent = room.say("first");
    room.edit(sent.id, "corrected");
    room.store(&*history).await;
    history.mark_read(me, marked, 9).await.unwrap();
    drop(history);

    let history = open_at(folder.path().join("history")).await.unwrap();
    room.say("second");
    room.store(&*history).await;
    later.say("elsewhere");
    later.store(&*history).await;
    assert_eq!(room.texts(&*history).await, ["corrected", "second"]);
    assert_eq!(later.texts(&*history).await, ["elsewhere"]);
    assert_eq!(history.read_marks(me, &[marked]).await.unwrap(), [9]);
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_lets_go() {
    let (history, folder) = open().await;
    let path = folder.path().join("history");
    let refused = open_at(path.clone()).await.err().unwrap();
    assert!(matches!(&refused, Error::Unavailable(why) if why.contains("another process")), "{refused}");
    drop(history);
    open_at(path).await.unwrap();
}

#[tokio::test]
async fn what_a_dead_process_left_half_made_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let unfinished = folder.path().join("history.unfinished");
    std::fs::create_dir_all(&unfinished).unwrap();
    std::fs::write(unfinished.join("0.jnl"), b"").unwrap();
    let history = open_at(path).await.unwrap();
    let mut room = Room::new();
    room.say("hello");
    room.store(&*history).await;
    assert_eq!(room.texts(&*history).await, ["hello"]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(open_at(file.join("history")).await, Err(Error::Unavailable(_))));
}
