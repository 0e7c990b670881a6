//! Counts by id, on their way into SQL.

use std::collections::HashMap;

use super::packed::PackedFact;

/// What is ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    User,
    Conversation,
}

impl Subject {
    /// Its number in the table.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::User => 0,
            Self::Conversation => 1,
        }
    }

    /// Whose count a fact adds to.
    pub(super) fn id_of<'a>(self, fact: &PackedFact<'a>) -> &'a [u8] {
        match self {
            Self::User => fact.sender,
            Self::Conversation => fact.conversation,
        }
    }
}

/// Counts as a JSON object, from ids in hexadecimal to numbers, in order of the ids. One such text is bound
/// where a statement per count would cost many times as much.
pub(super) fn to_json<I: AsRef<[u8]> + Ord>(counts: HashMap<I, u64>) -> String {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    let mut json = String::with_capacity(2 + counts.len() * 48);
    let mut before = '{';
    for (id, messages) in counts {
        json.push(before);
        json.push('"');
        push_hex(&mut json, id.as_ref());
        json.push_str("\":");
        json.push_str(itoa::Buffer::new().format(messages));
        before = ',';
    }
    if before == '{' {
        json.push('{');
    }
    json.push('}');
    json
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 0x0f)].into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_in_order_of_their_ids() {
        let counts = HashMap::from([(vec![0xff, 0x0a], 3), (vec![0x00], 12)]);
        assert_eq!(to_json(counts), r#"{"00":12,"ff0a":3}"#);
        assert_eq!(to_json(HashMap::<Vec<u8>, u64>::new()), "{}");
    }
}
