//! What every directory promises of users.

use serde_json::json;
use types::{Body, ConversationId, GroupId, Region, UserId};

use super::{
    Shared, add, at, create_group, done, member_ids, new_session, new_user, open_session, refused, register,
    register_all, remove, told,
};
use crate::{Command, Group, MAX_NAMES_SEARCHED, MAX_USERNAMES_PER_USER, NewUser, Refusal, Role, SecretHash, User};

fn register_as(user: &NewUser) -> Command {
    Command::Register { user: user.clone(), session: None }
}

/// An update of the fields that are given, five seconds in.
fn update(user: UserId, mut fields: serde_json::Value) -> Command {
    fields["command"] = "update_user".into();
    fields["user"] = user.to_string().into();
    fields["at"] = at(5).to_string().into();
    serde_json::from_value(fields).unwrap()
}

fn rename(user: UserId, username: &str) -> Command {
    update(user, json!({ "username": username }))
}

pub(crate) async fn the_first_user_becomes_operator_and_analyst(directory: &Shared) {
    assert_eq!(register(directory, "ada").await.roles, [Role::Operator, Role::Analyst]);
    assert_eq!(register(directory, "bob").await.roles, []);
}

pub(crate) async fn a_user_name_is_given_once_without_regard_to_case(directory: &Shared) {
    register(directory, "Ada").await;
    let other = NewUser { email: "other@example.org".into(), ..new_user("aDA") };
    assert_eq!(refused(directory, register_as(&other)).await, Refusal::UsernameTaken);
    let bob = register(directory, "bob").await;
    assert_eq!(refused(directory, rename(bob.id, "ADA")).await, Refusal::UsernameTaken);
}

pub(crate) async fn an_email_address_is_given_once_without_regard_to_case(directory: &Shared) {
    register(directory, "ada").await;
    let other = NewUser { email: "ADA@Example.org".into(), ..new_user("bob") };
    assert_eq!(refused(directory, register_as(&other)).await, Refusal::EmailTaken);
    let bob = register(directory, "bob").await;
    let command = update(bob.id, json!({ "email": "Ada@example.org" }));
    assert_eq!(refused(directory, command).await, Refusal::EmailTaken);
}

pub(crate) async fn of_two_registrations_of_one_name_at_once_one_is_refused(directory: &Shared) {
    let (one, other) = (register_as(&new_user("ada")), register_as(&new_user("Ada")));
    let (one, other) = tokio::join!(directory.execute(&one), directory.execute(&other));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one.is_ok() != other.is_ok());
    assert_eq!(one.and(other).unwrap_err(), Refusal::UsernameTaken);
}

pub(crate) async fn a_registration_sent_again_registers_once(directory: &Shared) {
    let user = new_user("ada");
    let session = Some(new_session(user.id, 0));
    let command = Command::Register { user, session };
    let first = done(directory, command.clone()).await;
    assert!(!first.repeated && first.session.is_some());
    let Command::Register { user, session } = command else { unreachable!("a registration") };
    let later = Command::Register { user: NewUser { at: at(9), ..user }, session };
    let again = done(directory, later).await;
    assert!(again.repeated);
    assert_eq!((again.user, again.session), (first.user, first.session));
}

pub(crate) async fn of_a_registration_sent_twice_at_once_one_is_repeated(directory: &Shared) {
    let command = register_as(&new_user("ada"));
    let (one, other) = tokio::join!(directory.execute(&command), directory.execute(&command));
    let (one, other) = (one.unwrap().unwrap(), other.unwrap().unwrap());
    assert!(one.repeated != other.repeated);
    assert_eq!(one.user, other.user);
}

