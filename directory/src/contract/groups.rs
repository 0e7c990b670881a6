//! What every directory promises of groups, members and their events.

use std::time::Duration;

use types::{Body, GroupId, Region, UserId};

use super::{
    Shared, add, at, at_once, create, create_group, done, member_ids, refused, register, register_all, remove, told,
};
use crate::{Command, Group, MAX_ADDED_AT_ONCE, MAX_GROUPS_PER_USER, MemberRole, Refusal};

fn added(by: UserId, users: &[UserId]) -> Vec<(UserId, Body)> {
    users.iter().map(|user| (by, Body::MemberAdded { user: *user })).collect()
}

fn removed(by: UserId, user: UserId) -> (UserId, Body) {
    (by, Body::MemberRemoved { user })
}

async fn group(directory: &Shared, id: GroupId) -> Option<Group> {
    directory.groups(&[id]).await.unwrap().remove(0)
}

async fn outbox_length(directory: &Shared) -> usize {
    directory.outbox(0, 10_000).await.unwrap().len()
}

pub(crate) async fn a_new_group_has_its_owner_and_members_and_their_events(directory: &Shared) {
    let [ada, bob, carl] = register_all(directory).await;
    // Named twice, and the owner too: each is a member once.
    let command = create(bob, &[carl, ada, carl, bob]);
    let outcome = done(directory, command).await;
    let created = outcome.group.unwrap();
    let expected = Group {
        id: created.id,
        name: "Tea".into(),
        owner: bob,
        members_count: 3,
        created_at: at(1),
        updated_at: at(1),
    };
    assert_eq!(created, expected);
    assert_eq!(group(directory, created.id).await, Some(expected));
    assert_eq!(told(&outcome.events), added(bob, &[bob, carl, ada]));
    assert!(outcome.events.iter().all(|row| row.conversation == created.id.into()));
    assert_eq!(directory.outbox(0, 10).await.unwrap(), outcome.events);
    assert_eq!(directory.role(created.id, bob).await.unwrap(), Some(MemberRole::Owner));
    assert_eq!(directory.role(created.id, carl).await.unwrap(), Some(MemberRole::Member));
    assert_eq!(directory.groups_of(ada).await.unwrap(), [created.id]);
}

pub(crate) async fn a_group_is_created_once(directory: &Shared) {
    let [ada, bob, carl] = register_all(directory).await;
    let command = create(ada, &[bob, carl]);
    let first = done(directory, command.clone()).await.group.unwrap();
    let Command::CreateGroup { group: id, name, owner, .. } = command else { unreachable!("a creation") };
    let again = Command::CreateGroup { group: id, name, owner, members: vec![carl, bob], at: at(9) };
    let outcome = done(directory, again.clone()).await;
    assert_eq!((outcome.group, outcome.repeated, outcome.events), (Some(first), true, vec![]));
    done(directory, remove(id, ada, bob)).await;
    let outcome = done(directory, again.clone()).await;
    assert_eq!(outcome.group.map(|group| group.members_count), Some(2));
    done(directory, Command::DeleteGroup { group: id, by: ada, at: at(3) }).await;
    let outcome = done(directory, again).await;
    assert!(outcome.repeated && outcome.group.is_none());
}

pub(crate) async fn of_a_creation_sent_twice_at_once_one_is_repeated(directory: &Shared) {
    let [ada, bob] = register_all(directory).await;
    let command = create(ada, &[bob]);
    let (one, other) = tokio::join!(directory.execute(&command), directory.execute(&command));
    let (one, other) = (one.unwrap().unwrap(), other.unwrap().unwrap());
    assert!(one.repeated != other.repeated);
    assert_eq!(one.group, other.group);
    assert_eq!(outbox_length(directory).await, 2);
}

pub(crate) async fn a_group_id_stands_for_one_group(directory: &Shared) {
    let [ada, bob] = register_all(directory).await;
    let id = create_group(directory, ada, &[]).await.id;
    let with = |name: &str, owner, members: &[UserId]| Command::CreateGroup {
        group: id,
        name: name.into(),
        owner,
        members: members.to_vec(),
        at: at(1),
    };
    for other in [with("Coffee", ada, &[]), with("Tea", bob, &[]), with("Tea", ada, &[bob])] {
        assert_eq!(refused(directory, other).await, Refusal::IdTaken);
    }
}

