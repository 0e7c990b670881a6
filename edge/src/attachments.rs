//! Attachments: files that are uploaded, sent in messages, and downloaded by those who may read these.
//!
//! # In which order
//! An upload is noted in the directory before its first byte reaches the blob store, and made an attachment after
//! its last; what breaks off between is found by its note and removed (`ingest::orphans`). An attachment is opened
//! to a conversation *before* the message with it is appended to the log: whoever sees the message can download
//! the file. A crash between leaves it open to people who do not know its id, until the message is sent again. It is
//! closed before the message's deletion is appended, for a deletion that breaks off is sent again too.
//!
//! # Uploads by link
//! The link goes on working after the file was checked. So the file is copied first to a place that the link does not
//! reach, under an id that nobody knows, and the copy is checked; of several copies the first becomes the attachment.

mod inspect;
pub(crate) mod name;
mod passing;
pub(crate) mod range;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use blobs::{Blobs, ServedAs};
use bytes::Bytes;
use directory::{Attachment, Command, Directory, Upload};
use futures_util::{Stream, StreamExt};
use types::{AttachmentId, ConversationId, EventId, Region, Timestamp, UserId, event};

use crate::ApiError;
use crate::commands::Commands;
use crate::config::AttachmentsConfig;
use crate::membership::Membership;
use inspect::{Found, Inspector};
use passing::Bounds;
use slots::Slots;

/// How long the next piece of an upload may take.
const IDLE: Duration = Duration::from_secs(30);
/// The longest media type.
pub(crate) const MEDIA_TYPE_BYTES: usize = 127;

/// Attachments: uploaded, sent, downloaded.
pub(crate) struct Attachments {
    config: AttachmentsConfig,
    region: Region,
    stores: Stores,
    slots: Arc<Slots>,
}

/// What [`Attachments`] reads and writes.
pub(crate) struct Stores {
    /// The bytes.
    pub(crate) blobs: Arc<dyn Blobs>,
    /// What is known of them.
    pub(crate) directory: Arc<dyn Directory>,
    /// Writes to the directory.
    pub(crate) commands: Arc<Commands>,
    /// Who may read where.
    pub(crate) membership: Arc<Membership>,
}

/// What a sender says of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Label {
    /// What it is called.
    pub(crate) name: Option<String>,
    /// Its media type.
    pub(crate) content_type: Option<String>,
}

/// A link to upload by.
pub(crate) struct UploadLink {
    /// The upload.
    pub(crate) id: AttachmentId,
    /// Where to `PUT` the bytes.
    pub(crate) url: String,
    /// Until when.
    pub(crate) expires_at: Timestamp,
}

impl Attachments {
    pub(crate) fn new(config: &AttachmentsConfig, region: Region, stores: Stores) -> Self {
        let slots = Slots::new(config.uploads_at_once, config.uploads_at_once_per_user);
        Self { config: config.clone(), region, stores, slots }
    }

