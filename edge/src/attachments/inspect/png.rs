//! PNG: a signature, then chunks of length, type, data and check value, from `IHDR` to `IEND`. Nothing follows.

use crc32fast::Hasher;

use super::Fault;

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// The length of `IHDR`'s data, in bytes.
const HEADER_BYTES: usize = 13;
/// The longest chunk that the standard allows, in bytes; the largest width and height, too.
const MAX: u32 = (1 << 31) - 1;

/// Follows a PNG.
#[derive(Default)]
pub(super) struct Png {
    place: Place,
    /// What was read of the present place, up to what is needed of it.
    read: Vec<u8>,
    check: Hasher,
    header: Option<(u32, u32)>,
    has_image: bool,
}

/// Where in the file the next byte stands.
#[derive(Clone, Copy, Default)]
enum Place {
    #[default]
    Signature,
    /// Length and type.
    Head,
    Data {
        kind: [u8; 4],
        left: u32,
    },
    Check {
        kind: [u8; 4],
    },
    End,
}

impl Png {
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Result<(), Fault> {
        while !piece.is_empty() {
            piece = match self.place {
                Place::Data { kind, left } => self.data(kind, left, piece),
                Place::Signature => self.fill::<8>(piece, Self::signature)?,
                Place::Head => self.fill::<8>(piece, Self::head)?,
                Place::Check { kind } => self.fill::<4>(piece, |png, value| png.checked(kind, value))?,
                Place::End => return Err(Fault::Polyglot("something that follows the image's end")),
            };
        }
        Ok(())
    }

    /// The size in pixels, if the image was whole.
    pub(super) fn finish(self) -> Result<(u32, u32), Fault> {
        match (self.place, self.header) {
            (Place::End, Some(pixels)) => Ok(pixels),
            _ => Err(Fault::Damaged("it breaks off before the image's end")),
        }
    }

    /// Reads on until `N` bytes are there, and what is left of the piece then.
    fn fill<'a, const N: usize>(
        &mut self,
        piece: &'a [u8],
        done: impl FnOnce(&mut Self, [u8; N]) -> Result<Place, Fault>,
    ) -> Result<&'a [u8], Fault> {
        let (part, rest) = piece.split_at(piece.len().min(N - self.read.len()));
        self.read.extend_from_slice(part);
        if let Ok(bytes) = <[u8; N]>::try_from(self.read.as_slice()) {
            self.read.clear();
            self.place = done(self, bytes)?;
        }
        Ok(rest)
    }

    fn signature(&mut self, bytes: [u8; 8]) -> Result<Place, Fault> {
        if bytes == SIGNATURE { Ok(Place::Head) } else { Err(Fault::Damaged("it does not begin as an image does")) }
    }

    fn head(&mut self, [a, b, c, d, kind @ ..]: [u8; 8]) -> Result<Place, Fault> {
        let length = u32::from_be_bytes([a, b, c, d]);
        let is_named = kind.iter().all(u8::is_ascii_alphabetic);
        if !is_named || length > MAX {
            return Err(Fault::Damaged("a part of the image has no name or length"));
        }
        let is_header = kind == *b"IHDR" && length as usize == HEADER_BYTES;
        if self.header.is_none() != is_header {
            return Err(Fault::Damaged("the image has not one header"));
        }
        self.has_image |= kind == *b"IDAT";
        if kind == *b"IEND" && (length > 0 || !self.has_image) {
            return Err(Fault::Damaged("the image ends before it began"));
        }
        self.check = Hasher::new();
        self.check.update(&kind);
        Ok(Place::Data { kind, left: length }.or_check())
    }

    fn data<'a>(&mut self, kind: [u8; 4], left: u32, piece: &'a [u8]) -> &'a [u8] {
        let (part, rest) = piece.split_at(piece.len().min(left as usize));
        self.check.update(part);
        if kind == *b"IHDR" {
            self.read.extend_from_slice(part);
        }
        let left = left - u32::try_from(part.len()).unwrap_or(left);
        self.place = Place::Data { kind, left }.or_check();
        if left == 0 && kind == *b"IHDR" {
            self.header = header(&std::mem::take(&mut self.read));
        }
        rest
    }

    fn checked(&mut self, kind: [u8; 4], value: [u8; 4]) -> Result<Place, Fault> {
        if std::mem::take(&mut self.check).finalize() != u32::from_be_bytes(value) {
            return Err(Fault::Damaged("a part of the image has another check value"));
        }
        if self.header.is_none() {
            return Err(Fault::Damaged("the image's header makes no sense"));
        }
        Ok(if kind == *b"IEND" { Place::End } else { Place::Head })
    }
}

impl Place {
    /// After the last byte of data the check value follows.
    fn or_check(self) -> Self {
        match self {
            Self::Data { kind, left: 0 } => Self::Check { kind },
            place => place,
        }
    }
}

/// The size in pixels, if the header makes sense.
fn header(data: &[u8]) -> Option<(u32, u32)> {
    let (width, rest) = data.split_first_chunk::<4>()?;
    let (height, rest) = rest.split_first_chunk::<4>()?;
    let (width, height) = (u32::from_be_bytes(*width), u32::from_be_bytes(*height));
    let [depth, color, compression, filter, interlace] = rest else { return None };
    let is_known = matches!(depth, 1 | 2 | 4 | 8 | 16)
        && matches!(color, 0 | 2 | 3 | 4 | 6)
        && (*compression, *filter) == (0, 0)
        && *interlace <= 1;
    let is_sized = (1..=MAX).contains(&width) && (1..=MAX).contains(&height);
    (is_known && is_sized).then_some((width, height))
}
