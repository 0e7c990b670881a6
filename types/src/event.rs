//! What happens in a conversation.
//!
//! An event is JSON: `{"id":…,"kind":"message","sender":…,"text":"hi"}`. Rookery writes the kinds of
//! [`Body`] and reads others as [`Body::Unknown`], so that a newer program's events pass through an older one.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{AttachmentId, EventId, Timestamp, UserId};

/// One thing that happened in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// It takes effect once per id.
    pub id: EventId,
    /// Who did it.
    pub sender: UserId,
    /// What was done.
    pub body: Body,
}

/// What was done, by the event's `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `message`: something was said. The event's id is the message's.
    Message(Content),
    /// `edit`: a message's text was replaced.
    Edit {
        /// The message.
        message: EventId,
        /// Its new text.
        text: String,
    },
    /// `delete`: a message's content was withdrawn; its place stays.
    Delete {
        /// The message.
        message: EventId,
    },
    /// `member_added`: a user has access from here on.
    MemberAdded {
        /// The user.
        user: UserId,
    },
    /// `member_removed`: a user has no access from here on.
    MemberRemoved {
        /// The user.
        user: UserId,
    },
    /// `group_updated`: the group has another name.
    GroupUpdated {
        /// The new name.
        name: String,
    },
    /// A kind that this program does not know.
    Unknown {
        /// The kind's name.
        kind: String,
    },
}

/// What a message says. Its kind is read off it: `image`, `video`, `attachment`, or else `text`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Plain text; may be empty with an image, a video or an attachment.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// A link to an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// A link to a video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// A file. Few messages have one, so that it lies apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Box<Attachment>>,
    /// The message that this one replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<EventId>,
    /// The users that this message mentions: at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// When it was said, if that was elsewhere and long before the log stored it: messages that were imported have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
}

/// A link to an image, with its size in pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// A link to a video.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Video {
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// Its length in seconds.
    pub length_seconds: u32,
    /// The site that shows it, such as `youtube`; derived from the URL if the sender omits it.
    #[serde(default)]
    pub source: String,
}

/// An uploaded file, as it was when the message was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attachment {
    /// Its id.
    pub id: AttachmentId,
    /// Its file name, without any path.
    #[schema(example = "rooks.png")]
    pub name: String,
    /// Its media type, determined from its content.
    #[schema(example = "image/png")]
    pub content_type: String,
    /// Bytes.
    #[schema(example = 48_213)]
    pub size: u64,
    /// Pixels, of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 640)]
    pub width: Option<u32>,
    /// Pixels, of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 480)]
    pub height: Option<u32>,
    /// When it was uploaded.
    pub created_at: Timestamp,
    /// Where it can be downloaded with a token; relative to the server.
    #[schema(example = "/v1/attachments/01980a8e-6c00-7001-8a3b-5d2f1c9e7a40")]
    pub url: String,
}

/// The bytes are not an event's JSON.
#[derive(Debug, thiserror::Error)]
#[error("not an event: {0}")]
pub struct InvalidEvent(#[from] serde_json::Error);

/// What every event has. Fields of its kind stand beside these.
#[derive(Deserialize)]
struct Head<'a> {
    id: EventId,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    sender: UserId,
}

#[derive(Serialize)]
struct Record<'a, T: Serialize> {
    id: EventId,
    kind: &'a str,
    sender: UserId,
    #[serde(flatten)]
    fields: T,
}

#[derive(Serialize, Deserialize)]
struct OfMessage {
    message: EventId,
}

#[derive(Serialize, Deserialize)]
struct Edited<'a> {
    message: EventId,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct OfUser {
    user: UserId,
}

#[derive(Serialize, Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

impl Event {
    /// The event's JSON: what the log stores and clients read.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let json = match &self.body {
            Body::Message(content) => self.record(content),
            Body::Edit { message, text } => self.record(Edited { message: *message, text: text.into() }),
            Body::Delete { message } => self.record(OfMessage { message: *message }),
            Body::MemberAdded { user } | Body::MemberRemoved { user } => self.record(OfUser { user: *user }),
            Body::GroupUpdated { name } => self.record(Named { name: name.into() }),
            Body::Unknown { .. } => self.record(serde_json::Map::new()),
        };
        json.into()
    }

    fn record(&self, fields: impl Serialize) -> Vec<u8> {
        let record = Record { id: self.id, kind: self.body.kind(), sender: self.sender, fields };
        serde_json::to_vec(&record).unwrap_or_else(|error| unreachable!("strings and ids have JSON: {error}"))
    }

    /// Reads an event's JSON. Fields that are not known are passed over: the payload itself carries them on.
    ///
    /// # Errors
    /// When it is not JSON, or a known kind lacks a field.
    pub fn decode(payload: &[u8]) -> Result<Self, InvalidEvent> {
        let head: Head<'_> = serde_json::from_slice(payload)?;
        let body = match &*head.kind {
            "message" => Body::Message(serde_json::from_slice(payload)?),
            "edit" => {
                let edited: Edited<'_> = serde_json::from_slice(payload)?;
                Body::Edit { message: edited.message, text: edited.text.into_owned() }
            }
            "delete" => Body::Delete { message: serde_json::from_slice::<OfMessage>(payload)?.message },
            "member_added" => Body::MemberAdded { user: serde_json::from_slice::<OfUser>(payload)?.user },
            "member_removed" => Body::MemberRemoved { user: serde_json::from_slice::<OfUser>(payload)?.user },
            "group_updated" => {
                Body::GroupUpdated { name: serde_json::from_slice::<Named<'_>>(payload)?.name.into_owned() }
            }
            other => Body::Unknown { kind: other.to_owned() },
        };
        Ok(Self { id: head.id, sender: head.sender, body })
    }
}

