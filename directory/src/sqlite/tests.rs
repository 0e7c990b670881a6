//! The contract on SQLite, and what only a file can do.

use std::pin::Pin;
use std::task::Poll;

use sqlx::SqliteConnection;
use tempfile::TempDir;

use super::*;
use crate::contract::{Shared, add, at, create_group, done, new_session, open_session, refused, register};
use crate::{Config, MAX_MEMBERS, MAX_NAMES_SEARCHED, MemberRole};

/// A new directory in a folder of its own.
async fn fresh() -> (Shared, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (open_in(&folder).await.unwrap(), folder)
}

async fn open_in(folder: &TempDir) -> Result<Shared> {
    crate::open(&Config::default(), folder.path()).await
}

/// A connection of its own, to do what the directory itself never does.
async fn connect(folder: &TempDir) -> SqliteConnection {
    SqliteConnectOptions::new().filename(folder.path().join("directory.sqlite")).connect().await.unwrap()
}

crate::contract::on!(super::fresh);

#[tokio::test]
async fn reopening_keeps_everything() {
    let (directory, folder) = fresh().await;
    let (ada, bob) = (register(&directory, "ada").await, register(&directory, "bob").await);
    let session = new_session(ada.id, 1);
    open_session(&directory, &session).await;
    let group = create_group(&directory, ada.id, &[bob.id]).await;
    let outbox = directory.outbox(0, 10).await.unwrap();
    assert_eq!(outbox.len(), 2);
    drop(directory);

    let directory = open_in(&folder).await.unwrap();
    assert_eq!(directory.users(&[ada.id, bob.id]).await.unwrap(), [Some(ada.clone()), Some(bob.clone())]);
    assert_eq!(directory.groups(&[group.id]).await.unwrap(), [Some(group.clone())]);
    assert_eq!(directory.role(group.id, bob.id).await.unwrap(), Some(MemberRole::Member));
    assert_eq!(directory.sessions(ada.id, at(2)).await.unwrap().len(), 1);
    assert_eq!(directory.outbox(0, 10).await.unwrap(), outbox);
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused() {
    let (directory, folder) = fresh().await;
    drop(directory);
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9000, 'of tomorrow', TRUE, x'00', 0)";
    sqlx::query(newer).execute(&mut connect(&folder).await).await.unwrap();
    let Err(Error::Damaged(reason)) = open_in(&folder).await else { panic!("it was opened") };
    assert!(reason.contains("9000") && reason.contains("newer program"), "{reason}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("directory.sqlite"), [b'x'; 8192]).unwrap();
    assert!(matches!(open_in(&folder).await, Err(Error::Damaged(_))));
}

#[tokio::test]
async fn the_folder_is_made_when_missing() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::Sqlite { path: "deep/down/directory.sqlite".into() };
    crate::open(&config, folder.path()).await.unwrap();
    assert!(folder.path().join("deep/down/directory.sqlite").exists());
}

#[tokio::test]
async fn a_command_that_is_given_up_changes_nothing() {
    let (directory, _folder) = fresh().await;
    let ada = register(&directory, "ada").await.id;
    // Each is dropped at another of its waits.
    for polls in 0..12 {
        let command = crate::contract::create(ada, &[]);
        poll_a_few_times(directory.execute(&command), polls).await;
    }
    let groups = directory.groups_of(ada).await.unwrap().len();
    assert_eq!(directory.outbox(0, 100).await.unwrap().len(), groups);
    create_group(&directory, ada, &[]).await;
    assert_eq!(directory.groups_of(ada).await.unwrap().len(), groups + 1);
}

/// Polls a future so many times, less when it ends before, and drops it.
async fn poll_a_few_times<F: Future + Unpin>(mut future: F, polls: usize) {
    for _ in 0..polls {
        if has_ended(&mut future).await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Polls a future once, and tells whether it has ended.
async fn has_ended<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|ctx| Poll::Ready(Pin::new(&mut *future).poll(ctx).is_ready())).await
}

const FILL: &str = "
    WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?2)
    INSERT INTO users (id, username, name, email, password_hash, roles, fingerprint, created_at, updated_at)
    SELECT unhex(format('01980a8e6c0070008000%012x', n)), 'u' || n, '', '', '', '[]', x'', 0, 0 FROM number
    WHERE ?1 IS NOT NULL";
const JOIN: &str = "INSERT INTO members SELECT ?1, id, 0 FROM users WHERE username LIKE 'u%'";
const RECOUNT: &str = "
    UPDATE groups SET members_count = (SELECT count(*) FROM members WHERE group_id = groups.id) WHERE id = ?1";

#[tokio::test]
async fn a_group_fills_to_its_limit_and_ends_whole() {
    let (directory, folder) = fresh().await;
    let (owner, last) = (register(&directory, "owner").await.id, register(&directory, "last").await.id);
    let late = register(&directory, "late").await.id;
    let group = create_group(&directory, owner, &[]).await.id;
    let mut db = connect(&folder).await;
    let id = sqlx::types::Uuid::from(group);
    let missing = i64::try_from(MAX_MEMBERS - 2).unwrap();
    for sql in [FILL, JOIN, RECOUNT] {
        sqlx::query(sql).bind(id).bind(missing).execute(&mut db).await.unwrap();
    }
    assert_eq!(refused(&directory, add(group, owner, &[last, late])).await, Refusal::TooManyMembers);
    let full = done(&directory, add(group, owner, &[last])).await.group.unwrap();
    assert_eq!(full.members_count, u64::try_from(MAX_MEMBERS).unwrap());
    assert_eq!(refused(&directory, add(group, owner, &[late])).await, Refusal::TooManyMembers);

    let outcome = done(&directory, Command::DeleteGroup { group, by: owner, at: at(3) }).await;
    assert_eq!(outcome.events.len(), MAX_MEMBERS);
    let rows = directory.outbox(0, MAX_MEMBERS + 10).await.unwrap();
    assert_eq!(rows[2..], outcome.events[..]);
    assert_eq!(directory.groups_of(last).await.unwrap(), []);
}

const FILL_NAMES: &str = "
    WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
    INSERT INTO users (id, username, username_folded, name, name_folded, email, password_hash, roles, fingerprint,
        created_at, updated_at)
    SELECT unhex(format('01980a8e6c0070008000%012x', n)), format('u%06d', ?1 - n), format('u%06d', ?1 - n),
        format('a%06d', n), format('a%06d', n), '', '', '[]', x'', 0, 0
    FROM number";

#[tokio::test]
async fn a_search_looks_through_so_many_names_and_no_more() {
    let (directory, folder) = fresh().await;
    let one_more = i64::try_from(MAX_NAMES_SEARCHED + 1).unwrap();
    sqlx::query(FILL_NAMES).bind(one_more).execute(&mut connect(&folder).await).await.unwrap();
    crate::contract::users::the_last_of_too_many_names_is_not_found(&directory).await;
}
