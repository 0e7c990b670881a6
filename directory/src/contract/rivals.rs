//! What every directory promises of commands that are carried out at the same time.

use std::collections::BTreeSet;

use types::{Body, UserId};

use super::{
    Done, Shared, add, at, at_once, attachments, create, create_group, done, member_ids, new_session, new_user,
    open_session, register, register_all, remove, secret, told,
};
use crate::{Command, MAX_SENDS, NewUser, Outcome, Refusal, Role};

/// How many do something at the same time.
const RIVALS: usize = 24;
/// How often two commands are set against each other.
const ROUNDS: usize = 12;

/// The one that was carried out; all others were refused for this reason.
fn only(done: Vec<Done>, refusal: Refusal) -> Outcome {
    let (carried_out, refused): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    assert_eq!(carried_out.len(), 1, "{carried_out:?}");
    assert!(refused.iter().all(|done| *done == Err(refusal)), "{refused:?}");
    carried_out.into_iter().flatten().next().unwrap()
}

fn register_as(user: NewUser) -> Command {
    Command::Register { user, session: None }
}

fn rename(user: UserId, username: &str) -> Command {
    let rename = serde_json::json!({ "command": "update_user", "user": user, "username": username, "at": at(5) });
    serde_json::from_value(rename).unwrap()
}

pub(crate) async fn of_many_first_users_at_once_one_becomes_operator(directory: &Shared) {
    let commands = (0..RIVALS).map(|number| register_as(new_user(&format!("user{number}"))));
    let done = at_once(directory, commands).await;
    let users: Vec<_> = done.into_iter().map(|done| done.unwrap().user.unwrap()).collect();
    let operators = users.iter().filter(|user| user.roles.contains(&Role::Operator)).count();
    assert_eq!((users.len(), operators), (RIVALS, 1));
}

pub(crate) async fn of_many_registrations_of_one_name_at_once_one_is_carried_out(directory: &Shared) {
    register(directory, "operator").await;
    let rival = |number| NewUser { email: format!("{number}@example.org"), ..new_user("ada") };
    let registered =
        only(at_once(directory, (0..RIVALS).map(|number| register_as(rival(number)))).await, Refusal::UsernameTaken);
    let found = directory.credentials("ada").await.unwrap().map(|found| found.user);
    assert_eq!(found, registered.user);
    let rival = |number: usize| NewUser { email: "bob@example.org".into(), ..new_user(&format!("bob{number}")) };
    only(at_once(directory, (0..RIVALS).map(|number| register_as(rival(number)))).await, Refusal::EmailTaken);
}

pub(crate) async fn of_many_users_who_want_one_name_at_once_one_gets_it(directory: &Shared) {
    let users: [UserId; RIVALS] = register_all(directory).await;
    let renamed =
        only(at_once(directory, users.map(|user| rename(user, "lady"))).await, Refusal::UsernameTaken).user.unwrap();
    // It moves on, and the name stays its own, though somebody asks for it at the same moment.
    let (moved, late) = (rename(renamed.id, "countess"), new_user("lady"));
    let done = at_once(directory, [moved, register_as(late)]).await;
    assert!(done[0].is_ok() && done[1] == Err(Refusal::UsernameTaken), "{done:?}");
}

pub(crate) async fn of_many_repetitions_of_a_command_at_once_one_is_carried_out(directory: &Shared) {
    let [ada, bob] = register_all(directory).await;
    let registration = register_as(new_user("carl"));
    let opening = Command::OpenSession { session: new_session(ada, 0) };
    for command in [registration, opening, create(ada, &[bob])] {
        let done = at_once(directory, vec![command; RIVALS]).await;
        let repeated = done.iter().filter(|done| done.as_ref().unwrap().repeated).count();
        assert_eq!(repeated, RIVALS - 1);
    }
    assert_eq!(directory.outbox(0, 10).await.unwrap().len(), 2);
}

pub(crate) async fn of_many_rotations_of_one_token_at_once_at_most_two_win(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let session = new_session(ada, 0);
    open_session(directory, &session).await;
    let rotate = |next| Command::RotateSession {
        session: session.id,
        presented: secret(1),
        next: secret(next),
        expires_at: at(2000),
        at: at(10),
    };
    let done = at_once(directory, (2..20).map(rotate)).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 2);
    // The third one ends the session; those behind it find it ended.
    let reused = done.iter().filter(|done| **done == Err(Refusal::SessionReused)).count();
    let unknown = done.iter().filter(|done| **done == Err(Refusal::UnknownSession)).count();
    assert_eq!((reused, unknown), (1, 15));
    assert_eq!(directory.sessions(ada, at(10)).await.unwrap(), []);
}

