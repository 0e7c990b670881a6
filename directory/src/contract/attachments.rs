//! Promises about attachments.

use types::{AttachmentId, ConversationId, EventId, GroupId, Region, UserId};

use super::{Shared, at, done, refused, register};
use crate::{Attachment, Command, MAX_CONDEMNED_AT_ONCE, MAX_OPEN_UPLOADS, MAX_SENDS, Refusal, Upload};

pub(super) fn upload(owner: UserId, begun: u64) -> Upload {
    Upload {
        id: AttachmentId::generate(Region::default()),
        owner,
        name: "a.png".into(),
        content_type: Some("image/png".into()),
        size: None,
        attachment: None,
        created_at: at(begun),
    }
}

pub(super) fn attachment(id: AttachmentId, owner: UserId, made: u64) -> Attachment {
    Attachment {
        id,
        owner,
        name: "a.png".into(),
        content_type: "image/png".into(),
        size: 12_345_678_901,
        width: Some(640),
        height: None,
        created_at: at(made),
    }
}

pub(super) fn begin(upload: &Upload) -> Command {
    Command::BeginUpload { upload: upload.clone() }
}

pub(super) fn add(attachment: &Attachment, upload: Option<AttachmentId>) -> Command {
    Command::AddAttachment { attachment: attachment.clone(), upload }
}

pub(super) fn send(attachment: &Attachment, conversation: ConversationId, message: EventId) -> Command {
    Command::SendAttachment { attachment: attachment.id, by: attachment.owner, conversation, message }
}

pub(super) fn message() -> EventId {
    EventId::generate(Region::default())
}

pub(super) fn group() -> ConversationId {
    GroupId::generate(Region::default()).into()
}

/// An attachment that was begun and made at these seconds.
pub(super) async fn made(directory: &Shared, owner: UserId, seconds: u64) -> Attachment {
    let begun = upload(owner, seconds);
    done(directory, begin(&begun)).await;
    let attachment = attachment(begun.id, owner, seconds);
    done(directory, add(&attachment, None)).await;
    attachment
}

pub(super) async fn condemned(directory: &Shared) -> Vec<AttachmentId> {
    let mut ids = directory.condemned(None, 10_000).await.unwrap();
    ids.sort_unstable();
    ids
}

fn sorted<const N: usize>(mut ids: [AttachmentId; N]) -> [AttachmentId; N] {
    ids.sort_unstable();
    ids
}

pub(crate) async fn an_attachment_is_made_once_of_what_was_begun(directory: &Shared) {
    let owner = register(directory, "ada").await.id;
    let begun = Upload { size: Some(12_345_678_901), ..upload(owner, 1) };
    assert!(!done(directory, begin(&begun)).await.repeated);
    assert!(done(directory, begin(&Upload { created_at: at(2), ..begun.clone() })).await.repeated);
    assert_eq!(refused(directory, begin(&Upload { name: "b".into(), ..begun.clone() })).await, Refusal::IdTaken);
    assert_eq!(directory.upload(begun.id).await.unwrap(), Some(begun.clone()));
    assert_eq!(directory.attachment(begun.id).await.unwrap(), None);

    let attachment = attachment(begun.id, owner, 3);
    let outcome = done(directory, add(&attachment, None)).await;
    assert_eq!((outcome.attachment, outcome.repeated), (Some(attachment.clone()), false));
    let outcome = done(directory, add(&Attachment { created_at: at(4), ..attachment.clone() }, None)).await;
    assert_eq!((outcome.attachment, outcome.repeated), (Some(attachment.clone()), true));
    let other = Attachment { name: "b.png".into(), ..attachment.clone() };
    assert_eq!(refused(directory, add(&other, None)).await, Refusal::IdTaken);
    assert_eq!(directory.attachment(attachment.id).await.unwrap(), Some(attachment));
    assert_eq!(directory.upload(begun.id).await.unwrap(), None, "it is no longer on its way");
}