pub(crate) async fn an_unknown_member_refuses_the_whole_command(directory: &Shared) {
    let [ada, bob, gone] = register_all(directory).await;
    done(directory, Command::DeleteUser { user: gone, at: at(1) }).await;
    let nobody = UserId::generate(Region::default());
    for stranger in [nobody, gone] {
        assert_eq!(refused(directory, create(ada, &[bob, stranger])).await, Refusal::UnknownUser);
        assert_eq!(refused(directory, create(stranger, &[bob])).await, Refusal::UnknownUser);
    }
    assert_eq!(directory.groups_of(bob).await.unwrap(), []);
    assert_eq!(outbox_length(directory).await, 0);
    let id = create_group(directory, ada, &[]).await.id;
    for stranger in [nobody, gone] {
        assert_eq!(refused(directory, add(id, ada, &[bob, stranger])).await, Refusal::UnknownUser);
    }
    assert_eq!(member_ids(directory, id).await, [ada]);
    assert_eq!(outbox_length(directory).await, 1);
}

pub(crate) async fn only_the_owner_renames(directory: &Shared) {
    let [ada, bob, stranger] = register_all(directory).await;
    let id = create_group(directory, ada, &[bob]).await.id;
    let rename = |by, name: &str| Command::RenameGroup { group: id, by, name: name.into(), at: at(4) };
    assert_eq!(refused(directory, rename(bob, "Coffee")).await, Refusal::NotOwner);
    assert_eq!(refused(directory, rename(stranger, "Coffee")).await, Refusal::UnknownGroup);
    let outcome = done(directory, rename(ada, "Coffee")).await;
    assert_eq!(told(&outcome.events), [(ada, Body::GroupUpdated { name: "Coffee".into() })]);
    let renamed = outcome.group.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.updated_at), ("Coffee", at(4)));
    let again = done(directory, rename(ada, "Coffee")).await;
    assert_eq!((again.group, again.repeated, again.events), (Some(renamed), true, vec![]));
}

pub(crate) async fn only_the_owner_adds_members_and_the_present_are_passed_over(directory: &Shared) {
    let [ada, bob, carl, stranger] = register_all(directory).await;
    let id = create_group(directory, bob, &[ada]).await.id;
    assert_eq!(refused(directory, add(id, ada, &[carl])).await, Refusal::NotOwner);
    assert_eq!(refused(directory, add(id, stranger, &[carl])).await, Refusal::UnknownGroup);
    let outcome = done(directory, add(id, bob, &[stranger, ada, bob, carl, stranger])).await;
    assert_eq!(told(&outcome.events), added(bob, &[stranger, carl]));
    assert_eq!(outcome.group.as_ref().map(|group| (group.members_count, group.updated_at)), Some((4, at(2))));
    let again = done(directory, add(id, bob, &[carl])).await;
    assert!(again.repeated && again.events.is_empty());
    assert_eq!(member_ids(directory, id).await, [ada, bob, carl, stranger]);
}

pub(crate) async fn the_owner_removes_anybody_and_everybody_may_leave(directory: &Shared) {
    let [ada, bob, carl, stranger] = register_all(directory).await;
    let id = create_group(directory, ada, &[bob, carl]).await.id;
    assert_eq!(refused(directory, remove(id, bob, carl)).await, Refusal::NotOwner);
    assert_eq!(refused(directory, remove(id, stranger, stranger)).await, Refusal::UnknownGroup);
    assert_eq!(refused(directory, remove(id, ada, stranger)).await, Refusal::UnknownUser);
    let outcome = done(directory, remove(id, ada, bob)).await;
    assert_eq!(told(&outcome.events), [removed(ada, bob)]);
    assert_eq!(outcome.group.map(|group| (group.owner, group.members_count)), Some((ada, 2)));
    assert_eq!(directory.role(id, bob).await.unwrap(), None);
    assert_eq!(directory.groups_of(bob).await.unwrap(), []);
    let outcome = done(directory, remove(id, carl, carl)).await;
    assert_eq!(told(&outcome.events), [removed(carl, carl)]);
    assert_eq!(refused(directory, remove(id, carl, carl)).await, Refusal::UnknownGroup);
}