    /// The largest file, in bytes.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.config.max_bytes
    }

    /// Stores a file as it comes. Nothing of a file that is refused, or that breaks off, can be seen.
    ///
    /// # Errors
    /// 413, 415 and 422 for a file that is not taken, 408 when it does not arrive in time, 503 when too many are on
    /// their way or it cannot be stored now; the source's own.
    pub(crate) async fn upload(
        &self,
        owner: UserId,
        label: Label,
        source: impl Stream<Item = Result<Bytes, ApiError>>,
    ) -> Result<Attachment, ApiError> {
        check_label(&label)?;
        let _slot = self.slots.take(owner)?;
        let id = AttachmentId::generate(self.region);
        self.begin(id, owner, (&label, None)).await?;
        let inspector = Inspector::new(&self.config.content_types, label.content_type.as_deref());
        let (sender, pieces) = passing::channel();
        let bounds = self.bounds();
        let both = async {
            let put = self.stores.blobs.put(id, pieces, self.config.max_bytes);
            tokio::join!(put, passing::pass(source, inspector, sender, &bounds))
        };
        let (stored, found) = self.in_time(both).await?;
        let found = match (stored, found) {
            (Ok(_), Ok(found)) => found,
            (Err(error @ blobs::Error::Unavailable(_)), _) | (Err(error), Ok(_)) => return Err(error.into()),
            (_, Err(error)) => return Err(error),
        };
        self.add(owner, id, (label.name.as_deref(), &found), None).await
    }

    /// Gives a link by which a file of so many bytes is uploaded past this edge.
    ///
    /// # Errors
    /// 413 and 422 for a file that would not be taken, 409 `not_supported` where the blob store has no links, 409
    /// `too_many_uploads` for a user who completes none.
    pub(crate) async fn begin_by_link(&self, owner: UserId, label: Label, size: u64) -> Result<UploadLink, ApiError> {
        check_label(&label)?;
        if size > self.config.max_bytes {
            return Err(ApiError::file_too_large(self.config.max_bytes));
        }
        if size == 0 {
            return Err(ApiError::invalid("/size", "must be at least 1"));
        }
        let ttl = Duration::from_secs(self.config.upload_link_seconds.into());
        let expires_at = Timestamp::now().plus(ttl);
        let id = AttachmentId::generate(self.region);
        let url = self.stores.blobs.presign_put(id, size, ttl).await?;
        let url = url.ok_or_else(|| {
            ApiError::conflict("not_supported", "this store has no upload links; use `POST /v1/attachments`")
        })?;
        self.begin(id, owner, (&label, Some(size))).await?;
        Ok(UploadLink { id, url, expires_at })
    }

    /// Makes an attachment of what was uploaded by a link, and says whether it had been made before.
    ///
    /// # Errors
    /// 404 for an upload that is none or somebody else's, 409 `not_uploaded` when nothing has come, 415 and 422 for a
    /// file that is not taken.
    pub(crate) async fn complete(&self, owner: UserId, upload: AttachmentId) -> Result<(Attachment, bool), ApiError> {
        let begun = self.stores.directory.upload(upload).await?.filter(|begun| begun.owner == owner);
        let begun = begun.ok_or_else(ApiError::not_found)?;
        let size = begun.size.ok_or_else(ApiError::not_found)?;
        if let Some(made) = begun.attachment {
            let made = self.stores.directory.attachment(made).await?.ok_or_else(ApiError::not_found)?;
            return Ok((made, true));
        }
        let _slot = self.slots.take(owner)?;
        let label = Label { name: Some(begun.name), content_type: begun.content_type };
        let id = AttachmentId::generate(self.region);
        // Without its size, for it is none of the uploads that wait to be completed.
        self.begin(id, owner, (&label, None)).await?;
        let checked = self.in_time(self.keep(upload, id, (&label, size))).await?;
        let made = match checked {
            Ok(found) => self.add(owner, id, (label.name.as_deref(), &found), Some(upload)).await,
            Err(error) => Err(error),
        };
        let leftover = match &made {
            Ok(made) if made.id == id => upload,
            _ => id,
        };
        // What cannot be removed now is removed with its note.
        if let Err(error) = self.stores.blobs.delete(leftover).await {
            tracing::debug!(%error, "what is left of an upload could not be removed yet");
        }
        let made = made?;
        let is_repeated = made.id != id;
        Ok((made, is_repeated))
    }

    /// Copies an upload to where its link does not reach, and looks at the copy.
    async fn keep(
        &self,
        upload: AttachmentId,
        id: AttachmentId,
        (label, size): (&Label, u64),
    ) -> Result<Found, ApiError> {
        let not_uploaded = || ApiError::conflict("not_uploaded", "nothing has been uploaded to the link yet");
        let kept = self.stores.blobs.keep_uploaded(upload, id).await?.ok_or_else(not_uploaded)?;
        if kept != size {
            return Err(ApiError::unfit_file("damaged_file", format!("{kept} bytes were uploaded instead of {size}")));
        }
        let pieces = self.stores.blobs.get(id, Some(0..size)).await?.ok_or_else(ApiError::unavailable)?;
        let mut pieces = pieces.map(|piece| piece.map_err(|_| ApiError::unavailable()));
        let mut inspector = Inspector::new(&self.config.content_types, label.content_type.as_deref());
        while let Some(piece) = pieces.next().await {
            inspector.take(&piece?).map_err(|fault| fault.into_error(&self.config.content_types))?;
        }
        inspector.finish().map_err(|fault| fault.into_error(&self.config.content_types))
    }

    /// Opens an attachment of one's own to the members of a conversation, and gives it as it stands in the message.
    ///
    /// # Errors
    /// 422 when it is none, or somebody else's; 409 `too_many_sends`.
    pub(crate) async fn send(
        &self,
        sender: UserId,
        attachment: AttachmentId,
        (conversation, message): (ConversationId, EventId),
    ) -> Result<event::Attachment, ApiError> {
        let command = Command::SendAttachment { attachment, by: sender, conversation, message };
        let outcome = match self.stores.commands.ask(&command).await? {
            Err(directory::Refusal::UnknownAttachment) => {
                return Err(ApiError::invalid("/attachment/id", "you have no such attachment"));
            }
            answer => answer?,
        };
        outcome.attachment.map(|attachment| described(&attachment)).ok_or_else(ApiError::unavailable)
    }

    /// Closes what a message had opened.
    pub(crate) async fn withdraw(&self, message: EventId) -> Result<(), ApiError> {
        let command = Command::WithdrawAttachments { message, at: Timestamp::now() };
        self.stores.commands.execute(&command).await.map(drop)
    }

    /// An attachment that `reader` uploaded, or that was sent in a conversation of which it is a member now.
    ///
    /// # Errors
    /// 404, the same for one that is none.
    pub(crate) async fn find(&self, reader: UserId, id: AttachmentId) -> Result<Attachment, ApiError> {
        let found = self.stores.directory.attachment(id).await?.ok_or_else(ApiError::not_found)?;
        if found.owner == reader {
            return Ok(found);
        }
        for conversation in self.stores.directory.sent_in(id).await? {
            match self.stores.membership.require(reader, conversation).await {
                Ok(()) => return Ok(found),
                Err(error) if error.code() == "not_found" => {}
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::not_found())
    }

    /// A link by which whoever holds it downloads the bytes for a short while, where the blob store has links.
    pub(crate) async fn link(&self, attachment: &Attachment) -> Result<Option<String>, ApiError> {
        let content_disposition = &name::disposition(&attachment.name);
        let served_as = ServedAs { content_type: &attachment.content_type, content_disposition };
        let ttl = Duration::from_secs(self.config.link_seconds.into());
        Ok(self.stores.blobs.presign_get(attachment.id, served_as, ttl).await?)
    }

    /// The bytes, or a part of them.
    pub(crate) async fn bytes(
        &self,
        attachment: &Attachment,
        part: Option<std::ops::Range<u64>>,
    ) -> Result<blobs::Stream, ApiError> {
        let bytes = self.stores.blobs.get(attachment.id, part).await?;
        bytes.ok_or_else(|| {
            tracing::error!(attachment = %attachment.id, "the bytes of an attachment are gone");
            ApiError::unavailable()
        })
    }

    /// Notes that bytes are on their way.
    async fn begin(
        &self,
        id: AttachmentId,
        owner: UserId,
        (label, size): (&Label, Option<u64>),
    ) -> Result<(), ApiError> {
        let (name, content_type) = (label.name.clone().unwrap_or_default(), label.content_type.clone());
        let created_at = Timestamp::now();
        let upload = Upload { id, owner, name, content_type, size, attachment: None, created_at };
        self.stores.commands.execute(&Command::BeginUpload { upload }).await.map(drop)
    }

    async fn add(
        &self,
        owner: UserId,
        id: AttachmentId,
        (name, found): (Option<&str>, &Found),
        upload: Option<AttachmentId>,
    ) -> Result<Attachment, ApiError> {
        let attachment = Attachment {
            id,
            owner,
            name: name::fitting(name, found.extension),
            content_type: found.content_type.to_owned(),
            size: found.size,
            width: found.pixels.map(|(width, _)| width),
            height: found.pixels.map(|(_, height)| height),
            created_at: Timestamp::now(),
        };
        let outcome = self.stores.commands.execute(&Command::AddAttachment { attachment, upload }).await?;
        outcome.attachment.ok_or_else(ApiError::unavailable)
    }

    fn bounds(&self) -> Bounds<'_> {
        Bounds { max_bytes: self.config.max_bytes, idle: IDLE, accepted: &self.config.content_types }
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, ApiError> {
        let limit = Duration::from_secs(self.config.upload_seconds.into());
        tokio::time::timeout(limit, work).await.map_err(|_| ApiError::too_slow())
    }
}

