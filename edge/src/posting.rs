//! Messages on their way into the log: sent, edited, deleted, each once.
//!
//! # Once
//! An event id takes effect once, however late it is sent again. The log remembers ids for its duplicate window.
//! An id says when it was born, and nobody can have sent it before that, so a young id needs no look-up: the log
//! refuses it if it came before. An older one may have been stored before the log's memory begins and is looked
//! up in the conversation first.

mod batch;
pub(crate) mod content;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use directory::{Directory, MemberRole};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use history::{History, Message};
use log::{Append, Appended, Log, Receipt, trace};
use tracing::{Instrument, Span};
use types::{AttachmentId, Body, Content, ConversationId, Entry, Event, EventId, Notice, Timestamp, UserId};

use crate::ApiError;
use crate::attachments::Attachments;
use crate::membership::Membership;
use crate::timeline::Timeline;

/// How far a client's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// Writes messages.
pub(crate) struct Posting {
    stores: Stores,
    text_characters: usize,
}

/// What [`Posting`] reads and writes.
pub(crate) struct Stores {
    /// Where events go.
    pub(crate) log: Arc<dyn Log>,
    /// Where read marks go.
    pub(crate) history: Arc<dyn History>,
    /// Who owns a group.
    pub(crate) directory: Arc<dyn Directory>,
    /// Who may write where.
    pub(crate) membership: Arc<Membership>,
    /// What was written before.
    pub(crate) timeline: Arc<Timeline>,
    /// What messages may have.
    pub(crate) attachments: Arc<Attachments>,
}

/// A message that a client wants sent.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// The id that the client gave it, by which it can be sent again.
    pub(crate) id: Option<EventId>,
    /// What it says, but for its attachment.
    pub(crate) content: Content,
    /// A file of the sender's.
    pub(crate) attachment: Option<AttachmentId>,
}

/// A message that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    /// The message as it was sent.
    pub(crate) message: Message,
    /// Whether it had been sent before.
    pub(crate) duplicate: bool,
}

/// A message that was handed to the log.
pub(crate) struct Begun {
    /// The event.
    pub(crate) event: Event,
    /// Resolves once the event is stored. Dropping it does not take the message back.
    pub(crate) stored: BoxFuture<'static, Result<Appended, ApiError>>,
}

impl Posting {
    /// `text_characters` is the length of the longest text.
    pub(crate) fn new(stores: Stores, text_characters: usize) -> Self {
        Self { stores, text_characters }
    }

    /// Sends a message and waits until it is stored.
    ///
    /// # Errors
    /// 404 for a stranger, 422 for a content, an attachment or an id that is not taken, 409 `id_taken` when the id stands for
    /// something else, 503 when it cannot be stored now.
    pub(crate) async fn send(
        &self,
        sender: UserId,
        conversation: ConversationId,
        draft: Draft,
    ) -> Result<Posted, ApiError> {
        let Begun { event, stored } = self.begin(sender, conversation, draft).await?;
        let Appended { position, at, duplicate } = stored.await?;
        let Event { id, sender, body: Body::Message(content) } = event else { return Err(ApiError::unavailable()) };
        let message = Message {
            id,
            conversation,
            seq: position.seq,
            sender,
            content,
            created_at: at,
            updated_at: at,
            deleted: false,
        };
        Ok(Posted { message, duplicate })
    }

    /// The first half of [`Posting::send`]: once it returns, the message has its place in the queue to the log,
    /// before everything that the same caller begins later.
    pub(crate) async fn begin(
        &self,
        sender: UserId,
        conversation: ConversationId,
        draft: Draft,
    ) -> Result<Begun, ApiError> {
        let span = log::trace_span!("send", conversation.kind = conversation.kind(), event = tracing::field::Empty);
        if span.is_disabled() {
            return self.hand_over(sender, conversation, draft).await;
        }
        let begun = self.hand_over(sender, conversation, draft).instrument(span.clone()).await;
        let Begun { event, stored } = begun.inspect_err(|_| trace::fail(&span))?;
        span.record("event", tracing::field::display(event.id));
        Ok(Begun { event, stored: until_stored(stored, span) })
    }

