//! Which texts are taken. What is refused is told for each field, all of them at once.

use crate::ApiError;
use crate::error::FieldError;

/// The longest email address that RFC 5321 lets pass, in characters.
const EMAIL_CHARACTERS: usize = 254;
/// The longest link, in bytes.
pub(crate) const LINK_BYTES: usize = 2_048;
/// The lengths of a user name, in characters.
pub(crate) const USERNAME_CHARACTERS: std::ops::RangeInclusive<usize> = 3..=32;
/// The lengths of a password, in characters. NIST SP 800-63B asks for at least 8 and to allow at least 64.
pub(crate) const PASSWORD_CHARACTERS: std::ops::RangeInclusive<usize> = 8..=128;
/// The longest password, in bytes: the longest one in the longest characters.
const PASSWORD_BYTES: usize = 512;

/// Gathers what is wrong with a request.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<FieldError>);

impl Faults {
    /// Notes a fault of the field at `pointer`, if there is one.
    pub(crate) fn check(&mut self, pointer: &str, verdict: Result<(), String>) {
        if let Err(detail) = verdict {
            self.0.push(FieldError { pointer: pointer.to_owned(), detail });
        }
    }

    /// Passes a request without faults.
    pub(crate) fn done(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid_fields(self.0)) }
    }
}

/// A user name: 3 to 32 of `a-z 0-9 _ . -`, upper case too.
pub(crate) fn username(text: &str) -> Result<(), String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if is_plain && USERNAME_CHARACTERS.contains(&text.len()) {
        return Ok(());
    }
    Err("must be 3 to 32 letters `a-z`, digits, `_`, `.` or `-`".into())
}

/// An email address, as far as it can be told without sending to it.
pub(crate) fn email(text: &str) -> Result<(), String> {
    let is_clean = text.chars().all(|char| !char.is_control() && !char.is_whitespace());
    let has_parts = text.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !local.contains('@')
            && !domain.is_empty()
            && !domain.starts_with('.')
            && !domain.ends_with('.')
    });
    if is_clean && has_parts && text.chars().count() <= EMAIL_CHARACTERS {
        return Ok(());
    }
    Err(format!("must be an email address of at most {EMAIL_CHARACTERS} characters"))
}

/// The name of a user or a group: one visible line.
pub(crate) fn name(text: &str, max_characters: usize) -> Result<(), String> {
    let count = text.chars().take(max_characters + 1).count();
    if count > max_characters || text.trim().is_empty() {
        return Err(format!("must have 1 to {max_characters} characters"));
    }
    if text.chars().any(is_unfit_for_a_line) {
        return Err("must not contain control characters".into());
    }
    Ok(())
}

/// Control characters, line breaks, and those that turn the direction of the text around them.
fn is_unfit_for_a_line(char: char) -> bool {
    let turns = matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    char.is_control() || turns || matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A new password.
pub(crate) fn password(text: &str) -> Result<(), String> {
    if text.len() <= PASSWORD_BYTES && PASSWORD_CHARACTERS.contains(&text.chars().count()) {
        return Ok(());
    }
    Err("must have 8 to 128 characters".into())
}

/// A link that a browser may follow: `http` or `https`.
pub(crate) fn link(text: &str) -> Result<(), String> {
    let has_host = text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if has_host && text.len() <= LINK_BYTES {
        return Ok(());
    }
    Err(format!("must be an absolute `http` or `https` URL of at most {LINK_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_short_and_plain() {
        for text in ["ada", "A.d-a_9", "abcdefghijklmnopqrstuvwxyz012345"] {
            assert_eq!(username(text), Ok(()), "{text}");
        }
        for text in ["", "ab", "ada lovelace", "ädä", "a\u{0}da", "ada@b", "abcdefghijklmnopqrstuvwxyz0123456"] {
            assert!(username(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_email_address_has_two_parts() {
        for text in ["a@b", "ada.lovelace+chat@example.org", "ä@exämple.org"] {
            assert_eq!(email(text), Ok(()), "{text}");
        }
        for text in ["", "ada", "@example.org", "ada@", "a b@c", "a@b@c", "a@.c", "a\n@c"] {
            assert!(email(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_one_visible_line() {
        assert_eq!(name("Ada 🦀 Lovelace", 100), Ok(()));
        for text in ["", "   ", "a\nb", "a\u{0}b", "a\u{202e}b", &"a".repeat(101)] {
            assert!(name(text, 100).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_is_measured_in_characters() {
        assert_eq!(password("12345678"), Ok(()));
        assert_eq!(password(&"🦀".repeat(128)), Ok(()));
        for text in ["", "1234567", &"a".repeat(129)] {
            assert!(password(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_link_leads_to_the_web() {
        assert_eq!(link("https://example.org/a.png?b=c"), Ok(()));
        for text in ["", "/a.png", "javascript:alert(1)", "ftp://example.org", "https://", "data:image/png;base64,"] {
            assert!(link(text).is_err(), "{text}");
        }
    }
}
