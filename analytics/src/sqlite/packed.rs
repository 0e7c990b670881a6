//! Facts as bytes. A row per fact would cost more in SQLite than everything else that is done for a message,
//! so facts stand many to a row and are counted here, not in SQL.
//!
//! A fact is `at` (8 bytes, milliseconds) ‖ region (2) ‖ sender (16) ‖ the conversation's key (17 or 33),
//! numbers big-endian.

use types::ConversationId;

use crate::{Error, Fact, Result};

/// The length of what stands before the conversation.
const HEAD_BYTES: usize = 8 + 2 + 16;
/// The most bytes that a fact takes.
const MAX_FACT_BYTES: usize = HEAD_BYTES + ConversationId::MAX_KEY_BYTES;

/// A fact, as far as counting needs to understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedFact<'a> {
    /// When, in milliseconds since 1970.
    pub(super) at: i64,
    /// The region's number.
    pub(super) region: u16,
    /// Whether it was in a direct conversation.
    pub(super) direct: bool,
    /// The user's bytes.
    pub(super) sender: &'a [u8],
    /// The group's bytes, or those of both users: they sort as the conversation's text does.
    pub(super) conversation: &'a [u8],
    /// All of the fact's bytes.
    pub(super) bytes: &'a [u8],
}

/// The bytes of some facts.
pub(super) fn pack(facts: &[Fact]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(facts.len() * MAX_FACT_BYTES);
    for fact in facts {
        bytes.extend_from_slice(&fact.at.as_millis().to_be_bytes());
        bytes.extend_from_slice(&fact.region.number().to_be_bytes());
        bytes.extend_from_slice(fact.sender.as_bytes());
        fact.conversation.write_key(&mut bytes);
    }
    bytes
}

/// Reads packed facts one after the other. Bytes that are none end it with an error.
pub(super) fn unpack(bytes: &[u8]) -> impl Iterator<Item = Result<PackedFact<'_>>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(fact) = first(rest) else {
            rest = &[];
            return Some(Err(Error::Damaged("a row of facts cannot be read".into())));
        };
        rest = &rest[fact.bytes.len()..];
        Some(Ok(fact))
    })
}

fn first(bytes: &[u8]) -> Option<PackedFact<'_>> {
    let (at, rest) = bytes.split_first_chunk::<8>()?;
    let (region, rest) = rest.split_first_chunk::<2>()?;
    let (sender, rest) = rest.split_at_checked(16)?;
    let (kind, rest) = rest.split_first()?;
    let (direct, id_bytes) = match kind {
        b'g' => (false, 16),
        b'd' => (true, 32),
        _ => return None,
    };
    Some(PackedFact {
        at: i64::from_be_bytes(*at),
        region: u16::from_be_bytes(*region),
        direct,
        sender,
        conversation: rest.get(..id_bytes)?,
        bytes: &bytes[..HEAD_BYTES + 1 + id_bytes],
    })
}

#[cfg(test)]
mod tests {
    use types::{GroupId, Region, Timestamp, UserId};

    use super::*;

    fn facts() -> Vec<Fact> {
        let home = Region::new(7).unwrap();
        let (sender, peer) = (UserId::generate(home), UserId::generate(home));
        let group = GroupId::generate(home).into();
        [group, ConversationId::direct(sender, peer), group]
            .into_iter()
            .zip(1..)
            .map(|(conversation, seq)| Fact { seq, at: Timestamp::now(), region: home, conversation, sender })
            .collect()
    }

    #[test]
    fn packed_facts_are_read_as_they_were() {
        let facts = facts();
        let bytes = pack(&facts);
        let read: Vec<_> = unpack(&bytes).map(Result::unwrap).collect();
        assert_eq!(read.len(), facts.len());
        for (read, fact) in read.iter().zip(&facts) {
            assert_eq!(read.at, fact.at.as_millis());
            assert_eq!(read.region, 7);
            assert_eq!(read.direct, matches!(fact.conversation, ConversationId::Direct(..)));
            assert_eq!(read.sender, fact.sender.as_bytes());
            assert_eq!(read.conversation, &fact.conversation.key()[1..]);
            assert_eq!(read.bytes, pack(std::slice::from_ref(fact)));
        }
    }

    #[test]
    fn bytes_that_break_off_are_damage_wherever_they_do() {
        let bytes = pack(&facts());
        let lengths: Vec<_> = unpack(&bytes).map(|fact| fact.unwrap().bytes.len()).collect();
        let ends: Vec<_> = lengths.iter().scan(0, |end, length| Some(std::mem::replace(end, *end + length))).collect();
        for cut in 0..bytes.len() {
            let is_whole = ends.contains(&cut);
            assert_eq!(unpack(&bytes[..cut]).all(|fact| fact.is_ok()), is_whole, "cut at {cut}");
        }
    }
}