pub(crate) async fn many_owners_who_leave_at_once_are_followed_or_end_the_group(directory: &Shared) {
    let users: [UserId; RIVALS] = register_all(directory).await;
    let group = create_group(directory, users[0], &users).await.id;
    let (leaving, staying) = users.split_at(RIVALS / 2);
    for done in at_once(directory, leaving.iter().map(|user| remove(group, *user, *user))).await {
        done.unwrap();
    }
    let left = directory.groups(&[group]).await.unwrap().remove(0).unwrap();
    assert_eq!(member_ids(directory, group).await, staying);
    assert_eq!(left.members_count, staying.len() as u64);
    assert!(staying.contains(&left.owner));
    let done = at_once(directory, staying.iter().map(|user| remove(group, *user, *user))).await;
    assert_eq!(done.iter().filter(|done| done.as_ref().unwrap().group.is_none()).count(), 1);
    assert_eq!(directory.groups(&[group]).await.unwrap(), [None]);
}

pub(crate) async fn a_user_who_is_deleted_is_added_to_nothing_meanwhile(directory: &Shared) {
    let owner = register(directory, "owner").await.id;
    for round in 0..ROUNDS {
        let user = register(directory, &format!("user{round}")).await.id;
        let others = [create_group(directory, owner, &[]).await.id, create_group(directory, owner, &[user]).await.id];
        let delete = Command::DeleteUser { user, at: at(3) };
        let rivals = [add(others[0], owner, &[user]), delete, create(owner, &[user]), remove(others[1], owner, user)];
        let done = at_once(directory, rivals).await;
        done[1].as_ref().unwrap();
        for done in [&done[0], &done[2], &done[3]] {
            assert!(matches!(done, Ok(_) | Err(Refusal::UnknownUser)), "{done:?}");
        }
        assert_eq!(directory.groups_of(user).await.unwrap(), []);
        for group in directory.groups(&directory.groups_of(owner).await.unwrap()).await.unwrap() {
            let group = group.unwrap();
            assert_eq!((group.members_count, group.owner), (1, owner));
        }
    }
}

pub(crate) async fn a_user_who_is_deleted_opens_no_session_meanwhile(directory: &Shared) {
    for round in 0..ROUNDS {
        let user = register(directory, &format!("user{round}")).await.id;
        let open = Command::OpenSession { session: new_session(user, 0) };
        let done = at_once(directory, [open, Command::DeleteUser { user, at: at(3) }]).await;
        assert!(matches!(done[0], Ok(_) | Err(Refusal::UnknownUser)), "{done:?}");
        assert_eq!(directory.sessions(user, at(4)).await.unwrap(), []);
    }
}

pub(crate) async fn operators_who_degrade_each_other_at_once_leave_one(directory: &Shared) {
    let [ada, bob] = register_all(directory).await;
    let grant = |by, user, roles: &[Role]| Command::SetRoles { by, user, roles: roles.to_vec(), at: at(4) };
    for _ in 0..ROUNDS {
        for user in [ada, bob] {
            done(directory, grant(None, user, &[Role::Operator])).await;
        }
        let rivals = [grant(Some(ada), bob, &[]), grant(Some(bob), ada, &[])];
        only(at_once(directory, rivals).await, Refusal::NotOperator);
    }
}

