//! The end of a file.

/// The end of a zip archive lies within so many bytes before the file's: its record, and the longest comment.
const TAIL_BYTES: usize = 22 + 65_535;
/// How a zip archive's end begins: the signature, and that it is the first and only volume.
const ZIP_END: &[u8] = b"PK\x05\x06\0\0\0\0";

/// The last bytes of what has passed: at least [`TAIL_BYTES`] if there were so many, twice that at most.
#[derive(Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    pub(super) fn take(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(TAIL_BYTES)..];
        if self.0.len() + piece.len() > 2 * TAIL_BYTES {
            let surplus = (self.0.len() + piece.len() - TAIL_BYTES).min(self.0.len());
            self.0.drain(..surplus);
        }
        self.0.extend_from_slice(piece);
    }

    /// The last so many bytes, if there were so many.
    pub(super) fn last(&self, count: usize) -> &[u8] {
        &self.0[self.0.len().saturating_sub(count)..]
    }

    /// Whether a program that opens archives would find one here.
    pub(super) fn holds_archive(&self) -> bool {
        self.last(TAIL_BYTES).windows(ZIP_END.len()).any(|bytes| bytes == ZIP_END)
    }
}