pub(crate) async fn nothing_is_made_of_what_was_never_begun_or_is_somebody_elses(directory: &Shared) {
    let (ada, bob) = (register(directory, "ada").await.id, register(directory, "bob").await.id);
    let never = attachment(AttachmentId::generate(Region::default()), ada, 1);
    assert_eq!(refused(directory, add(&never, None)).await, Refusal::UnknownUpload);
    assert_eq!(directory.attachment(never.id).await.unwrap(), None);
    let of_bob = upload(bob, 1);
    done(directory, begin(&of_bob)).await;
    assert_eq!(refused(directory, add(&attachment(of_bob.id, ada, 1), None)).await, Refusal::UnknownUpload);
    let nobody = upload(UserId::generate(Region::default()), 1);
    assert_eq!(refused(directory, begin(&nobody)).await, Refusal::UnknownUser);
}

pub(crate) async fn of_an_upload_by_link_one_attachment_is_made(directory: &Shared) {
    let (ada, bob) = (register(directory, "ada").await.id, register(directory, "bob").await.id);
    let by_link = upload(ada, 1);
    let copies = [upload(ada, 2), upload(ada, 3)];
    for begun in [&by_link, &copies[0], &copies[1]] {
        done(directory, begin(begun)).await;
    }
    let [first, second] = copies.map(|copy| attachment(copy.id, ada, 4));
    let of_bob = upload(bob, 2);
    done(directory, begin(&of_bob)).await;
    let stolen = add(&attachment(of_bob.id, bob, 4), Some(by_link.id));
    assert_eq!(refused(directory, stolen).await, Refusal::UnknownUpload);

    assert!(!done(directory, add(&first, Some(by_link.id))).await.repeated);
    let outcome = done(directory, add(&second, Some(by_link.id))).await;
    assert_eq!((outcome.attachment, outcome.repeated), (Some(first.clone()), true));
    assert_eq!(directory.upload(by_link.id).await.unwrap().unwrap().attachment, Some(first.id));
    assert_eq!(directory.attachment(second.id).await.unwrap(), None);
    assert!(directory.upload(second.id).await.unwrap().is_some(), "its blob is still to be removed");
}

pub(crate) async fn of_two_completions_at_once_one_attachment_is_made(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let by_link = upload(ada, 1);
    done(directory, begin(&by_link)).await;
    let copies = [upload(ada, 2), upload(ada, 2)];
    for copy in &copies {
        done(directory, begin(copy)).await;
    }
    let [one, other] = copies.map(|copy| add(&attachment(copy.id, ada, 3), Some(by_link.id)));
    let (one, other) = tokio::join!(done(directory, one), done(directory, other));
    assert_eq!(one.attachment, other.attachment);
    assert_ne!(one.repeated, other.repeated);
}

pub(crate) async fn an_attachment_is_opened_where_it_is_sent(directory: &Shared) {
    let (ada, bob) = (register(directory, "ada").await.id, register(directory, "bob").await.id);
    let attachment = made(directory, ada, 1).await;
    assert_eq!(directory.sent_in(attachment.id).await.unwrap(), []);
    let (room, direct, first) = (group(), ConversationId::direct(ada, bob), message());
    let outcome = done(directory, send(&attachment, room, first)).await;
    assert_eq!((outcome.attachment, outcome.repeated), (Some(attachment.clone()), false));
    assert!(done(directory, send(&attachment, room, first)).await.repeated);
    done(directory, send(&attachment, room, message())).await;
    assert_eq!(directory.sent_in(attachment.id).await.unwrap(), [room], "each once");
    done(directory, send(&attachment, direct, message())).await;
    let mut sent_in = directory.sent_in(attachment.id).await.unwrap();
    sent_in.sort_unstable();
    let mut wanted = [room, direct];
    wanted.sort_unstable();
    assert_eq!(sent_in, wanted);
}

