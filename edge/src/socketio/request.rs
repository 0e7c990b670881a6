//! What a client asks for.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use types::event::{Image, Video};
use types::{AttachmentId, Content, ConversationId, EventId, GroupId, UserId};

use crate::ApiError;
use crate::posting::Draft;

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Action {
    /// `send_message`, `group_message`, `send_file`: a message.
    Send(ConversationId, Draft),
    /// `create_group`.
    CreateGroup(NewGroup),
    /// `join_group`: everything of a group whose member the caller is.
    JoinGroup(GroupId),
    /// `position`: a place to resume from later.
    Position,
}

/// A group to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGroup {
    pub(super) name: String,
    /// By which the request can be sent again.
    pub(super) id: Option<GroupId>,
    #[serde(default)]
    pub(super) members: Vec<UserId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfGroup {
    group: GroupId,
}

/// Every field of a message's events.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    to: Option<UserId>,
    conversation: Option<ConversationId>,
    group: Option<GroupId>,
    id: Option<EventId>,
    text: String,
    image: Option<Image>,
    video: Option<Video>,
    attachment: Option<File>,
    reply_to: Option<EventId>,
    mentions: Vec<UserId>,
}

/// An uploaded file.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: AttachmentId,
}

impl Action {
    /// Reads an event of `user`'s.
    ///
    /// # Errors
    /// `malformed` and `unknown_type`.
    pub(super) fn parse(user: UserId, event: &str, data: Value) -> Result<Self, ApiError> {
        match event {
            "send_message" => read::<Fields>(data)?.message(user),
            "group_message" => read::<Fields>(data)?.group_message(),
            "send_file" => read::<Fields>(data)?.file(user),
            "create_group" => Ok(Self::CreateGroup(read(data)?)),
            "join_group" => read(data).map(|OfGroup { group }| Self::JoinGroup(group)),
            "position" => Ok(Self::Position),
            _ => Err(ApiError::unknown_type("there is no such event")),
        }
    }
}

impl Fields {
    fn message(self, user: UserId) -> Result<Action, ApiError> {
        if self.attachment.is_some() {
            return Err(ApiError::malformed("`send_message` takes no `attachment`: that is `send_file`"));
        }
        self.send(user)
    }

    fn group_message(self) -> Result<Action, ApiError> {
        match self {
            Self { group: Some(group), to: None, conversation: None, attachment: None, .. } => {
                Ok(Action::Send(group.into(), self.draft()))
            }
            _ => Err(ApiError::malformed("`group_message` takes a `group` and a message")),
        }
    }

    fn file(self, user: UserId) -> Result<Action, ApiError> {
        if self.attachment.is_none() {
            return Err(ApiError::malformed("`attachment` is missing: the {id} of an uploaded file"));
        }
        self.send(user)
    }

    fn send(self, user: UserId) -> Result<Action, ApiError> {
        let conversation = match (self.to, self.conversation, self.group) {
            (Some(peer), None, None) => ConversationId::direct(user, peer),
            (None, Some(conversation), None) => conversation,
            (None, None, Some(group)) => group.into(),
            _ => return Err(ApiError::malformed("give exactly one of `to`, `conversation` and `group`")),
        };
        Ok(Action::Send(conversation, self.draft()))
    }

    fn draft(self) -> Draft {
        let Self { id, text, image, video, attachment, reply_to, mentions, .. } = self;
        let content = Content { text, image, video, attachment: None, reply_to, mentions, sent_at: None };
        Draft { id, content, attachment: attachment.map(|File { id }| id) }
    }
}

fn read<T: DeserializeOwned>(data: Value) -> Result<T, ApiError> {
    serde_json::from_value(data).map_err(|error| ApiError::malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use types::Region;

    use super::*;

    fn user() -> UserId {
        UserId::generate(Region::default())
    }

    fn parse(event: &str, data: Value) -> Result<Action, &'static str> {
        Action::parse(user(), event, data).map_err(|error| error.code())
    }

    #[test]
    fn a_message_goes_to_a_user_a_conversation_or_a_group() {
        let (me, peer, group) = (user(), user(), GroupId::generate(Region::default()));
        let direct = ConversationId::direct(me, peer);
        for (event, data, wanted) in [
            ("send_message", json!({"to": peer, "text": "hi"}), direct),
            ("send_message", json!({"conversation": direct, "text": "hi"}), direct),
            ("send_message", json!({"group": group, "text": "hi"}), group.into()),
            ("group_message", json!({"group": group, "text": "hi"}), group.into()),
        ] {
            let Action::Send(conversation, draft) = Action::parse(me, event, data).unwrap() else { panic!("{event}") };
            assert_eq!((conversation, draft.content.text.as_str()), (wanted, "hi"));
        }
    }

    #[test]
    fn a_file_goes_with_or_without_a_text() {
        let (peer, file) = (user(), AttachmentId::generate(Region::default()));
        for text in ["", "Look!"] {
            let data = json!({"to": peer, "attachment": {"id": file}, "text": text});
            let Action::Send(_, draft) = Action::parse(user(), "send_file", data).unwrap() else { panic!("{text}") };
            assert_eq!((draft.attachment, draft.content.text.as_str()), (Some(file), text));
        }
    }

    #[test]
    fn what_cannot_be_understood_is_malformed() {
        let (peer, group) = (user(), GroupId::generate(Region::default()));
        for (event, data) in [
            ("send_message", json!({"text": "hi"})),
            ("send_message", json!({"to": peer, "group": group, "text": "hi"})),
            ("send_message", json!({"to": peer, "txet": "hi"})),
            ("send_message", json!({"to": peer, "attachment": {"id": group}})),
            ("send_message", json!("hi")),
            ("group_message", json!({"to": peer, "text": "hi"})),
            ("group_message", json!({"group": group, "to": peer, "text": "hi"})),
            ("send_file", json!({"to": peer, "text": "hi"})),
            ("send_file", json!({"attachment": {"id": group}})),
            ("create_group", json!({"members": []})),
            ("join_group", json!({"group": "x"})),
            ("join_group", Value::Null),
        ] {
            assert_eq!(parse(event, data.clone()).unwrap_err(), "malformed", "{event} {data}");
        }
        assert_eq!(parse("sned", Value::Null).unwrap_err(), "unknown_type");
    }

    #[test]
    fn groups_are_made_and_joined() {
        let group = GroupId::generate(Region::default());
        assert!(matches!(parse("create_group", json!({"name": "a"})), Ok(Action::CreateGroup(new)) if new.name == "a"));
        assert!(matches!(parse("join_group", json!({"group": group})), Ok(Action::JoinGroup(read)) if read == group));
        assert!(matches!(parse("position", Value::Null), Ok(Action::Position)));
    }
}
