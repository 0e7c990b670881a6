//! What every directory promises of sessions.

use std::time::Duration;

use types::{Region, SessionId, Timestamp, UserId};

use super::{Shared, at, at_once, done, new_session, open_session, refused, register, secret};
use crate::{Command, MAX_SESSIONS_PER_USER, NewSession, REPEATED_WITHIN, Refusal, SecretHash, Session};

/// Exchanges the token `presented` for `next`, ten seconds in.
fn rotate(session: SessionId, presented: u8, next: u8) -> Command {
    rotate_at(at(10), session, presented, next)
}

fn rotate_at(at: Timestamp, session: SessionId, presented: u8, next: u8) -> Command {
    let (presented, next, expires_at) = (secret(presented), secret(next), super::at(2000));
    Command::RotateSession { session, presented, next, expires_at, at }
}

async fn opened(directory: &Shared) -> NewSession {
    let user = register(directory, "ada").await;
    let session = new_session(user.id, 0);
    open_session(directory, &session).await;
    session
}

pub(crate) async fn sessions_come_newest_first_and_end_in_time(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let (old, new) = (new_session(ada, 0), new_session(ada, 5));
    for session in [&old, &new] {
        open_session(directory, session).await;
    }
    let record = |new: &NewSession| Session {
        id: new.id,
        user: ada,
        client: "a test".into(),
        created_at: new.at,
        refreshed_at: new.at,
        expires_at: new.expires_at,
    };
    assert_eq!(directory.sessions(ada, at(6)).await.unwrap(), [record(&new), record(&old)]);
    assert_eq!(directory.sessions(ada, at(1000)).await.unwrap(), [record(&new)]);
    assert_eq!(directory.sessions(ada, at(1005)).await.unwrap(), []);
    assert_eq!(directory.session(old.id).await.unwrap(), Some(record(&old)));
    assert_eq!(directory.session(SessionId::generate(Region::default())).await.unwrap(), None);
}

pub(crate) async fn a_session_is_opened_once(directory: &Shared) {
    let session = opened(directory).await;
    let again = Command::OpenSession { session: NewSession { at: at(1), ..session.clone() } };
    assert!(done(directory, again).await.repeated);
    assert_eq!(directory.sessions(session.user, at(1)).await.unwrap().len(), 1);
    let other = Command::OpenSession { session: NewSession { refresh_hash: secret(9), ..session.clone() } };
    assert_eq!(refused(directory, other).await, Refusal::IdTaken);
    let nobody = new_session(UserId::generate(Region::default()), 0);
    assert_eq!(refused(directory, Command::OpenSession { session: nobody }).await, Refusal::UnknownUser);
    let both = Command::OpenSession { session: new_session(session.user, 2) };
    let (one, other) = tokio::join!(directory.execute(&both), directory.execute(&both));
    assert!(one.unwrap().unwrap().repeated != other.unwrap().unwrap().repeated);
}

pub(crate) async fn no_session_is_opened_by_a_password_that_was_changed_meanwhile(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let hash = directory.credentials("ada").await.unwrap().unwrap().password_hash;
    let verified = Some(SecretHash::of(&hash));
    let [before, after] = [1, 2].map(|opened| NewSession { verified, ..new_session(ada, opened) });
    open_session(directory, &before).await;
    let change = serde_json::json!({"command": "update_user", "user": ada, "password_hash": "$new", "at": at(5)});
    done(directory, serde_json::from_value(change).unwrap()).await;
    let late = Command::OpenSession { session: after.clone() };
    assert_eq!(refused(directory, late).await, Refusal::PasswordChanged);
    assert_eq!(directory.sessions(ada, at(6)).await.unwrap(), []);
    open_session(directory, &NewSession { verified: Some(SecretHash::of("$new")), ..after }).await;
    assert!(done(directory, Command::OpenSession { session: before }).await.repeated, "it was opened before");
}