pub(crate) async fn a_user_id_stands_for_one_user(directory: &Shared) {
    let ada = new_user("ada");
    done(directory, register_as(&ada)).await;
    let other = NewUser { id: ada.id, ..new_user("bob") };
    assert_eq!(refused(directory, register_as(&other)).await, Refusal::IdTaken);
    let other_password = NewUser { password_hash: "$argon2id$other".into(), ..ada.clone() };
    assert_eq!(refused(directory, register_as(&other_password)).await, Refusal::IdTaken);
    let with_session = Command::Register { session: Some(new_session(ada.id, 0)), user: ada };
    assert_eq!(refused(directory, with_session).await, Refusal::IdTaken);
}

pub(crate) async fn a_registration_that_is_refused_leaves_nothing(directory: &Shared) {
    let ada = register(directory, "ada").await;
    let taken = new_session(ada.id, 0);
    open_session(directory, &taken).await;
    let bob = new_user("bob");
    let session = Some(crate::NewSession { user: bob.id, ..taken });
    let command = Command::Register { user: bob.clone(), session };
    assert_eq!(refused(directory, command).await, Refusal::IdTaken);
    assert_eq!(directory.users(&[bob.id]).await.unwrap(), [None]);
    done(directory, register_as(&bob)).await;
}

pub(crate) async fn a_user_is_found_by_user_name_and_by_email_in_any_case(directory: &Shared) {
    let ada = register(directory, "Ada").await;
    assert_eq!(ada.username, "Ada");
    for login in ["ada", "ADA", "ada@example.org", "Ada@Example.ORG"] {
        let found = directory.credentials(login).await.unwrap().unwrap();
        assert_eq!(found.user, ada, "{login}");
        assert_eq!(found.password_hash, "$argon2id$Ada");
    }
    assert!(directory.credentials("").await.unwrap().is_none());
    assert!(directory.credentials("ada\0").await.unwrap().is_none());
    assert!(directory.credentials("ad").await.unwrap().is_none());
}

pub(crate) async fn users_come_in_the_order_of_the_question(directory: &Shared) {
    let (ada, bob) = (register(directory, "ada").await, register(directory, "bob").await);
    let nobody = UserId::generate(Region::default());
    let found = directory.users(&[bob.id, nobody, ada.id, bob.id]).await.unwrap();
    assert_eq!(found, [Some(bob.clone()), None, Some(ada), Some(bob)]);
    assert_eq!(directory.users(&[]).await.unwrap(), []);
}

pub(crate) async fn a_search_finds_beginnings_of_names_and_nothing_else(directory: &Shared) {
    for (username, name) in [("ada.l", "Ada"), ("bob", "Adam Ünal"), ("carl_x", "Carl"), ("dada", "%"), ("eve", "Ünal")]
    {
        done(directory, register_as(&NewUser { name: name.into(), ..new_user(username) })).await;
    }
    let eve = directory.credentials("eve").await.unwrap().unwrap().user;
    for (query, expected) in [
        ("ad", vec!["ada.l", "bob"]),
        ("AD", vec!["ada.l", "bob"]),
        ("ÜN", vec!["eve"]),
        ("%", vec!["dada"]),
        ("_", vec![]),
        ("ada_l", vec![]),
        ("x", vec![]),
        ("ad\0", vec![]),
        ("", vec!["ada.l", "bob", "carl_x", "dada", "eve"]),
    ] {
        assert_eq!(names(&directory.search_users(query, None, 10).await.unwrap()), expected, "{query}");
    }
    done(directory, Command::DeleteUser { user: eve.id, at: at(3) }).await;
    assert_eq!(directory.search_users("ün", None, 10).await.unwrap(), []);
    assert_eq!(names(&directory.search_users("", None, 10).await.unwrap()), ["ada.l", "bob", "carl_x", "dada"]);
}

/// One user too many is there. The later a name comes, the earlier the user name: from `a000001` of `u001000` on.
pub(crate) async fn the_last_of_too_many_names_is_not_found(directory: &Shared) {
    let search = async |query, after, limit| {
        let found = directory.search_users(query, after, limit).await.unwrap();
        found.into_iter().map(|user| user.username).collect::<Vec<_>>()
    };
    assert_eq!(search("a", None, 2).await, ["u000001", "u000002"]);
    assert_eq!(search("a", Some("u000998"), 10).await, ["u000999", "u001000"]);
    // By a name that fewer have, and by the user name.
    let last = format!("a{:06}", MAX_NAMES_SEARCHED + 1);
    assert_eq!(search(&last, None, 10).await, ["u000000"]);
    assert_eq!(search("u", None, 2).await, ["u000000", "u000001"]);
}

