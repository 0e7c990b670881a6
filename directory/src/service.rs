//! How an edge and the directory service speak on the log's bus: a [`Command`] as JSON to [`SERVICE`], an
//! [`Answer`] as JSON back.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Command, Outcome, Refusal, Version};

/// The service's name on the bus.
pub const SERVICE: &str = "directory";

/// What the directory service answers to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "an answer is made, encoded and dropped; it is never kept")]
pub enum Answer {
    /// It is carried out, and what it brought about is stored. Its events are in the log, unless the log takes
    /// none at the moment: then they follow by themselves.
    Done {
        /// What it brought about.
        outcome: Outcome,
        /// Has it in it: whoever reads its effects waits for this version.
        version: Version,
    },
    /// It may not be carried out.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Has the reason in it.
        version: Version,
    },
    /// It could not be carried out now, or not be understood. The same command may be sent again.
    Unavailable,
}

impl Command {
    /// The command's JSON.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }
}

impl Answer {
    /// The answer's JSON.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads an answer; `None` when this program does not understand it.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("texts and numbers have JSON: {error}")).into()
}

#[cfg(test)]
mod tests {
    use types::{Region, Timestamp, UserId};

    use super::*;

    fn update(picture: Option<Option<String>>) -> Command {
        Command::UpdateUser {
            user: UserId::generate(Region::default()),
            username: None,
            name: Some("Ada".into()),
            email: None,
            picture,
            password_hash: None,
            keep_session: None,
            verified: None,
            at: Timestamp::now(),
        }
    }

    #[test]
    fn a_removed_picture_and_an_untouched_one_travel_as_two_things() {
        for picture in [None, Some(None), Some(Some("https://example.org/a.png".to_owned()))] {
            let command = update(picture);
            assert_eq!(serde_json::from_slice::<Command>(&command.encode()).unwrap(), command);
        }
    }

    #[test]
    fn an_answer_survives_its_json() {
        let version = Version(7);
        let done = Answer::Done { outcome: Outcome { repeated: true, ..Outcome::default() }, version };
        for answer in [done, Answer::Refused { refusal: Refusal::SessionReused, version }, Answer::Unavailable] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        assert_eq!(Answer::decode(b"{}"), None);
    }

    #[test]
    fn a_command_with_an_unknown_field_is_refused() {
        let json = r#"{"command":"delete_user","user":"01980a8e-6c00-7001-8a3b-5d2f1c9e7a40","at":"2026-01-31T09:30:00.125Z","x":1}"#;
        assert!(serde_json::from_str::<Command>(json).is_err());
    }
}
