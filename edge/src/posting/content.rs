//! Which contents of a message are taken.

use types::Content;

use crate::ApiError;
use crate::validate::{Faults, link};

/// The most users that one message may call by name.
const MAX_MENTIONS: usize = 50;
/// The longest name of a video's site, in characters.
const SOURCE_CHARACTERS: usize = 100;

/// Passes a content that may be stored.
///
/// # Errors
/// 422, with every field that is to blame.
pub(super) fn check(content: &Content, text_characters: usize) -> Result<(), ApiError> {
    let mut faults = Faults::default();
    let has_media = content.image.is_some() || content.video.is_some();
    faults.check("/text", text(&content.text, text_characters, has_media));
    if let Some(image) = &content.image {
        faults.check("/image/url", link(&image.url));
    }
    if let Some(video) = &content.video {
        faults.check("/video/url", link(&video.url));
        faults.check("/video/source", text(&video.source, SOURCE_CHARACTERS, true));
    }
    if content.image.is_some() && content.video.is_some() {
        faults.check("/video", Err("a message has an image or a video, not both".into()));
    }
    if content.mentions.len() > MAX_MENTIONS {
        faults.check("/mentions", Err(format!("must be at most {MAX_MENTIONS} users")));
    }
    faults.done()
}

fn text(text: &str, max_characters: usize, may_be_empty: bool) -> Result<(), String> {
    if !may_be_empty && text.trim().is_empty() {
        return Err("must not be empty".into());
    }
    // A text of so few bytes has no more characters: most texts need no counting.
    if text.len() > max_characters && text.chars().count() > max_characters {
        return Err(format!("must have at most {max_characters} characters"));
    }
    if text.chars().any(|char| char.is_control() && !matches!(char, '\n' | '\t')) {
        return Err("must not hold control characters other than line breaks and tabs".into());
    }
    Ok(())
}