fn names(users: &[User]) -> Vec<&str> {
    users.iter().map(|user| user.username.as_str()).collect()
}

pub(crate) async fn a_search_is_read_on_after_a_user_name(directory: &Shared) {
    for username in ["Carl", "ada", "Bob", "dora"] {
        done(directory, register_as(&NewUser { name: "The same".into(), ..new_user(username) })).await;
    }
    for query in ["", "the"] {
        assert_eq!(names(&directory.search_users(query, None, 2).await.unwrap()), ["ada", "Bob"]);
        assert_eq!(names(&directory.search_users(query, Some("Bob"), 2).await.unwrap()), ["Carl", "dora"]);
        assert_eq!(directory.search_users(query, Some("dora"), 2).await.unwrap(), []);
    }
}

pub(crate) async fn an_update_changes_what_is_given_and_nothing_else(directory: &Shared) {
    let ada = register(directory, "ada").await;
    let picture = "https://example.org/a.png";
    let command = update(
        ada.id,
        json!({
            "username": "Lady", "name": "Ada L.", "email": "L@example.org", "picture": picture,
            "password_hash": "$argon2id$new"
        }),
    );
    let changed = done(directory, command).await.user.unwrap();
    let expected = User {
        username: "Lady".into(),
        name: "Ada L.".into(),
        email: "L@example.org".into(),
        picture: Some(picture.into()),
        updated_at: at(5),
        ..ada.clone()
    };
    assert_eq!(changed, expected);
    assert_eq!(done(directory, update(ada.id, json!({}))).await.user, Some(expected));
    let found = directory.credentials("l@EXAMPLE.org").await.unwrap().unwrap();
    assert_eq!(found.password_hash, "$argon2id$new");
    assert_eq!(names(&directory.search_users("ada l", None, 9).await.unwrap()), ["Lady"]);
    assert!(directory.credentials("ada@example.org").await.unwrap().is_none());
    let without_picture = update(ada.id, json!({ "picture": null }));
    assert_eq!(done(directory, without_picture).await.user.unwrap().picture, None);
    let nobody = UserId::generate(Region::default());
    assert_eq!(refused(directory, update(nobody, json!({}))).await, Refusal::UnknownUser);
}

pub(crate) async fn a_former_user_name_is_kept_for_whoever_had_it(directory: &Shared) {
    let ada = register(directory, "ada").await;
    assert_eq!(done(directory, rename(ada.id, "ADA")).await.user.unwrap().username, "ADA");
    done(directory, rename(ada.id, "lady")).await;
    let other = NewUser { email: "other@example.org".into(), ..new_user("ada") };
    assert_eq!(refused(directory, register_as(&other)).await, Refusal::UsernameTaken);
    assert!(directory.credentials("ada").await.unwrap().is_none());
    assert_eq!(done(directory, rename(ada.id, "ada")).await.user.unwrap().username, "ada");
}

pub(crate) async fn so_many_user_names_are_kept_for_one_user_and_no_more(directory: &Shared) {
    let ada = register(directory, "name0").await.id;
    for number in 1..MAX_USERNAMES_PER_USER {
        done(directory, rename(ada, &format!("name{number}"))).await;
    }
    assert_eq!(refused(directory, rename(ada, "another")).await, Refusal::TooManyUsernames);
    register(directory, "another").await;
    // Those that are kept are hers to go back to, and other changes are not hindered.
    for number in 0..MAX_USERNAMES_PER_USER {
        let (now, after) = (format!("Name{number}"), json!({ "name": "Ada" }));
        assert_eq!(done(directory, rename(ada, &now)).await.user.unwrap().username, now);
        done(directory, update(ada, after)).await;
    }
    let bob = register(directory, "bob").await.id;
    done(directory, rename(bob, "bobby")).await;
}