impl Body {
    /// The name of the kind, as it stands in the JSON.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Message(_) => "message",
            Self::Edit { .. } => "edit",
            Self::Delete { .. } => "delete",
            Self::MemberAdded { .. } => "member_added",
            Self::MemberRemoved { .. } => "member_removed",
            Self::GroupUpdated { .. } => "group_updated",
            Self::Unknown { kind } => kind,
        }
    }
}

impl Content {
    /// When it was said, for readers and for counts: when the log stored it, unless it was imported with a time of
    /// its own. Order, and where pages begin and end, go by the log alone.
    #[must_use]
    pub fn said_at(&self, stored_at: Timestamp) -> Timestamp {
        self.sent_at.unwrap_or(stored_at)
    }

    /// What is left of it once it is deleted: no content, only when it was said.
    #[must_use]
    pub fn withdrawn(&self) -> Self {
        Self { sent_at: self.sent_at, ..Self::default() }
    }

    /// The message's kind, as the API names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.image.is_some() {
            return "image";
        }
        if self.video.is_some() {
            return "video";
        }
        if self.attachment.is_some() { "attachment" } else { "text" }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    use super::*;
    use crate::Region;

    fn body() -> impl Strategy<Value = Body> {
        let message = EventId::generate(Region::default());
        let user = UserId::generate(Region::default());
        let image = ("[a-z:/.]{1,20}", any::<u32>(), any::<u32>()).prop_map(|(url, width, height)| Image {
            url,
            width,
            height,
        });
        let video = ("[a-z:/.]{1,20}", any::<u32>()).prop_map(|(url, length_seconds)| Video {
            url,
            length_seconds,
            source: "youtube".into(),
        });
        let attachment = ("[a-zäöü.]{1,20}", any::<u64>(), any::<Option<u32>>()).prop_map(|(name, size, width)| {
            let (id, created_at) = (AttachmentId::generate(Region::default()), Timestamp::now());
            let (content_type, url) = ("image/png".into(), format!("/v1/attachments/{id}"));
            Box::new(Attachment { id, name, content_type, size, width, height: None, created_at, url })
        });
        let media = (proptest::option::of(image), proptest::option::of(video), proptest::option::of(attachment));
        let content =
            (any::<String>(), media, any::<bool>()).prop_map(move |(text, (image, video, attachment), is_reply)| {
                Content {
                    text,
                    image,
                    video,
                    attachment,
                    reply_to: is_reply.then_some(message),
                    mentions: if is_reply { vec![user] } else { vec![] },
                    sent_at: is_reply.then_some(Timestamp::from_millis(1_700_000_000_123)),
                }
            });
        prop_oneof![
            content.prop_map(Body::Message),
            any::<String>().prop_map(move |text| Body::Edit { message, text }),
            Just(Body::Delete { message }),
            Just(Body::MemberAdded { user }),
            Just(Body::MemberRemoved { user }),
            any::<String>().prop_map(|name| Body::GroupUpdated { name }),
            "[a-z]{1,8}_later".prop_map(|kind| Body::Unknown { kind }),
        ]
    }

    proptest! {
        #[test]
        fn an_event_survives_its_json(body in body()) {
            let event = Event { id: EventId::generate(Region::default()), sender: UserId::generate(Region::default()), body };
            assert_eq!(Event::decode(&event.encode()).unwrap(), event);
        }

        #[test]
        fn unknown_fields_are_no_error(body in body(), name in "x_[a-z]{1,8}", value in any::<String>()) {
            let event = Event { id: EventId::generate(Region::default()), sender: UserId::generate(Region::default()), body };
            let mut json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&event.encode()).unwrap();
            json.insert(name, value.into());
            assert_eq!(Event::decode(&serde_json::to_vec(&json).unwrap()).unwrap(), event);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in any::<Vec<u8>>()) {
            std::hint::black_box(Event::decode(&bytes)).ok();
        }
    }

    #[test]
    fn a_message_reads_as_the_api_says() {
        let id: EventId = "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40".parse().unwrap();
        let sender: UserId = "01980a8e-6c00-7001-8a3b-5d2f1c9e7a41".parse().unwrap();
        let event = Event { id, sender, body: Body::Message(Content { text: "hi".into(), ..Content::default() }) };
        assert_eq!(
            event.encode(),
            r#"{"id":"01980a8e-6c00-7001-8a3b-5d2f1c9e7a40","kind":"message","sender":"01980a8e-6c00-7001-8a3b-5d2f1c9e7a41","text":"hi"}"#
        );
    }
}