pub(crate) async fn the_outbox_tells_of_one_group_in_the_order_of_its_changes(directory: &Shared) {
    let owner = register(directory, "owner").await.id;
    let users: [UserId; 8] = register_all(directory).await;
    let groups = [create_group(directory, owner, &[]).await.id, create_group(directory, owner, &[]).await.id];
    let mut commands = Vec::new();
    for group in groups {
        for user in users {
            commands.extend([add(group, owner, &[user]), remove(group, owner, user), add(group, owner, &[user])]);
        }
    }
    for done in at_once(directory, commands).await {
        assert!(matches!(done, Ok(_) | Err(Refusal::UnknownUser)), "{done:?}");
    }
    let rows = directory.outbox(0, 1_000).await.unwrap();
    for group in groups {
        let rows: Vec<_> = rows.iter().filter(|row| row.conversation == group.into()).cloned().collect();
        let mut members = BTreeSet::new();
        for (_, body) in told(&rows) {
            match body {
                Body::MemberAdded { user } => assert!(members.insert(user), "{user} comes twice"),
                Body::MemberRemoved { user } => assert!(members.remove(&user), "{user} goes before it comes"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(member_ids(directory, group).await, members.into_iter().collect::<Vec<_>>());
    }
}

pub(crate) async fn of_many_sends_at_once_no_more_are_carried_out_than_may(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let attachment = attachments::made(directory, ada, 1).await;
    let send = || attachments::send(&attachment, attachments::group(), attachments::message());
    for _ in 2..MAX_SENDS {
        done(directory, send()).await;
    }
    let sends = at_once(directory, (0..RIVALS).map(|_| send())).await;
    assert_eq!(sends.iter().filter(|sent| sent.is_ok()).count(), 2);
    assert_eq!(sends.iter().filter(|sent| **sent == Err(Refusal::TooManySends)).count(), RIVALS - 2);
}

pub(crate) async fn an_attachment_is_sent_or_given_up_and_never_both(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    for _ in 0..ROUNDS {
        let attachment = attachments::made(directory, ada, 1).await;
        let send = || attachments::send(&attachment, attachments::group(), attachments::message());
        let give_up = || Command::CondemnOrphans { before: at(2) };
        let done = at_once(directory, [send(), give_up(), send(), give_up()]).await;
        let sent = done.iter().step_by(2).filter(|sent| sent.is_ok()).count();
        assert!(done.iter().all(|done| matches!(done, Ok(_) | Err(Refusal::UnknownAttachment))), "{done:?}");
        let is_there = directory.attachment(attachment.id).await.unwrap().is_some();
        let is_condemned = attachments::condemned(directory).await.contains(&attachment.id);
        assert_eq!((sent > 0, is_condemned), (is_there, !is_there), "{done:?}");
        assert_eq!(directory.sent_in(attachment.id).await.unwrap().len(), sent);
    }
}

pub(crate) async fn an_upload_is_made_an_attachment_or_given_up_and_never_both(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    for _ in 0..ROUNDS {
        let begun = attachments::upload(ada, 1);
        done(directory, attachments::begin(&begun)).await;
        // Made later than it began, so that only what was begun can be given up.
        let make = attachments::add(&attachments::attachment(begun.id, ada, 3), None);
        let done = at_once(directory, [make, Command::CondemnOrphans { before: at(2) }]).await;
        assert!(matches!(done[0], Ok(_) | Err(Refusal::UnknownUpload)), "{done:?}");
        let is_there = directory.attachment(begun.id).await.unwrap().is_some();
        let is_condemned = attachments::condemned(directory).await.contains(&begun.id);
        assert_eq!((done[0].is_ok(), is_condemned), (is_there, !is_there));
        assert_eq!(directory.upload(begun.id).await.unwrap(), None);
    }
}

pub(crate) async fn what_is_sent_while_another_message_is_deleted_is_kept(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    for _ in 0..ROUNDS {
        let attachment = attachments::made(directory, ada, 1).await;
        let (room, first) = (attachments::group(), attachments::message());
        // Deleted while it is sent once more.
        let again = attachments::send(&attachment, attachments::group(), first);
        let withdraw = Command::WithdrawAttachments { message: first, at: at(5) };
        let other = attachments::send(&attachment, room, attachments::message());
        for done in at_once(directory, [again, withdraw.clone(), other, withdraw]).await {
            done.unwrap();
        }
        assert!(done(directory, Command::CondemnOrphans { before: at(100) }).await.repeated);
        assert!(directory.sent_in(attachment.id).await.unwrap().contains(&room));
    }
}

pub(crate) async fn of_many_completions_at_once_one_attachment_is_made(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let by_link = attachments::upload(ada, 1);
    done(directory, attachments::begin(&by_link)).await;
    let mut completions = Vec::new();
    for _ in 0..RIVALS {
        let copy = attachments::upload(ada, 2);
        done(directory, attachments::begin(&copy)).await;
        completions.push(attachments::add(&attachments::attachment(copy.id, ada, 3), Some(by_link.id)));
    }
    let outcomes: Vec<_> = at_once(directory, completions).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.repeated).count(), 1);
    assert!(outcomes.iter().all(|outcome| outcome.attachment == outcomes[0].attachment));
}

pub(crate) async fn a_reader_that_caught_up_sees_what_was_done(directory: &Shared) {
    let mut last = directory.version().await.unwrap();
    for round in 0..ROUNDS {
        let user = register(directory, &format!("user{round}")).await;
        let version = directory.version().await.unwrap();
        assert!(version >= last);
        directory.catch_up(version);
        assert_eq!(directory.users(&[user.id]).await.unwrap(), [Some(user.clone())]);
        last = version;
    }
}