pub(crate) async fn of_too_many_sessions_the_least_recently_refreshed_ends(directory: &Shared) {
    let (ada, bob) = (register(directory, "ada").await.id, register(directory, "bob").await.id);
    let other = new_session(bob, 0);
    open_session(directory, &other).await;
    let [ended, expired] = [0, 1].map(|opened| new_session(ada, opened));
    open_session(directory, &ended).await;
    done(directory, Command::RevokeSession { user: ada, session: ended.id, at: at(1) }).await;
    open_session(directory, &NewSession { expires_at: at(2), ..expired }).await;
    let sessions: Vec<_> = (3..).map(|opened| new_session(ada, opened)).take(MAX_SESSIONS_PER_USER + 2).collect();
    let (late, early) = sessions.split_last_chunk::<2>().map(|(early, late)| (late, early)).unwrap();
    for session in early {
        let opened = done(directory, Command::OpenSession { session: session.clone() }).await;
        assert_eq!(opened.revoked, [], "{} are open", directory.sessions(ada, session.at).await.unwrap().len());
    }
    let refresh = rotate_at(at(500), early[1].id, 1, 2);
    done(directory, refresh).await;
    // The first one was refreshed longest ago, and then the third.
    for (session, expected) in late.iter().zip([&early[0], &early[2]]) {
        let session = NewSession { at: at(501), ..session.clone() };
        let opened = done(directory, Command::OpenSession { session: session.clone() }).await;
        assert_eq!(opened.revoked, [expected.id]);
        assert_eq!(directory.sessions(ada, at(501)).await.unwrap().len(), MAX_SESSIONS_PER_USER);
        assert!(done(directory, Command::OpenSession { session }).await.repeated);
    }
    let revoked = directory.revoked_since(at(501)).await.unwrap();
    assert_eq!(revoked.len(), 2, "{revoked:?}");
    assert_eq!(directory.sessions(ada, at(501)).await.unwrap().len(), MAX_SESSIONS_PER_USER);
    assert_eq!(directory.sessions(bob, at(501)).await.unwrap().len(), 1);
}

pub(crate) async fn a_refresh_token_is_good_once(directory: &Shared) {
    let session = opened(directory).await;
    let rotated = done(directory, rotate(session.id, 1, 2)).await.session.unwrap();
    assert_eq!((rotated.created_at, rotated.refreshed_at, rotated.expires_at), (at(0), at(10), at(2000)));
    done(directory, rotate(session.id, 2, 3)).await;
    assert_eq!(refused(directory, rotate(session.id, 1, 4)).await, Refusal::SessionReused);
    assert_eq!(directory.sessions(session.user, at(10)).await.unwrap(), []);
    assert_eq!(directory.revoked_since(at(10)).await.unwrap(), [(session.user, session.id)]);
    assert_eq!(refused(directory, rotate(session.id, 3, 5)).await, Refusal::UnknownSession);
}

pub(crate) async fn a_rotation_sent_again_is_no_replay(directory: &Shared) {
    let session = opened(directory).await;
    let first = done(directory, rotate(session.id, 1, 2)).await;
    let again = done(directory, rotate(session.id, 1, 2)).await;
    assert!(!first.repeated && again.repeated);
    assert_eq!(again.session, first.session);
    assert_eq!(directory.sessions(session.user, at(10)).await.unwrap().len(), 1);
}

pub(crate) async fn a_rotation_whose_answer_was_lost_is_repeated_once(directory: &Shared) {
    let session = opened(directory).await;
    done(directory, rotate(session.id, 1, 2)).await;
    let last = at(10).plus(REPEATED_WITHIN);
    let repeated = done(directory, rotate_at(last, session.id, 1, 3)).await;
    assert!(!repeated.repeated, "it is another token");
    assert_eq!(repeated.session.unwrap().refreshed_at, last);
    done(directory, rotate_at(last, session.id, 3, 4)).await;
    done(directory, rotate_at(last, session.id, 3, 5)).await;
    // No token comes three times.
    assert_eq!(refused(directory, rotate_at(last, session.id, 3, 6)).await, Refusal::SessionReused);
    assert_eq!(directory.sessions(session.user, last).await.unwrap(), []);
}

