//! PDF: `%PDF-` and a version, and at the end where the last table of objects begins and `%%EOF`. A document may
//! have been added to, so several such ends follow each other, each after further objects; nothing else stands
//! between them, and nothing follows the last.

use super::tail::Tail;
use super::{Fault, MARKUP_BYTES, holds_markup};

const HEADER: &[u8] = b"%PDF-";
const END: &[u8] = b"%%EOF";
/// The longest end: the keyword, a place, the mark, and line ends and blanks.
const TRAILER_BYTES: usize = 1024;
/// The beginnings of what may follow an end: an object's number is told by its digit. `endstream` ends a document
/// that is embedded in another.
const AFTER_END: [&[u8]; 4] = [b"xref", b"trailer", b"startxref", b"endstream"];
/// Enough of a word to tell it.
const WORD_BYTES: usize = 9;

/// Follows a PDF.
#[derive(Default)]
pub(super) struct Pdf {
    /// Bytes of [`HEADER`] and its version that were seen.
    header: usize,
    /// Bytes of [`END`] that the last bytes seen are.
    end: usize,
    /// The word after an end, while it is not told.
    word: Option<Vec<u8>>,
}

impl Pdf {
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Result<(), Fault> {
        while let Some((byte, rest)) = piece.split_first() {
            if self.header < HEADER.len() + 3 {
                self.begin(*byte)?;
            } else if self.word.is_some() {
                self.follow(*byte)?;
            } else if self.end == 0 && *byte != b'%' {
                // Most of a document is none of this.
                piece = piece.iter().position(|byte| *byte == b'%').map_or(&[], |place| &piece[place..]);
                continue;
            } else {
                self.search(*byte);
            }
            piece = rest;
        }
        Ok(())
    }

    /// Passes a document that ends as it should. `size` is the file's, in bytes.
    pub(super) fn finish(self, tail: &Tail, size: u64) -> Result<(), Fault> {
        if holds_markup(tail.last(MARKUP_BYTES)) {
            return Err(Fault::Polyglot("a page or a script"));
        }
        let is_at_end = self.word.is_some_and(|word| word.is_empty());
        if is_at_end && last_table(tail.last(TRAILER_BYTES)).is_some_and(|place| place < size) {
            return Ok(());
        }
        Err(Fault::Damaged("the document's end is missing"))
    }

    /// The version is a digit, a point and a digit.
    fn begin(&mut self, byte: u8) -> Result<(), Fault> {
        let fits = match HEADER.get(self.header) {
            Some(wanted) => byte == *wanted,
            None if self.header == HEADER.len() + 1 => byte == b'.',
            None => byte.is_ascii_digit(),
        };
        self.header += 1;
        if fits { Ok(()) } else { Err(Fault::Damaged("it does not begin as a document does")) }
    }

    /// Looks for the next end.
    fn search(&mut self, byte: u8) {
        self.end = matched(self.end, byte);
        if self.end == END.len() {
            (self.end, self.word) = (0, Some(Vec::new()));
        }
    }

    /// Only more of the document, or nothing, follows an end.
    fn follow(&mut self, byte: u8) -> Result<(), Fault> {
        let Some(word) = &mut self.word else { return Ok(()) };
        if word.is_empty() && is_blank(byte) {
            return Ok(());
        }
        word.push(byte);
        if word[0].is_ascii_digit() || AFTER_END.contains(&word.as_slice()) {
            self.word = None;
            return Ok(());
        }
        let may_become = AFTER_END.iter().any(|after| after.starts_with(word));
        if may_become && word.len() < WORD_BYTES {
            return Ok(());
        }
        Err(Fault::Polyglot("something that follows the document's end"))
    }
}

/// How many bytes of [`END`] are seen once `byte` follows `seen` of them.
fn matched(seen: usize, byte: u8) -> usize {
    match END.get(seen) {
        Some(wanted) if byte == *wanted => seen + 1,
        // `%%%` ends in `%%` still.
        _ if byte == b'%' => {
            if seen == 2 {
                2
            } else {
                1
            }
        }
        _ => 0,
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0c | 0)
}

/// Where the last table of objects begins, as the end says: `startxref`, the place, `%%EOF`.
fn last_table(end: &[u8]) -> Option<u64> {
    let end = end.trim_ascii_end();
    let end = &end[..end.iter().rposition(|byte| !is_blank(*byte))? + 1];
    let end = end.strip_suffix(END)?.trim_ascii_end();
    let digits = end.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, place) = end.split_at(end.len() - digits);
    before.trim_ascii_end().strip_suffix(b"startxref")?;
    let place = std::str::from_utf8(place).ok()?.parse().ok()?;
    (place > 0).then_some(place)
}
