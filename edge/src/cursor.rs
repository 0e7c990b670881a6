//! Cursors: where the next page begins, as a text that clients hand back and do not look into.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ApiError;

/// The longest cursor that is read, in characters.
const MAX_CHARACTERS: usize = 2_048;

/// The text of a place.
pub(crate) fn encode(place: &impl Serialize) -> String {
    let json = serde_json::to_vec(place).unwrap_or_else(|error| unreachable!("a place has JSON: {error}"));
    URL_SAFE_NO_PAD.encode(json)
}

/// The place in a text, or what the client is told of a text that this list did not give.
pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let place = if text.len() <= MAX_CHARACTERS { read(text) } else { None };
    place.ok_or_else(|| ApiError::invalid("cursor", "is not a cursor of this list"))
}

fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// A page of a list: at most `limit` items, and where the next page begins.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// The cursor of the next page; `null` on the last.
    #[schema(example = json!(null))]
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of `items`, of which one more than `limit` was looked for: if it is there, it is cut off and
    /// `place` tells the cursor by the last item that stays.
    pub(crate) fn cut<P: Serialize>(mut items: Vec<T>, limit: usize, place: impl FnOnce(&T) -> P) -> Self {
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = if has_more { items.last().map(|last| encode(&place(last))) } else { None };
        Self { items, next }
    }

    /// The same page of other items.
    pub(crate) fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(name in ".{0,64}", seq in any::<u64>()) {
            let text = encode(&(&name, seq));
            assert_eq!(decode::<(String, u64)>(&text).unwrap(), (name, seq));
        }

        #[test]
        fn a_text_that_is_no_cursor_is_the_clients_error(text in ".{0,64}") {
            if let Err(error) = decode::<(String, u64)>(&text) {
                assert_eq!(error.code(), "invalid");
            }
        }
    }

    #[test]
    fn a_page_tells_its_end() {
        let page = Page::cut(vec![1, 2, 3], 2, |last| *last);
        assert_eq!((page.items, page.next.map(|next| decode::<i32>(&next).unwrap())), (vec![1, 2], Some(2)));
        assert_eq!(Page::cut(vec![1, 2], 2, |last| *last).next, None);
    }
}