pub(crate) async fn a_token_that_comes_again_later_ends_the_session(directory: &Shared) {
    let session = opened(directory).await;
    done(directory, rotate(session.id, 1, 2)).await;
    let later = at(10).plus(REPEATED_WITHIN).plus(Duration::from_millis(1));
    assert_eq!(refused(directory, rotate_at(later, session.id, 1, 3)).await, Refusal::SessionReused);
    assert_eq!(refused(directory, rotate_at(later, session.id, 2, 4)).await, Refusal::UnknownSession);
}

pub(crate) async fn a_token_whose_exchange_was_repeated_ends_the_session(directory: &Shared) {
    let session = opened(directory).await;
    done(directory, rotate(session.id, 1, 2)).await;
    done(directory, rotate(session.id, 1, 3)).await;
    // Somebody got the first answer, and somebody else the second one.
    assert_eq!(refused(directory, rotate(session.id, 2, 4)).await, Refusal::SessionReused);
    assert_eq!(refused(directory, rotate(session.id, 3, 5)).await, Refusal::UnknownSession);
}

pub(crate) async fn of_three_rotations_at_once_the_last_ends_the_session(directory: &Shared) {
    let session = opened(directory).await;
    let mut done = at_once(directory, [2, 3, 4].map(|next| rotate(session.id, 1, next))).await;
    done.retain(Result::is_err);
    assert_eq!(done, [Err(Refusal::SessionReused)]);
    assert_eq!(directory.sessions(session.user, at(10)).await.unwrap(), []);
}

pub(crate) async fn an_ended_session_is_unknown(directory: &Shared) {
    let session = opened(directory).await;
    assert_eq!(refused(directory, rotate(SessionId::generate(Region::default()), 1, 2)).await, Refusal::UnknownSession);
    let late = Command::RotateSession {
        session: session.id,
        presented: secret(1),
        next: secret(2),
        expires_at: at(3000),
        at: session.expires_at,
    };
    assert_eq!(refused(directory, late).await, Refusal::UnknownSession);
    let revoke = |at| Command::RevokeSession { user: session.user, session: session.id, at };
    assert_eq!(refused(directory, revoke(session.expires_at)).await, Refusal::UnknownSession);
    assert_eq!(done(directory, revoke(at(3))).await.revoked, [session.id]);
    assert_eq!(refused(directory, revoke(at(4))).await, Refusal::UnknownSession);
    assert_eq!(refused(directory, rotate(session.id, 1, 2)).await, Refusal::UnknownSession);
}

pub(crate) async fn nobody_ends_the_session_of_another(directory: &Shared) {
    let session = opened(directory).await;
    let bob = register(directory, "bob").await.id;
    let revoke = Command::RevokeSession { user: bob, session: session.id, at: at(3) };
    assert_eq!(refused(directory, revoke).await, Refusal::UnknownSession);
    assert_eq!(directory.sessions(session.user, at(3)).await.unwrap().len(), 1);
}

pub(crate) async fn revoked_sessions_are_told_from_a_moment_on(directory: &Shared) {
    let (ada, bob) = (register(directory, "ada").await.id, register(directory, "bob").await.id);
    let sessions = [new_session(ada, 1), new_session(ada, 2), new_session(bob, 3)];
    for (session, revoked) in sessions.iter().zip([20, 21, 22]) {
        open_session(directory, session).await;
        done(directory, Command::RevokeSession { user: session.user, session: session.id, at: at(revoked) }).await;
    }
    let ended = directory.revoked_since(at(21)).await.unwrap();
    assert_eq!(ended, [(ada, sessions[1].id), (bob, sessions[2].id)]);
    assert_eq!(directory.revoked_since(at(23)).await.unwrap(), []);
}

pub(crate) async fn sessions_that_ended_long_ago_are_forgotten(directory: &Shared) {
    let session = opened(directory).await;
    done(directory, rotate(session.id, 1, 2)).await;
    let later = session.expires_at.plus(Duration::from_secs(31 * 24 * 3600));
    let next =
        NewSession { at: later, expires_at: later.plus(Duration::from_secs(60)), ..new_session(session.user, 0) };
    open_session(directory, &next).await;
    assert_eq!(directory.session(session.id).await.unwrap(), None);
    assert!(directory.session(next.id).await.unwrap().is_some());
}