pub(crate) async fn only_its_owner_sends_an_attachment(directory: &Shared) {
    let (ada, bob) = (register(directory, "ada").await.id, register(directory, "bob").await.id);
    let of_ada = made(directory, ada, 1).await;
    let by_bob = Attachment { owner: bob, ..of_ada.clone() };
    assert_eq!(refused(directory, send(&by_bob, group(), message())).await, Refusal::UnknownAttachment);
    let none = Attachment { id: AttachmentId::generate(Region::default()), ..of_ada.clone() };
    assert_eq!(refused(directory, send(&none, group(), message())).await, Refusal::UnknownAttachment);
    assert_eq!(directory.sent_in(of_ada.id).await.unwrap(), []);
}

pub(crate) async fn an_attachment_is_sent_so_often_and_no_more(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let attachment = made(directory, ada, 1).await;
    let (room, first) = (group(), message());
    done(directory, send(&attachment, room, first)).await;
    for _ in 1..MAX_SENDS {
        done(directory, send(&attachment, room, message())).await;
    }
    assert_eq!(refused(directory, send(&attachment, room, message())).await, Refusal::TooManySends);
    assert!(done(directory, send(&attachment, room, first)).await.repeated);
}

pub(crate) async fn a_deleted_message_closes_what_it_opened(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let attachment = made(directory, ada, 1).await;
    let (one, other, first, second) = (group(), group(), message(), message());
    done(directory, send(&attachment, one, first)).await;
    done(directory, send(&attachment, other, second)).await;
    let withdraw = |message| Command::WithdrawAttachments { message, at: at(100) };
    assert!(!done(directory, withdraw(first)).await.repeated);
    assert_eq!(directory.sent_in(attachment.id).await.unwrap(), [other]);
    assert!(done(directory, withdraw(first)).await.repeated);
    // One message has it still.
    assert!(done(directory, Command::CondemnOrphans { before: at(200) }).await.repeated);
    done(directory, withdraw(second)).await;
    assert_eq!(directory.sent_in(attachment.id).await.unwrap(), []);
    assert!(done(directory, Command::CondemnOrphans { before: at(100) }).await.repeated, "it waits from the deletion");
    assert!(!done(directory, Command::CondemnOrphans { before: at(101) }).await.repeated);
    assert_eq!(condemned(directory).await, [attachment.id]);
}

pub(crate) async fn a_deleted_message_that_is_sent_again_opens_nothing(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let attachment = made(directory, ada, 1).await;
    let (room, deleted, other) = (group(), message(), message());
    done(directory, send(&attachment, room, deleted)).await;
    done(directory, Command::WithdrawAttachments { message: deleted, at: at(100) }).await;
    let again = done(directory, send(&attachment, room, deleted)).await;
    assert_eq!((again.attachment, again.repeated), (Some(attachment.clone()), true));
    assert_eq!(directory.sent_in(attachment.id).await.unwrap(), []);
    // Another message opens it, for as long as that one is there.
    done(directory, send(&attachment, room, other)).await;
    assert_eq!(directory.sent_in(attachment.id).await.unwrap(), [room]);
    done(directory, Command::WithdrawAttachments { message: other, at: at(200) }).await;
    done(directory, send(&attachment, room, deleted)).await;
    assert!(done(directory, Command::CondemnOrphans { before: at(200) }).await.repeated);
    assert!(!done(directory, Command::CondemnOrphans { before: at(201) }).await.repeated);
    assert_eq!(condemned(directory).await, [attachment.id]);
    assert_eq!(refused(directory, send(&attachment, room, deleted)).await, Refusal::UnknownAttachment);
}

pub(crate) async fn deleted_messages_count_among_those_that_had_an_attachment(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let attachment = made(directory, ada, 1).await;
    let deleted = message();
    done(directory, send(&attachment, group(), deleted)).await;
    done(directory, Command::WithdrawAttachments { message: deleted, at: at(2) }).await;
    for _ in 1..MAX_SENDS {
        done(directory, send(&attachment, group(), message())).await;
    }
    assert_eq!(refused(directory, send(&attachment, group(), message())).await, Refusal::TooManySends);
    assert!(done(directory, send(&attachment, group(), deleted)).await.repeated);
}

