//! Where in a conversation, and where in the whole log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One incarnation of a log. A log that was lost and recreated has another epoch, so that an old `seq` is never
/// mistaken for a place in the new one. Eight hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "std::borrow::Cow<'_, str>", into = "String")]
#[schema(value_type = String, example = "5f3a9c01")]
pub struct Epoch(u32);

/// The text is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position")]
pub struct InvalidPosition;

impl Epoch {
    /// The epoch of this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The epoch's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let is_hex = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex {
            return Err(InvalidPosition);
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| InvalidPosition)
    }
}

impl TryFrom<std::borrow::Cow<'_, str>> for Epoch {
    type Error = InvalidPosition;

    fn try_from(text: std::borrow::Cow<'_, str>) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.to_string()
    }
}

/// A position in one conversation: everything up to and including `seq` has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The incarnation of the log that `seq` counts in.
    pub epoch: Epoch,
    /// The sequence number of an event, below 2^53; 0 is before the first.
    pub seq: u64,
}

/// A place in a whole region's log, and so in all conversations at once: a position per shard. Clients hold
/// it as an opaque text: `<epoch>.<seq of shard 0>.<seq of shard 1>…`, the sequence numbers in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    /// The incarnation of the log.
    pub epoch: Epoch,
    /// The last sequence number seen in each shard.
    pub seqs: Vec<u64>,
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.epoch.fmt(f)?;
        self.seqs.iter().try_for_each(|seq| write!(f, ".{seq:x}"))
    }
}

impl FromStr for Vector {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let mut parts = text.split('.');
        let epoch = parts.next().ok_or(InvalidPosition)?.parse()?;
        let seqs = parts.map(parse_seq).collect::<Result<Vec<_>, _>>()?;
        if seqs.is_empty() || seqs.len() > usize::from(u16::MAX) {
            return Err(InvalidPosition);
        }
        Ok(Self { epoch, seqs })
    }
}

fn parse_seq(text: &str) -> Result<u64, InvalidPosition> {
    if text.starts_with('+') {
        return Err(InvalidPosition);
    }
    let seq = u64::from_str_radix(text, 16).map_err(|_| InvalidPosition)?;
    if seq < 1 << 53 { Ok(seq) } else { Err(InvalidPosition) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn a_position_survives_json(epoch in any::<u32>(), seq in 0_u64..1 << 53) {
            let position = Position { epoch: Epoch(epoch), seq };
            let json = serde_json::to_string(&position).unwrap();
            assert_eq!(serde_json::from_str::<Position>(&json).unwrap(), position);
        }

        #[test]
        fn a_vector_survives_its_text(epoch in any::<u32>(), seqs in proptest::collection::vec(0_u64..1 << 53, 1..64)) {
            let vector = Vector { epoch: Epoch(epoch), seqs };
            assert_eq!(vector.to_string().parse(), Ok(vector));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,64}") {
            std::hint::black_box(text.parse::<Vector>()).ok();
            std::hint::black_box(text.parse::<Epoch>()).ok();
        }
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        for text in ["", "5f3a9c01", "5f3a9c01.", "5f3a9c01.+1", "5f3a9c01.20000000000000", "x.1"] {
            assert_eq!(text.parse::<Vector>(), Err(InvalidPosition), "{text}");
        }
    }
}