    async fn hand_over(&self, sender: UserId, conversation: ConversationId, draft: Draft) -> Result<Begun, ApiError> {
        let Draft { id, mut content, attachment } = draft;
        content::complete(&mut content);
        content::check(&content, attachment.is_some(), self.text_characters)?;
        self.stores.membership.require(sender, conversation).await?;
        let now = Timestamp::now();
        let id = match id {
            Some(id) => check_id(id, now)?,
            None => EventId::generate(self.stores.log.layout().region),
        };
        if let Some(attachment) = attachment {
            let attachment = self.stores.attachments.send(sender, attachment, (conversation, id)).await?;
            content.attachment = Some(Box::new(attachment));
        }
        let event = Event { id, sender, body: Body::Message(content) };
        if self.may_be_forgotten(id, now)
            && let Some(first) = self.stores.timeline.event(conversation, id).await?
        {
            let appended = same(&event, &first)?;
            return Ok(Begun { event, stored: std::future::ready(Ok(appended)).boxed() });
        }
        let payload = event.encode();
        let receipt = self.append_to_log(conversation, id, payload.clone()).await?;
        let timeline = self.stores.timeline.clone();
        let stored = async move {
            let appended = receipt.await?;
            if appended.duplicate {
                return compare(&timeline, conversation, &payload, appended).await;
            }
            Ok(appended)
        };
        Ok(Begun { event, stored: stored.boxed() })
    }

    /// Replaces the text of an own message and gives the message as it is then.
    ///
    /// # Errors
    /// 404 when there is no such message or for a stranger, 403 for somebody else's, 409 `message_deleted` for a
    /// deleted one, 422 for a text that is not taken.
    pub(crate) async fn edit(
        &self,
        caller: UserId,
        conversation: ConversationId,
        message: EventId,
        text: String,
    ) -> Result<Message, ApiError> {
        self.stores.membership.require(caller, conversation).await?;
        let mut edited = self.message(conversation, message).await?;
        if edited.sender != caller {
            return Err(ApiError::forbidden("only its sender may edit a message"));
        }
        if edited.deleted {
            return Err(ApiError::conflict("message_deleted", "a deleted message cannot be edited"));
        }
        edited.content.text.clone_from(&text);
        content::check(&edited.content, edited.content.attachment.is_some(), self.text_characters)?;
        let appended = self.append(caller, conversation, Body::Edit { message, text }).await?.await?;
        edited.updated_at = appended.at;
        Ok(edited)
    }

    /// Withdraws an own message, or as a group's owner any message of the group. Doing it again is no error.
    ///
    /// # Errors
    /// 404 when there is no such message or for a stranger, 403 for somebody else's.
    pub(crate) async fn delete(
        self: &Arc<Self>,
        caller: UserId,
        conversation: ConversationId,
        message: EventId,
    ) -> Result<(), ApiError> {
        self.stores.membership.require(caller, conversation).await?;
        let found = self.message(conversation, message).await?;
        if found.sender != caller && !self.owns(caller, conversation).await? {
            return Err(ApiError::forbidden("only its sender or the group's owner may delete a message"));
        }
        if found.deleted {
            return Ok(());
        }
        if found.content.attachment.is_none() {
            self.append(caller, conversation, Body::Delete { message }).await?.await?;
            return Ok(());
        }
        let posting = Arc::clone(self);
        let both = async move {
            posting.stores.attachments.withdraw(message).await?;
            posting.append(caller, conversation, Body::Delete { message }).await?.await?;
            Ok(())
        };
        // By itself, so that a client that goes away meanwhile does not leave a message whose file is gone.
        tokio::spawn(both.in_current_span()).await.unwrap_or_else(|_| Err(ApiError::internal()))
    }

    /// Notes how far a user has read, not beyond what there is, and tells its other sessions and, in a direct
    /// conversation, the peer. Gives the mark as it then stands.
    ///
    /// # Errors
    /// 404 for a stranger.
    pub(crate) async fn read(&self, user: UserId, conversation: ConversationId, seq: u64) -> Result<u64, ApiError> {
        self.stores.membership.require(user, conversation).await?;
        let newest = self.stores.timeline.newest(&[conversation]).await?.into_iter().next().unwrap_or_default();
        let mark = self.stores.history.mark_read(user, conversation, seq.min(newest)).await?;
        let notice = Notice::Read { conversation, seq: mark }.encode();
        if let Err(error) = self.stores.log.notify(log::Topic::User(user), notice).await {
            tracing::debug!(%error, "a read mark was not told to other sessions");
        }
        self.tell_peer(user, conversation, Notice::ReadByPeer { conversation, user, seq: mark }).await;
        Ok(mark)
    }

    /// Tells the peer of a direct conversation how far it has arrived at a device of `user`.
    ///
    /// # Errors
    /// 404 for a stranger.
    pub(crate) async fn delivered(&self, user: UserId, conversation: ConversationId, seq: u64) -> Result<(), ApiError> {
        self.stores.membership.require(user, conversation).await?;
        let newest = self.stores.timeline.newest(&[conversation]).await?.into_iter().next().unwrap_or_default();
        self.tell_peer(user, conversation, Notice::Delivered { conversation, user, seq: seq.min(newest) }).await;
        Ok(())
    }

