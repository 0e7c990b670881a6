//! Which part of a file is asked for (RFC 9110 §14).

use std::ops::Range;

use http::{HeaderMap, header};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// A part of it, never empty.
    Part(Range<u64>),
    /// A part that it does not have.
    Beyond,
    /// Nothing: the client has it.
    Nothing,
}

/// What these headers ask for of a file of so many bytes that bears this tag. A range that makes no sense, or
/// more than one, is passed over, as the standard allows.
pub(crate) fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_named =
        |tags: &str| tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag);
    if text(header::IF_NONE_MATCH).is_some_and(is_named) {
        return Wanted::Nothing;
    }
    // A time tells nothing here: what has another tag is another file.
    let is_current = text(header::IF_RANGE).is_none_or(|tag| tag == etag);
    match text(header::RANGE).filter(|_| is_current).and_then(|range| part(range, size)) {
        Some(part) if part.is_empty() => Wanted::Beyond,
        Some(part) => Wanted::Part(part),
        None => Wanted::Whole,
    }
}

/// `bytes=0-99`, `bytes=100-` or `bytes=-100`, cut to the file; empty when it lies beyond it.
fn part(range: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| is_number(text).then(|| text.parse().unwrap_or(u64::MAX));
    if first.is_empty() {
        return Some(size.saturating_sub(number(last)?)..size);
    }
    let first = number(first)?;
    let end = if last.is_empty() { size } else { number(last)?.saturating_add(1) };
    if end <= first && !last.is_empty() {
        return None;
    }
    Some(first.min(size)..end.min(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"tag\"";

    fn ask(pairs: &[(header::HeaderName, &str)]) -> Wanted {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        wanted(&headers, TAG, 1000)
    }

    #[test]
    fn a_range_is_cut_to_the_file() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-99", 0..100),
            ("bytes=900-", 900..1000),
            ("bytes=900-5000", 900..1000),
            ("bytes=900-99999999999999999999999", 900..1000),
            ("bytes=-100", 900..1000),
            ("bytes=-5000", 0..1000),
        ] {
            assert_eq!(ask(&[(header::RANGE, range)]), Wanted::Part(part), "{range}");
        }
        for range in ["bytes=1000-", "bytes=5000-6000", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(ask(&[(header::RANGE, range)]), Wanted::Beyond, "{range}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        for range in ["bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=0-1,5-6", "lines=0-1", "0-1", "bytes=+1-2"]
        {
            assert_eq!(ask(&[(header::RANGE, range)]), Wanted::Whole, "{range}");
        }
    }

    #[test]
    fn a_part_of_another_file_is_not_given() {
        let range = (header::RANGE, "bytes=0-99");
        assert_eq!(ask(&[range.clone(), (header::IF_RANGE, TAG)]), Wanted::Part(0..100));
        for other in ["\"other\"", "W/\"tag\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(ask(&[range.clone(), (header::IF_RANGE, other)]), Wanted::Whole, "{other}");
        }
    }

    #[test]
    fn who_has_the_file_is_told_so() {
        for tags in [TAG, "W/\"tag\"", "\"other\", \"tag\"", "*"] {
            assert_eq!(ask(&[(header::IF_NONE_MATCH, tags)]), Wanted::Nothing, "{tags}");
        }
        assert_eq!(ask(&[(header::IF_NONE_MATCH, "\"other\"")]), Wanted::Whole);
    }
}