pub(crate) async fn an_owner_who_leaves_is_followed_by_the_longest_standing(directory: &Shared) {
    let [late, early, owner] = register_all(directory).await;
    let id = create_group(directory, owner, &[early]).await.id;
    done(directory, add(id, owner, &[late])).await;
    let outcome = done(directory, remove(id, owner, owner)).await;
    assert_eq!(outcome.group.map(|group| (group.owner, group.members_count)), Some((early, 2)));
    assert_eq!(directory.role(id, early).await.unwrap(), Some(MemberRole::Owner));
    assert_eq!(refused(directory, add(id, owner, &[owner])).await, Refusal::UnknownGroup);
    done(directory, add(id, early, &[owner])).await;
    assert_eq!(directory.role(id, owner).await.unwrap(), Some(MemberRole::Member));
}

pub(crate) async fn a_group_ends_with_its_last_member(directory: &Shared) {
    let [ada] = register_all(directory).await;
    let id = create_group(directory, ada, &[]).await.id;
    let outcome = done(directory, remove(id, ada, ada)).await;
    assert_eq!((outcome.group, told(&outcome.events)), (None, vec![removed(ada, ada)]));
    assert_eq!(group(directory, id).await, None);
    assert_eq!(directory.role(id, ada).await.unwrap(), None);
}

pub(crate) async fn a_deleted_group_is_gone_for_all(directory: &Shared) {
    let [ada, bob, stranger] = register_all(directory).await;
    let id = create_group(directory, ada, &[bob]).await.id;
    let delete = |by| Command::DeleteGroup { group: id, by, at: at(5) };
    assert_eq!(refused(directory, delete(bob)).await, Refusal::NotOwner);
    assert_eq!(refused(directory, delete(stranger)).await, Refusal::UnknownGroup);
    let outcome = done(directory, delete(ada)).await;
    assert_eq!((outcome.group, told(&outcome.events)), (None, vec![removed(ada, ada), removed(ada, bob)]));
    assert_eq!(group(directory, id).await, None);
    assert_eq!(member_ids(directory, id).await, []);
    assert_eq!(directory.groups_of(bob).await.unwrap(), []);
    assert_eq!(refused(directory, delete(ada)).await, Refusal::UnknownGroup);
}

pub(crate) async fn a_stranger_sees_no_group(directory: &Shared) {
    let [ada, stranger] = register_all(directory).await;
    let id = create_group(directory, ada, &[]).await.id;
    assert_eq!(directory.role(id, stranger).await.unwrap(), None);
    let none = GroupId::generate(Region::default());
    assert_eq!(directory.role(none, ada).await.unwrap(), None);
    assert_eq!(directory.members(none, None, 10).await.unwrap(), []);
    assert_eq!(refused(directory, remove(none, ada, ada)).await, Refusal::UnknownGroup);
    assert_eq!(refused(directory, remove(id, stranger, ada)).await, Refusal::UnknownGroup);
}

pub(crate) async fn members_come_in_order_of_their_ids(directory: &Shared) {
    let [ada, bob, carl] = register_all(directory).await;
    let id = create_group(directory, carl, &[ada]).await.id;
    done(directory, add(id, carl, &[bob])).await;
    let page = directory.members(id, None, 2).await.unwrap();
    let seen: Vec<_> = page.iter().map(|member| (member.user.id, member.role, member.joined_at)).collect();
    assert_eq!(seen, [(ada, MemberRole::Member, at(1)), (bob, MemberRole::Member, at(2))]);
    let page = directory.members(id, Some(bob), 2).await.unwrap();
    let seen: Vec<_> = page.iter().map(|member| (member.user.id, member.role, member.joined_at)).collect();
    assert_eq!(seen, [(carl, MemberRole::Owner, at(1))]);
    assert_eq!(directory.members(id, Some(carl), 2).await.unwrap(), []);
}