    async fn tell_peer(&self, user: UserId, conversation: ConversationId, notice: Notice) {
        let is_direct = matches!(conversation, ConversationId::Direct(..));
        let Some(peer) = conversation.peer_of(user).filter(|peer| is_direct && *peer != user) else { return };
        if let Err(error) = self.stores.log.notify(log::Topic::User(peer), notice.encode()).await {
            tracing::debug!(%error, "a mark was not told to the peer");
        }
    }

    /// Tells the others of a conversation that `user` is typing.
    ///
    /// # Errors
    /// 404 for a stranger.
    pub(crate) async fn typing(&self, user: UserId, conversation: ConversationId) -> Result<(), ApiError> {
        self.stores.membership.require(user, conversation).await?;
        let topic = match conversation {
            ConversationId::Group(group) => log::Topic::Group(group),
            ConversationId::Direct(..) => log::Topic::User(conversation.peer_of(user).unwrap_or(user)),
        };
        self.stores.log.notify(topic, Notice::Typing { conversation, user }.encode()).await?;
        Ok(())
    }

    async fn message(&self, conversation: ConversationId, id: EventId) -> Result<Message, ApiError> {
        self.stores.timeline.message(conversation, id).await?.ok_or_else(ApiError::not_found)
    }

    async fn owns(&self, user: UserId, conversation: ConversationId) -> Result<bool, ApiError> {
        let ConversationId::Group(group) = conversation else { return Ok(false) };
        Ok(self.stores.directory.role(group, user).await? == Some(MemberRole::Owner))
    }

    async fn append(&self, sender: UserId, conversation: ConversationId, body: Body) -> Result<Receipt, ApiError> {
        let event = Event { id: EventId::generate(self.stores.log.layout().region), sender, body };
        Ok(self.append_to_log(conversation, event.id, event.encode()).await?)
    }

    /// Hands an event to the log, under a span that lasts until it is stored.
    async fn append_to_log(&self, conversation: ConversationId, id: EventId, payload: Bytes) -> log::Result<Receipt> {
        let conversation_kind = conversation.kind();
        let span =
            log::trace_span!("append", otel.kind = "producer", conversation.kind = conversation_kind, event = %id);
        let trace = trace::context_of(&span);
        let receipt = self.stores.log.append(Append { conversation, id, payload, trace }).await;
        if span.is_disabled() {
            return receipt;
        }
        Ok(until_stored(receipt.inspect_err(|_| trace::fail(&span))?, span))
    }

    /// Whether an event with this id may have been stored so long ago that the log has forgotten its id. Half of
    /// what it certainly remembers is kept for clocks that differ.
    fn may_be_forgotten(&self, id: EventId, now: Timestamp) -> bool {
        let window = self.stores.log.duplicate_window();
        let young = (window / 2).min(window.saturating_sub(CLOCK_SKEW));
        id.born_at() < now.minus(young)
    }
}

/// The same answer, and a span that ends with it.
fn until_stored<E: Send + 'static>(
    stored: BoxFuture<'static, Result<Appended, E>>,
    span: Span,
) -> BoxFuture<'static, Result<Appended, E>> {
    async move { stored.await.inspect_err(|_| trace::fail(&span)) }.boxed()
}

/// An id from the future would be remembered for too short a time.
fn check_id(id: EventId, now: Timestamp) -> Result<EventId, ApiError> {
    if id.born_at() > now.plus(CLOCK_SKEW) {
        return Err(ApiError::invalid("/id", "its time is ahead of the server's clock"));
    }
    Ok(id)
}

/// The log has stored this id before: the same message is answered as it was then, another one is refused. The
/// log knows ids without regard to their conversations.
async fn compare(
    timeline: &Timeline,
    conversation: ConversationId,
    payload: &[u8],
    appended: Appended,
) -> Result<Appended, ApiError> {
    let event = Event::decode(payload).map_err(|_| id_taken())?;
    let first = timeline.event_at(conversation, appended.position.seq).await?.ok_or_else(id_taken)?;
    same(&event, &first)
}

/// Where `first` is stored, if it is the same event.
fn same(event: &Event, first: &Entry) -> Result<Appended, ApiError> {
    match Event::decode(&first.payload) {
        Ok(stored) if stored == *event => Ok(Appended { position: first.position, at: first.at, duplicate: true }),
        _ => Err(id_taken()),
    }
}

fn id_taken() -> ApiError {
    ApiError::conflict("id_taken", "this id is already in use for something else")
}

#[cfg(test)]
mod tests;