pub(crate) async fn a_new_password_ends_all_sessions_but_one(directory: &Shared) {
    let ada = register(directory, "ada").await;
    let sessions = [new_session(ada.id, 1), new_session(ada.id, 2), new_session(ada.id, 3)];
    for session in &sessions {
        open_session(directory, session).await;
    }
    let command =
        update(ada.id, json!({ "password_hash": "$argon2id$new", "keep_session": sessions[1].id.to_string() }));
    assert_eq!(done(directory, command).await.revoked, [sessions[0].id, sessions[2].id]);
    let left = directory.sessions(ada.id, at(10)).await.unwrap();
    assert_eq!(left.iter().map(|session| session.id).collect::<Vec<_>>(), [sessions[1].id]);
}

pub(crate) async fn a_password_that_was_changed_meanwhile_is_not_changed_again(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let hash = directory.credentials("ada").await.unwrap().unwrap().password_hash;
    let change = |to: &str, verified: &str| {
        let verified = serde_json::to_value(SecretHash::of(verified)).unwrap();
        update(ada, json!({ "password_hash": to, "verified": verified }))
    };
    done(directory, change("$first", &hash)).await;
    assert_eq!(refused(directory, change("$second", &hash)).await, Refusal::PasswordChanged);
    assert_eq!(directory.credentials("ada").await.unwrap().unwrap().password_hash, "$first");
    done(directory, change("$second", "$first")).await;
}

pub(crate) async fn a_deleted_user_leaves_a_tombstone(directory: &Shared) {
    let ada = register(directory, "ada").await;
    let session = new_session(ada.id, 1);
    open_session(directory, &session).await;
    let outcome = done(directory, Command::DeleteUser { user: ada.id, at: at(8) }).await;
    assert_eq!(outcome.revoked, [session.id]);
    let tombstone = outcome.user.unwrap();
    assert!(tombstone.deleted && tombstone.username.starts_with("deleted-"), "{tombstone:?}");
    let texts = (tombstone.name.as_str(), tombstone.email.as_str(), tombstone.picture.as_deref());
    assert_eq!(texts, ("", "", None));
    assert_eq!((tombstone.created_at, tombstone.updated_at, tombstone.roles.len()), (at(0), at(8), 0));
    assert_eq!(directory.users(&[ada.id]).await.unwrap(), [Some(tombstone)]);
    assert_eq!(directory.sessions(ada.id, at(8)).await.unwrap(), []);
    for login in ["ada", "ada@example.org", ""] {
        assert!(directory.credentials(login).await.unwrap().is_none());
    }
    let name_again = NewUser { email: "new@example.org".into(), ..new_user("ADA") };
    assert_eq!(refused(directory, register_as(&name_again)).await, Refusal::UsernameTaken);
    done(directory, register_as(&NewUser { email: "ada@example.org".into(), ..new_user("lady") })).await;
    let again = Command::DeleteUser { user: ada.id, at: at(9) };
    assert_eq!(refused(directory, again).await, Refusal::UnknownUser);
    assert_eq!(refused(directory, update(ada.id, json!({}))).await, Refusal::UnknownUser);
    let session = new_session(ada.id, 9);
    assert_eq!(refused(directory, Command::OpenSession { session }).await, Refusal::UnknownUser);
}

