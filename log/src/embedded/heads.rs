//! The last event of every conversation that was lately written to, in memory.

use std::collections::HashMap;

use types::ConversationId;

use super::layout::Head;

/// Conversations in the younger half; the older holds as many at most. Some 15 MB in all.
const HALF: usize = 65_536;

/// A bounded cache of heads in two halves: when the younger is full it becomes the older, and the older, whose
/// conversations were not written to since, is forgotten. What is not here is on disk.
pub(crate) struct Heads {
    younger: HashMap<ConversationId, Head>,
    older: HashMap<ConversationId, Head>,
    half: usize,
}

impl Default for Heads {
    fn default() -> Self {
        Self { younger: HashMap::new(), older: HashMap::new(), half: HALF }
    }
}

impl Heads {
    pub(crate) fn get(&self, conversation: &ConversationId) -> Option<Head> {
        self.younger.get(conversation).or_else(|| self.older.get(conversation)).copied()
    }

    pub(crate) fn set(&mut self, conversation: ConversationId, head: Head) {
        if self.younger.len() >= self.half && !self.younger.contains_key(&conversation) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(conversation, head);
    }
}

#[cfg(test)]
mod tests {
    use types::{GroupId, Region, Timestamp};

    use super::*;

    #[test]
    fn what_was_lately_written_is_kept_and_the_rest_forgotten() {
        let mut heads = Heads { half: 4, ..Heads::default() };
        let conversations: Vec<ConversationId> =
            std::iter::repeat_with(|| GroupId::generate(Region::default()).into()).take(12).collect();
        let often = conversations[0];
        for (seq, conversation) in (1..).zip(&conversations) {
            heads.set(*conversation, Head { seq, at: Timestamp::default() });
            heads.set(often, Head { seq: seq * 100, at: Timestamp::default() });
            assert_eq!(heads.get(&often).unwrap().seq, seq * 100);
        }
        assert_eq!(heads.get(&conversations[1]), None);
        assert_eq!(heads.get(&conversations[11]).unwrap().seq, 12);
        assert!(heads.younger.len() + heads.older.len() <= 8);
    }
}
