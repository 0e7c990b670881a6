//! What a client asks for in a text frame.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use types::event::{Image, Video};
use types::{Content, ConversationId, EventId, Position, UserId, Vector};

use crate::posting::Draft;
use crate::resources::messages::AttachmentRef;

/// The longest `ref`, in bytes.
pub(crate) const REF_BYTES: usize = 64;

/// A frame that was understood.
#[derive(Debug)]
pub(super) struct Request {
    /// What the client calls it; the answer bears the same.
    pub(super) reference: Option<String>,
    /// What it asks for.
    pub(super) action: Action,
}

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Action {
    /// `send`: a message.
    Send(ConversationId, Draft),
    /// `edit`: another text for an own message.
    Edit(ConversationId, EventId, String),
    /// `delete`: no text any more.
    Delete(ConversationId, EventId),
    /// `read`: the user has read up to here.
    Read(ConversationId, u64),
    /// `typing`: tell the others.
    Typing(ConversationId),
    /// `resume`: everything from here on.
    Resume(From),
    /// `delivered`: the client has everything up to here.
    Delivered(ConversationId, u64),
    /// `watch`: the presence of exactly these users.
    Watch(Vec<UserId>),
    /// `ping`.
    Ping,
}

/// From where a client resumes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// From a position in each of these conversations.
    Positions(BTreeMap<ConversationId, Position>),
    /// From a place in all conversations.
    Place(Vector),
}

impl From {
    /// Reads what a client says; gives what is wrong with it, for people.
    pub(crate) fn read(
        positions: Option<BTreeMap<ConversationId, Position>>,
        position: Option<String>,
    ) -> Result<Self, String> {
        match (positions, position) {
            (Some(positions), None) if !positions.is_empty() => Ok(Self::Positions(positions)),
            (None, Some(position)) => {
                let place = position.parse().map_err(|_| "`position` is not one that the server gave")?;
                Ok(Self::Place(place))
            }
            _ => Err("a resume takes either `positions` of at least one conversation, or `position`".into()),
        }
    }
}

/// A frame that was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Its `ref`, if that much could be read.
    pub(super) reference: Option<String>,
    /// The name of what is wrong.
    pub(super) code: &'static str,
    /// What is wrong, for people.
    pub(super) detail: String,
}

/// Every field that any frame may have. One flat record is read in one pass, whatever stands first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    conversation: Option<ConversationId>,
    id: Option<EventId>,
    kind: Option<String>,
    text: Option<String>,
    image: Option<Image>,
    video: Option<Video>,
    attachment: Option<AttachmentRef>,
    reply_to: Option<EventId>,
    mentions: Option<Vec<UserId>>,
    message: Option<EventId>,
    seq: Option<u64>,
    users: Option<Vec<UserId>>,
    positions: Option<BTreeMap<ConversationId, Position>>,
    position: Option<String>,
}

impl Request {
    /// Reads a frame.
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let mut fields: Fields<'_> = match serde_json::from_str(text) {
            Ok(fields) => fields,
            Err(error) => return Err(Malformed::new(reference_in(text), "malformed", error.to_string())),
        };
        let reference = fields.reference.take();
        if reference.as_ref().is_some_and(|reference| reference.len() > REF_BYTES) {
            let detail = format!("`ref` may have at most {REF_BYTES} bytes");
            return Err(Malformed::new(None, "malformed", detail));
        }
        match fields.action() {
            Ok(action) => Ok(Self { reference, action }),
            Err((code, detail)) => Err(Malformed::new(reference, code, detail)),
        }
    }
}

impl Malformed {
    fn new(reference: Option<String>, code: &'static str, detail: String) -> Self {
        Self { reference, code, detail }
    }
}

/// What is wrong: its name and its description.
type Fault = (&'static str, String);

impl Fields<'_> {
    fn action(mut self) -> Result<Action, Fault> {
        let action = match &*self.name {
            "send" => Action::Send(need(self.conversation.take(), "conversation")?, self.draft()?),
            "edit" => Action::Edit(
                need(self.conversation.take(), "conversation")?,
                need(self.message.take(), "message")?,
                need(self.text.take(), "text")?,
            ),
            "delete" => {
                Action::Delete(need(self.conversation.take(), "conversation")?, need(self.message.take(), "message")?)
            }
            "read" => Action::Read(need(self.conversation.take(), "conversation")?, need(self.seq.take(), "seq")?),
            "typing" => Action::Typing(need(self.conversation.take(), "conversation")?),
            "resume" => Action::Resume(self.from()?),
            "delivered" => {
                Action::Delivered(need(self.conversation.take(), "conversation")?, need(self.seq.take(), "seq")?)
            }
            "watch" => Action::Watch(need(self.users.take(), "users")?),
            "ping" => Action::Ping,
            other => return Err(("unknown_type", format!("`{}` is not a frame type", shorten(other)))),
        };
        match self.left_over() {
            Some(field) => Err(("malformed", format!("`{}` does not take `{field}`", self.name))),
            None => Ok(action),
        }
    }

    fn draft(&mut self) -> Result<Draft, Fault> {
        let content = Content {
            text: self.text.take().unwrap_or_default(),
            image: self.image.take(),
            video: self.video.take(),
            attachment: None,
            reply_to: self.reply_to.take(),
            mentions: self.mentions.take().unwrap_or_default(),
            sent_at: None,
        };
        let attachment = self.attachment.take().map(|attachment| attachment.id);
        let held = if attachment.is_some() { "attachment" } else { content.kind() };
        match self.kind.take() {
            Some(kind) if kind != held => Err(("malformed", format!("`kind` must be `{held}` for this content"))),
            _ => Ok(Draft { id: self.id.take(), content, attachment }),
        }
    }

    fn from(&mut self) -> Result<From, Fault> {
        From::read(self.positions.take(), self.position.take()).map_err(|detail| ("malformed", detail))
    }

    /// A field that this type of frame does not have.
    fn left_over(&self) -> Option<&'static str> {
        let left = [
            (self.conversation.is_some(), "conversation"),
            (self.id.is_some(), "id"),
            (self.kind.is_some(), "kind"),
            (self.text.is_some(), "text"),
            (self.image.is_some(), "image"),
            (self.video.is_some(), "video"),
            (self.attachment.is_some(), "attachment"),
            (self.reply_to.is_some(), "reply_to"),
            (self.mentions.is_some(), "mentions"),
            (self.message.is_some(), "message"),
            (self.seq.is_some(), "seq"),
            (self.users.is_some(), "users"),
            (self.positions.is_some(), "positions"),
            (self.position.is_some(), "position"),
        ];
        left.into_iter().find_map(|(is_left, name)| is_left.then_some(name))
    }
}

fn need<T>(field: Option<T>, name: &str) -> Result<T, Fault> {
    field.ok_or_else(|| ("malformed", format!("`{name}` is missing")))
}

/// The `ref` of a frame that is otherwise not understood.
fn reference_in(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Reference {
        #[serde(rename = "ref")]
        reference: Option<String>,
    }
    let found: Reference = serde_json::from_str(text).ok()?;
    found.reference.filter(|reference| reference.len() <= REF_BYTES)
}

fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(32)]
}

#[cfg(test)]
mod tests;