pub(crate) async fn what_is_not_finished_or_sent_in_time_is_given_up(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let (old, young) = (upload(ada, 1), upload(ada, 50));
    done(directory, begin(&old)).await;
    done(directory, begin(&young)).await;
    let unsent = made(directory, ada, 2).await;
    let unsent_yet = made(directory, ada, 51).await;
    let sent = made(directory, ada, 3).await;
    done(directory, send(&sent, group(), message())).await;

    assert!(!done(directory, Command::CondemnOrphans { before: at(50) }).await.repeated);
    assert_eq!(condemned(directory).await, sorted([old.id, unsent.id]));
    let [first, second] = sorted([old.id, unsent.id]);
    assert_eq!(directory.condemned(None, 1).await.unwrap(), [first]);
    assert_eq!(directory.condemned(Some(first), 2).await.unwrap(), [second]);
    assert_eq!(directory.condemned(Some(second), 2).await.unwrap(), []);
    assert_eq!(directory.upload(old.id).await.unwrap(), None);
    assert_eq!(directory.attachment(unsent.id).await.unwrap(), None);
    assert!(directory.upload(young.id).await.unwrap().is_some());
    for kept in [unsent_yet.id, sent.id] {
        assert!(directory.attachment(kept).await.unwrap().is_some());
    }
    assert!(done(directory, Command::CondemnOrphans { before: at(50) }).await.repeated);

    done(directory, Command::ForgetCondemned { blobs: vec![old.id] }).await;
    done(directory, Command::ForgetCondemned { blobs: vec![old.id] }).await;
    assert_eq!(condemned(directory).await, [unsent.id]);
}

pub(crate) async fn what_is_given_up_is_neither_made_nor_sent(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    let begun = upload(ada, 1);
    done(directory, begin(&begun)).await;
    let unsent = made(directory, ada, 1).await;
    done(directory, Command::CondemnOrphans { before: at(2) }).await;
    assert_eq!(refused(directory, add(&attachment(begun.id, ada, 3), None)).await, Refusal::UnknownUpload);
    assert_eq!(refused(directory, add(&unsent, None)).await, Refusal::UnknownUpload);
    assert_eq!(refused(directory, send(&unsent, group(), message())).await, Refusal::UnknownAttachment);
}

pub(crate) async fn many_orphans_are_given_up_in_batches(directory: &Shared) {
    let ada = register(directory, "ada").await.id;
    for _ in 0..=MAX_CONDEMNED_AT_ONCE {
        done(directory, begin(&upload(ada, 1))).await;
    }
    let orphans = || Command::CondemnOrphans { before: at(2) };
    assert!(!done(directory, orphans()).await.repeated);
    assert_eq!(condemned(directory).await.len(), MAX_CONDEMNED_AT_ONCE);
    assert!(!done(directory, orphans()).await.repeated);
    assert_eq!(condemned(directory).await.len(), MAX_CONDEMNED_AT_ONCE + 1);
    assert!(done(directory, orphans()).await.repeated);
}

pub(crate) async fn a_user_has_so_many_uploads_by_link_open(directory: &Shared) {
    let (ada, bob) = (register(directory, "ada").await.id, register(directory, "bob").await.id);
    let by_link = |owner| Upload { size: Some(5), ..upload(owner, 1) };
    let [first, second] = [(); 2].map(|()| by_link(ada));
    done(directory, begin(&first)).await;
    done(directory, begin(&second)).await;
    for _ in 2..MAX_OPEN_UPLOADS {
        done(directory, begin(&by_link(ada))).await;
    }
    assert_eq!(refused(directory, begin(&by_link(ada))).await, Refusal::TooManyUploads);
    assert!(done(directory, begin(&first)).await.repeated);
    done(directory, begin(&by_link(bob))).await;

    let copy = upload(ada, 1);
    done(directory, begin(&copy)).await;
    done(directory, add(&attachment(copy.id, ada, 2), Some(second.id))).await;
    done(directory, begin(&by_link(ada))).await;
    assert_eq!(refused(directory, begin(&by_link(ada))).await, Refusal::TooManyUploads);
}
