//! UUIDv7 ids (RFC 9562 §5.7). The twelve `rand_a` bits hold the number of the region where the id was
//! born, so the home of a user or a group is read off its id and needs no look-up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Timestamp;

/// The number of a region, 0 to 4095.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Region(u16);

impl Region {
    /// The largest number that fits into an id's twelve bits.
    pub const MAX: u16 = 0x0fff;

    /// A region by its number, `None` above [`Region::MAX`].
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number > Self::MAX { None } else { Some(Self(number)) }
    }

    /// The region's number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Region {
    type Error = InvalidId;

    fn try_from(number: u16) -> Result<Self, InvalidId> {
        Self::new(number).ok_or(InvalidId)
    }
}

impl From<Region> for u16 {
    fn from(region: Region) -> Self {
        region.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text or the bytes are not a UUIDv7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUIDv7 in its lower-case hyphenated form")]
pub struct InvalidId;

/// A new UUIDv7 of this moment, born in `region`.
fn generate(region: Region) -> Uuid {
    #[expect(clippy::disallowed_methods, reason = "this is the one home of random ids")]
    with_region(Uuid::now_v7(), region)
}

/// `id` with its twelve `rand_a` bits replaced by the region's number.
fn with_region(id: Uuid, region: Region) -> Uuid {
    let [high, low] = region.0.to_be_bytes();
    let mut bytes = id.into_bytes();
    bytes[6] = 0x70 | high;
    bytes[7] = low;
    Uuid::from_bytes(bytes)
}

/// Only version 7 in the RFC's variant is taken, and only in the form in which it is printed, so that one
/// id has one spelling everywhere.
fn parse(text: &str) -> Result<Uuid, InvalidId> {
    if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(InvalidId);
    }
    check(Uuid::try_parse(text).map_err(|_| InvalidId)?)
}

fn check(id: Uuid) -> Result<Uuid, InvalidId> {
    let is_v7 = id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122;
    if is_v7 { Ok(id) } else { Err(InvalidId) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "std::borrow::Cow<'_, str>", into = "Uuid")]
        #[schema(value_type = String, format = Uuid, example = "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40")]
        pub struct $name(Uuid);

        impl $name {
            /// A new id of this moment, born in `region`.
            #[must_use]
            pub fn generate(region: Region) -> Self {
                Self(generate(region))
            }

            /// The id in these sixteen bytes.
            ///
            /// # Errors
            /// When they are not a UUIDv7.
            pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, InvalidId> {
                check(Uuid::from_bytes(bytes)).map(Self)
            }

            /// The id's sixteen bytes, which sort by time.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The region of the id's birth.
            #[must_use]
            pub fn region(&self) -> Region {
                let bytes = self.0.as_bytes();
                Region(u16::from_be_bytes([bytes[6] & 0x0f, bytes[7]]))
            }

            /// The moment of the id's birth, by its maker's clock.
            #[must_use]
            pub fn born_at(&self) -> Timestamp {
                let bytes = self.0.as_bytes();
                let mut millis = [0; 8];
                millis[2..].copy_from_slice(&bytes[..6]);
                Timestamp::from_millis(i64::from_be_bytes(millis))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text).map(Self)
            }
        }

        impl TryFrom<std::borrow::Cow<'_, str>> for $name {
            type Error = InvalidId;

            fn try_from(text: std::borrow::Cow<'_, str>) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id!(
    /// A user's id; its region is the user's home.
    UserId
);
id!(
    /// A group's id; its region is the home of its log.
    GroupId
);
id!(
    /// An event's id, and a message's. An event takes effect once per id. Clients may choose it; its region is then
    /// meaningless.
    EventId
);
id!(
    /// A user's log-in on a device.
    SessionId
);
id!(
    /// An attachment.
    AttachmentId
);

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn an_id_survives_text_bytes_and_json(number in 0..=Region::MAX) {
            let id = UserId::generate(Region(number));
            assert_eq!(id.region().number(), number);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(UserId::from_bytes(*id.as_bytes()), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<UserId>(&json).unwrap(), id);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,64}") {
            std::hint::black_box(text.parse::<UserId>()).ok();
        }

        #[test]
        fn only_version_7_is_an_id(bytes in any::<[u8; 16]>()) {
            let is_v7 = bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10;
            assert_eq!(GroupId::from_bytes(bytes).is_ok(), is_v7);
        }
    }

    #[test]
    fn an_id_knows_its_birth() {
        let before = Timestamp::now();
        let id = EventId::generate(Region::default());
        assert!(before <= id.born_at() && id.born_at() <= Timestamp::now());
    }

    #[test]
    fn an_upper_case_id_is_refused() {
        let id = UserId::generate(Region::default()).to_string().to_uppercase();
        assert_eq!(id.parse::<UserId>(), Err(InvalidId));
    }

    #[test]
    fn a_region_above_twelve_bits_is_refused() {
        assert_eq!(Region::new(4096), None);
        assert!(serde_json::from_str::<Region>("4096").is_err());
    }
}