/// An attachment as it stands in a message and in answers.
pub(crate) fn described(attachment: &Attachment) -> event::Attachment {
    let Attachment { id, owner: _, name, content_type, size, width, height, created_at } = attachment.clone();
    event::Attachment { id, name, content_type, size, width, height, created_at, url: format!("/v1/attachments/{id}") }
}

fn check_label(label: &Label) -> Result<(), ApiError> {
    let name = label.name.as_deref().map_or(Ok(()), name::check).map_err(|detail| ("/name", detail));
    let content_type = label.content_type.as_deref().map_or(Ok(()), check_media_type);
    let checked = name.and(content_type.map_err(|detail| ("/content_type", detail)));
    checked.map_err(|(pointer, detail)| ApiError::invalid(pointer, detail))
}

/// A media type as far as it is kept: what it says is compared with the content.
fn check_media_type(text: &str) -> Result<(), String> {
    let is_line = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_line && text.len() <= MEDIA_TYPE_BYTES {
        return Ok(());
    }
    Err(format!("must be a media type of at most {MEDIA_TYPE_BYTES} visible ASCII characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_one_short_line() {
        let long = "a".repeat(MEDIA_TYPE_BYTES);
        for text in ["", "image/png", "image/png; charset=binary", &long] {
            assert_eq!(check_media_type(text), Ok(()), "{text}");
        }
        for text in ["image/png\0", "image/\u{e4}", "image/png\n", &format!("{long}a")] {
            assert!(check_media_type(text).is_err(), "{text:?}");
        }
    }
}