pub(crate) async fn one_command_adds_so_many_and_no_more(directory: &Shared) {
    let [ada, bob] = register_all(directory).await;
    let id = create_group(directory, ada, &[]).await.id;
    let many = vec![bob; MAX_ADDED_AT_ONCE + 1];
    assert_eq!(refused(directory, add(id, ada, &many)).await, Refusal::TooManyMembers);
    assert_eq!(refused(directory, create(ada, &many)).await, Refusal::TooManyMembers);
    done(directory, add(id, ada, &many[1..])).await;
    assert_eq!(member_ids(directory, id).await, [ada, bob]);
}

pub(crate) async fn a_user_is_in_so_many_groups_and_no_more(directory: &Shared) {
    let [ada, bob] = register_all(directory).await;
    for _ in 0..MAX_GROUPS_PER_USER - 5 {
        create_group(directory, ada, &[]).await;
    }
    // Her own and those of others, at the same time.
    let created = at_once(directory, [ada, bob].repeat(12).into_iter().map(|owner| create(owner, &[ada]))).await;
    assert_eq!(created.iter().filter(|done| done.is_ok()).count(), 5);
    assert_eq!(created.iter().filter(|done| **done == Err(Refusal::TooManyGroups)).count(), 19);
    let id = create_group(directory, bob, &[]).await.id;
    assert_eq!(refused(directory, add(id, bob, &[ada])).await, Refusal::TooManyGroups);
    let groups = directory.groups_of(ada).await.unwrap();
    assert_eq!(groups.len(), MAX_GROUPS_PER_USER);
    assert!(groups.is_sorted());
    done(directory, remove(groups[0], ada, ada)).await;
    done(directory, add(id, bob, &[ada])).await;
}

pub(crate) async fn members_added_and_removed_at_once_are_counted(directory: &Shared) {
    let owner = register(directory, "owner").await.id;
    let users: [UserId; 20] = register_all(directory).await;
    let (stay, go) = users.split_at(10);
    let id = create_group(directory, owner, go).await.id;
    let mut tasks = tokio::task::JoinSet::new();
    for (stays, goes) in stay.iter().copied().zip(go.iter().copied()) {
        for command in [add(id, owner, &[stays]), remove(id, owner, goes)] {
            let directory = directory.clone();
            tasks.spawn(async move { done(&directory, command).await });
        }
    }
    tasks.join_all().await;
    let mut expected = stay.to_vec();
    expected.push(owner);
    expected.sort_unstable();
    assert_eq!(member_ids(directory, id).await, expected);
    assert_eq!(group(directory, id).await.map(|group| group.members_count), Some(11));
    assert_eq!(outbox_length(directory).await, 11 + 20);
}

pub(crate) async fn the_outbox_keeps_order_until_relayed(directory: &Shared) {
    let [ada, bob] = register_all(directory).await;
    let mut expected = done(directory, create(ada, &[bob])).await.events;
    expected.extend(done(directory, create(bob, &[])).await.events);
    assert_eq!(directory.outbox(0, 10).await.unwrap(), expected);
    assert_eq!(directory.outbox(0, 2).await.unwrap(), expected[..2]);
    assert_eq!(directory.outbox(1, 1).await.unwrap(), expected[1..2]);
    assert_eq!(directory.outbox(2, 10).await.unwrap(), expected[2..]);
    assert_eq!(directory.outbox(3, 10).await.unwrap(), []);
    directory.relayed(&[expected[1].id]).await.unwrap();
    directory.relayed(&[expected[1].id]).await.unwrap();
    directory.relayed(&[]).await.unwrap();
    assert_eq!(directory.outbox(0, 10).await.unwrap(), [expected[0].clone(), expected[2].clone()]);
    directory.relayed(&[expected[2].id, expected[0].id]).await.unwrap();
    let next = done(directory, add(directory.groups_of(ada).await.unwrap()[0], ada, &[bob])).await;
    assert!(next.repeated);
    assert_eq!(directory.outbox(0, 10).await.unwrap(), []);
}

pub(crate) async fn one_relay_at_a_time_has_the_lease(directory: &Shared) {
    let mut lease = directory.lease().await.unwrap().unwrap();
    assert!(directory.lease().await.unwrap().is_none());
    lease.check().await.unwrap();
    drop(lease);
    let again = async {
        while directory.lease().await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}
