//! Which contents of a message are taken.

use types::Content;

use crate::ApiError;
use crate::validate::{Faults, link};

/// The most users that one message may call by name.
pub(crate) const MAX_MENTIONS: usize = 50;
/// The longest name of a video's site, in characters.
const SOURCE_CHARACTERS: usize = 100;

/// Names of sites by the hosts of their links.
const SITES: [(&str, &str); 6] = [
    ("youtube.com", "youtube"),
    ("youtu.be", "youtube"),
    ("youtube-nocookie.com", "youtube"),
    ("vevo.com", "vevo"),
    ("vimeo.com", "vimeo"),
    ("dailymotion.com", "dailymotion"),
];

/// Adds what can be told from the rest: the source of a video from its link.
pub(super) fn complete(content: &mut Content) {
    if let Some(video) = content.video.as_mut().filter(|video| video.source.is_empty()) {
        video.source = site_of(&video.url);
    }
}

/// The site that a link leads to: by its name where it is known, or else by its host.
fn site_of(url: &str) -> String {
    let host =
        url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase)).unwrap_or_default();
    let is_of = |site: &str| host == site || host.strip_suffix(site).is_some_and(|rest| rest.ends_with('.'));
    match SITES.iter().find(|(site, _)| is_of(site)) {
        Some((_, name)) => (*name).to_owned(),
        None => host.strip_prefix("www.").unwrap_or(&host).chars().take(SOURCE_CHARACTERS).collect(),
    }
}

/// Passes a content that may be stored, with or without an attachment.
///
/// # Errors
/// 422, with every field that is to blame.
pub(super) fn check(content: &Content, has_attachment: bool, text_characters: usize) -> Result<(), ApiError> {
    let mut faults = Faults::default();
    let media = [content.image.is_some(), content.video.is_some(), has_attachment];
    let media_count = media.into_iter().filter(|has| *has).count();
    let has_media = media_count > 0;
    faults.check("/text", text(&content.text, text_characters, has_media));
    if let Some(image) = &content.image {
        faults.check("/image/url", link(&image.url));
    }
    if let Some(video) = &content.video {
        faults.check("/video/url", link(&video.url));
        faults.check("/video/source", text(&video.source, SOURCE_CHARACTERS, true));
    }
    if media_count > 1 {
        let pointer = if has_attachment { "/attachment" } else { "/video" };
        faults.check(pointer, Err("a message has at most one of image, video and attachment".into()));
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
    if text.chars().any(|char| char.is_control() && !matches!(char, '\r' | '\n' | '\t')) {
        return Err("must not contain control characters other than line breaks and tabs".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_videos_source_is_told_from_its_link() {
        for (url, source) in [
            ("https://www.youtube.com/watch?v=dQw4w9WgXcQ", "youtube"),
            ("https://youtu.be/dQw4w9WgXcQ", "youtube"),
            ("https://m.YouTube.com/watch", "youtube"),
            ("https://www.vevo.com/watch/1", "vevo"),
            ("https://videos.example.org:8443/1.mp4", "videos.example.org"),
            ("https://www.example.org/1.mp4", "example.org"),
            ("https://notyoutube.com/1", "notyoutube.com"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(site_of(url), source, "{url}");
        }
    }

    #[test]
    fn lines_may_end_as_they_do_on_any_system() {
        for fine in ["one\ntwo", "one\r\ntwo", "one\ttwo"] {
            assert_eq!(text(fine, 100, false), Ok(()), "{fine:?}");
        }
        for bad in ["one\0two", "one\u{1b}[2Jtwo", "one\u{85}two"] {
            assert!(text(bad, 100, false).is_err(), "{bad:?}");
        }
    }
}
