//! The contract of [`Directory`]: what every implementation promises, one function each. `contract::on!(open)`
//! makes tests of them; `open` gives a directory that is empty, and whatever keeps its store alive.

pub(crate) mod attachments;
pub(crate) mod groups;
pub(crate) mod rivals;
pub(crate) mod sessions;
pub(crate) mod users;

use std::sync::Arc;
use std::time::Duration;

use types::{Body, Event, GroupId, Region, SessionId, Timestamp, UserId};

use crate::{Command, Directory, Group, NewSession, NewUser, OutboxRow, Outcome, Refusal, SecretHash, User};

macro_rules! on {
    ($open:path) => {
        $crate::contract::on!($open, users:
            the_first_user_becomes_operator_and_analyst
            a_user_name_is_given_once_without_regard_to_case
            an_email_address_is_given_once_without_regard_to_case
            of_two_registrations_of_one_name_at_once_one_is_refused
            a_registration_sent_again_registers_once
            of_a_registration_sent_twice_at_once_one_is_repeated
            a_user_id_stands_for_one_user
            a_registration_that_is_refused_leaves_nothing
            a_user_is_found_by_user_name_and_by_email_in_any_case
            users_come_in_the_order_of_the_question
            a_search_finds_beginnings_of_names_and_nothing_else
            a_search_is_read_on_after_a_user_name
            an_update_changes_what_is_given_and_nothing_else
            a_former_user_name_is_kept_for_whoever_had_it
            so_many_user_names_are_kept_for_one_user_and_no_more
            a_new_password_ends_all_sessions_but_one
            a_password_that_was_changed_meanwhile_is_not_changed_again
            a_deleted_user_leaves_a_tombstone
            a_deleted_user_leaves_its_groups
            a_deletion_leaves_groups_as_leaving_each_does
            only_operators_grant_roles);
        $crate::contract::on!($open, attachments:
            an_attachment_is_made_once_of_what_was_begun
            nothing_is_made_of_what_was_never_begun_or_is_somebody_elses
            of_an_upload_by_link_one_attachment_is_made
            of_two_completions_at_once_one_attachment_is_made
            an_attachment_is_opened_where_it_is_sent
            only_its_owner_sends_an_attachment
            an_attachment_is_sent_so_often_and_no_more
            a_deleted_message_closes_what_it_opened
            a_deleted_message_that_is_sent_again_opens_nothing
            deleted_messages_count_among_those_that_had_an_attachment
            what_is_not_finished_or_sent_in_time_is_given_up
            what_is_given_up_is_neither_made_nor_sent
            a_user_has_so_many_uploads_by_link_open
            many_orphans_are_given_up_in_batches);
        $crate::contract::on!($open, sessions:
            sessions_come_newest_first_and_end_in_time
            a_session_is_opened_once
            no_session_is_opened_by_a_password_that_was_changed_meanwhile
            of_too_many_sessions_the_least_recently_refreshed_ends
            a_refresh_token_is_good_once
            a_rotation_sent_again_is_no_replay
            a_rotation_whose_answer_was_lost_is_repeated_once
            a_token_that_comes_again_later_ends_the_session
            a_token_whose_exchange_was_repeated_ends_the_session
            of_three_rotations_at_once_the_last_ends_the_session
            an_ended_session_is_unknown
            nobody_ends_the_session_of_another
            revoked_sessions_are_told_from_a_moment_on
            sessions_that_ended_long_ago_are_forgotten);
        $crate::contract::on!($open, groups:
            a_new_group_has_its_owner_and_members_and_their_events
            a_group_is_created_once
            of_a_creation_sent_twice_at_once_one_is_repeated
            a_group_id_stands_for_one_group
            an_unknown_member_refuses_the_whole_command
            only_the_owner_renames
            only_the_owner_adds_members_and_the_present_are_passed_over
            the_owner_removes_anybody_and_everybody_may_leave
            an_owner_who_leaves_is_followed_by_the_longest_standing
            a_group_ends_with_its_last_member
            a_deleted_group_is_gone_for_all
            a_stranger_sees_no_group
            members_come_in_order_of_their_ids
            one_command_adds_so_many_and_no_more
            a_user_is_in_so_many_groups_and_no_more
            members_added_and_removed_at_once_are_counted
            the_outbox_keeps_order_until_relayed
            one_relay_at_a_time_has_the_lease);
        $crate::contract::on!($open, rivals:
            of_many_first_users_at_once_one_becomes_operator
            of_many_registrations_of_one_name_at_once_one_is_carried_out
            of_many_users_who_want_one_name_at_once_one_gets_it
            of_many_repetitions_of_a_command_at_once_one_is_carried_out
            of_many_rotations_of_one_token_at_once_at_most_two_win
            many_owners_who_leave_at_once_are_followed_or_end_the_group
            a_user_who_is_deleted_is_added_to_nothing_meanwhile
            a_user_who_is_deleted_opens_no_session_meanwhile
            operators_who_degrade_each_other_at_once_leave_one
            the_outbox_tells_of_one_group_in_the_order_of_its_changes
            of_many_sends_at_once_no_more_are_carried_out_than_may
            an_attachment_is_sent_or_given_up_and_never_both
            an_upload_is_made_an_attachment_or_given_up_and_never_both
            what_is_sent_while_another_message_is_deleted_is_kept
            of_many_completions_at_once_one_attachment_is_made
            a_reader_that_caught_up_sees_what_was_done);
    };
    ($open:path, $subject:ident: $($promise:ident)*) => {
        mod $subject {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let (directory, _store) = $open().await;
                $crate::contract::$subject::$promise(&directory).await;
            })*
        }
    };
}
pub(crate) use on;