pub(crate) async fn a_deleted_user_leaves_its_groups(directory: &Shared) {
    let [ada, bob] = register_all(directory).await;
    let owned = create_group(directory, ada, &[bob]).await.id;
    let joined = create_group(directory, bob, &[ada]).await.id;
    let alone = create_group(directory, ada, &[]).await.id;
    let outcome = done(directory, Command::DeleteUser { user: ada, at: at(8) }).await;
    let removed = (ada, Body::MemberRemoved { user: ada });
    assert_eq!(told(&outcome.events), [removed.clone(), removed.clone(), removed]);
    let mut expected = [owned, joined, alone];
    expected.sort_unstable();
    assert_eq!(outcome.events.iter().map(|row| row.conversation).collect::<Vec<_>>(), expected.map(Into::into));
    let groups = directory.groups(&[owned, joined, alone]).await.unwrap();
    assert_eq!(groups[0].as_ref().map(|group| (group.owner, group.members_count)), Some((bob, 1)));
    assert_eq!(groups[1].as_ref().map(|group| (group.owner, group.members_count)), Some((bob, 1)));
    assert_eq!(groups[2], None);
    assert_eq!(directory.groups_of(ada).await.unwrap(), []);
    assert_eq!(member_ids(directory, owned).await, [bob]);
}

pub(crate) async fn a_deletion_leaves_groups_as_leaving_each_does(directory: &Shared) {
    let [late, early, leaver, deleted] = register_all(directory).await;
    // In two of each kind: followed by the longest standing, owned by somebody else, and alone.
    let rooms = async |user: UserId| {
        let mut rooms = Vec::new();
        for _ in 0..2 {
            let owned = create_group(directory, user, &[early]).await.id;
            done(directory, add(owned, user, &[late])).await;
            let joined = create_group(directory, late, &[early, user]).await.id;
            rooms.extend([owned, joined, create_group(directory, user, &[]).await.id]);
        }
        rooms
    };
    let (left, emptied) = (rooms(leaver).await, rooms(deleted).await);
    for group in &left {
        done(directory, remove(*group, leaver, leaver)).await;
    }
    let before = directory.outbox(0, 1_000).await.unwrap().len();
    let events = done(directory, Command::DeleteUser { user: deleted, at: at(2) }).await.events;

    let seen = async |rooms: &[GroupId]| {
        let mut groups = Vec::new();
        for group in directory.groups(rooms).await.unwrap() {
            let Some(Group { id, name, owner, members_count, created_at, updated_at }) = group else {
                groups.push(None);
                continue;
            };
            let members = member_ids(directory, id).await;
            groups.push(Some((name, owner, members_count, created_at, updated_at, members)));
        }
        groups
    };
    assert_eq!(seen(&emptied).await, seen(&left).await);
    let mut sorted = emptied;
    sorted.sort_unstable();
    assert_eq!(
        events.iter().map(|row| row.conversation).collect::<Vec<_>>(),
        sorted.into_iter().map(ConversationId::from).collect::<Vec<_>>()
    );
    assert_eq!(told(&events), vec![(deleted, Body::MemberRemoved { user: deleted }); 6]);
    assert_eq!(directory.outbox(before, 1_000).await.unwrap(), events);
}

pub(crate) async fn only_operators_grant_roles(directory: &Shared) {
    let operator = register(directory, "ada").await.id;
    let (bob, carl) = (register(directory, "bob").await.id, register(directory, "carl").await.id);
    let grant = |by, user, roles: &[Role]| Command::SetRoles { by, user, roles: roles.to_vec(), at: at(4) };
    let nobody = UserId::generate(Region::default());
    for by in [bob, nobody] {
        assert_eq!(refused(directory, grant(Some(by), carl, &[Role::Analyst])).await, Refusal::NotOperator);
    }
    let roles = [Role::Import, Role::Operator, Role::Import];
    let granted = done(directory, grant(Some(operator), bob, &roles)).await.user.unwrap();
    assert_eq!(granted.roles, [Role::Operator, Role::Import]);
    assert_eq!(done(directory, grant(Some(bob), operator, &[])).await.user.unwrap().roles, []);
    assert_eq!(done(directory, grant(None, carl, &[Role::Analyst])).await.user.unwrap().roles, [Role::Analyst]);
    assert_eq!(refused(directory, grant(None, nobody, &[])).await, Refusal::UnknownUser);
}