/// How a shared directory is passed to a promise.
pub(crate) type Shared = Arc<dyn Directory>;

/// A moment, so many seconds after a fixed one.
pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).plus(Duration::from_secs(seconds))
}

pub(crate) fn secret(number: u8) -> SecretHash {
    SecretHash([number; 32])
}

/// A user to be registered. The user name is as given, the email address made of it.
pub(crate) fn new_user(username: &str) -> NewUser {
    NewUser {
        id: UserId::generate(Region::default()),
        username: username.into(),
        name: format!("Name of {username}"),
        email: format!("{username}@example.org"),
        password_hash: format!("$argon2id${username}"),
        at: at(0),
    }
}

pub(crate) fn new_session(user: UserId, opened: u64) -> NewSession {
    NewSession {
        id: SessionId::generate(Region::default()),
        user,
        refresh_hash: secret(1),
        client: "a test".into(),
        expires_at: at(opened + 1000),
        at: at(opened),
        verified: None,
    }
}

/// Carries out a command that must not be refused.
pub(crate) async fn done(directory: &Shared, command: Command) -> Outcome {
    directory.execute(&command).await.unwrap().unwrap()
}

/// Carries out a command that must be refused.
pub(crate) async fn refused(directory: &Shared, command: Command) -> Refusal {
    directory.execute(&command).await.unwrap().unwrap_err()
}

/// What a command came to.
pub(crate) type Done = Result<Outcome, Refusal>;

/// Carries all out at the same time, and gives what each came to, in their order.
pub(crate) async fn at_once(directory: &Shared, commands: impl IntoIterator<Item = Command>) -> Vec<Done> {
    let mut tasks = tokio::task::JoinSet::new();
    for (index, command) in commands.into_iter().enumerate() {
        let directory = directory.clone();
        tasks.spawn(async move { (index, directory.execute(&command).await.unwrap()) });
    }
    let mut done = tasks.join_all().await;
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, done)| done).collect()
}

pub(crate) async fn register(directory: &Shared, username: &str) -> User {
    let command = Command::Register { user: new_user(username), session: None };
    done(directory, command).await.user.unwrap()
}

/// As many users as `N`, in ascending order of their ids.
pub(crate) async fn register_all<const N: usize>(directory: &Shared) -> [UserId; N] {
    let mut users = Vec::new();
    for number in 0..N {
        users.push(register(directory, &format!("user{number}")).await.id);
    }
    users.sort_unstable();
    users.try_into().unwrap()
}

pub(crate) async fn open_session(directory: &Shared, session: &NewSession) {
    done(directory, Command::OpenSession { session: session.clone() }).await;
}

pub(crate) fn create(owner: UserId, members: &[UserId]) -> Command {
    let group = GroupId::generate(Region::default());
    Command::CreateGroup { group, name: "Tea".into(), owner, members: members.to_vec(), at: at(1) }
}

/// A new group of `owner` and `members`.
pub(crate) async fn create_group(directory: &Shared, owner: UserId, members: &[UserId]) -> Group {
    done(directory, create(owner, members)).await.group.unwrap()
}

pub(crate) fn remove(group: GroupId, by: UserId, user: UserId) -> Command {
    Command::RemoveMember { group, by, user, at: at(2) }
}

pub(crate) fn add(group: GroupId, by: UserId, users: &[UserId]) -> Command {
    Command::AddMembers { group, by, users: users.to_vec(), at: at(2) }
}

/// The ids of a group's members, as the first page of them tells.
pub(crate) async fn member_ids(directory: &Shared, group: GroupId) -> Vec<UserId> {
    directory.members(group, None, 100).await.unwrap().iter().map(|member| member.user.id).collect()
}

/// What events say, without their ids.
pub(crate) fn told(rows: &[OutboxRow]) -> Vec<(UserId, Body)> {
    let event = |row: &OutboxRow| {
        let event = Event::decode(&row.payload).unwrap();
        assert_eq!(event.id, row.id);
        (event.sender, event.body)
    };
    rows.iter().map(event).collect()
}
