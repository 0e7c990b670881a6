//! JPEG: segments from `SOI` to `EOI`, each a marker with its length; after `SOS` come the scan's bytes until the
//! next marker. Nothing follows.

use super::Fault;

/// What is read of a frame's header: precision, height, width.
const FRAME_BYTES: usize = 5;

/// Follows a JPEG.
#[derive(Default)]
pub(super) struct Jpeg {
    place: Place,
    frame: Vec<u8>,
    has_scan: bool,
}

/// Where in the file the next byte stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// The first byte of `SOI`.
    #[default]
    Start,
    /// The second byte of `SOI`.
    Soi,
    /// A marker's first byte.
    Marker,
    /// A marker's second byte.
    Code,
    /// The first byte of a segment's length.
    Length(u8),
    /// The second byte of a segment's length, after the first.
    Length2(u8, u8),
    /// So many bytes of a segment are left.
    Segment(u8, u16),
    /// Between two markers of a scan.
    Scan,
    /// After `0xff` in a scan.
    ScanCode,
    End,
}

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;

impl Jpeg {
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Result<(), Fault> {
        while let Some((byte, rest)) = piece.split_first() {
            piece = match self.place {
                Place::Segment(code, left) => self.segment(code, left, piece),
                Place::Scan => self.scan(piece),
                place => {
                    self.place = self.next(place, *byte)?;
                    rest
                }
            };
        }
        Ok(())
    }

    /// The size in pixels, if the image was whole.
    pub(super) fn finish(self) -> Result<(u32, u32), Fault> {
        if self.place != Place::End {
            return Err(Fault::Damaged("it breaks off before the image's end"));
        }
        let pixels = match self.frame[..] {
            [_, a, b, c, d] => (u16::from_be_bytes([c, d]), u16::from_be_bytes([a, b])),
            _ => (0, 0),
        };
        if !self.has_scan || pixels.0 == 0 || pixels.1 == 0 {
            return Err(Fault::Damaged("it holds no image"));
        }
        Ok((pixels.0.into(), pixels.1.into()))
    }

    fn next(&self, place: Place, byte: u8) -> Result<Place, Fault> {
        match (place, byte) {
            (Place::Start, 0xff) => Ok(Place::Soi),
            (Place::Soi, SOI) => Ok(Place::Marker),
            (Place::Marker | Place::Code, 0xff) => Ok(Place::Code),
            (Place::Code, code) => after(code),
            // In a scan, `0xff` is followed by 0 to stand for itself, or by a restart marker.
            (Place::ScanCode, 0 | 0xd0..=0xd7) => Ok(Place::Scan),
            (Place::ScanCode, 0xff) => Ok(Place::ScanCode),
            (Place::ScanCode, code) => after(code),
            (Place::Length(code), high) => Ok(Place::Length2(code, high)),
            (Place::Length2(code, high), low) => {
                let length = u16::from_be_bytes([high, low]).checked_sub(2);
                let left = length.ok_or(Fault::Damaged("a part of the image has no length"))?;
                Ok(begin(code, left))
            }
            (Place::End, _) => Err(Fault::Polyglot("something that follows the image's end")),
            _ => Err(Fault::Damaged("a part of the image does not begin where it should")),
        }
    }

    fn segment<'a>(&mut self, code: u8, left: u16, piece: &'a [u8]) -> &'a [u8] {
        let (part, rest) = piece.split_at(piece.len().min(left.into()));
        if is_frame(code) {
            let wanted = FRAME_BYTES - self.frame.len();
            self.frame.extend_from_slice(&part[..part.len().min(wanted)]);
        }
        self.has_scan |= code == SOS;
        self.place = begin(code, left - u16::try_from(part.len()).unwrap_or(left));
        rest
    }

    fn scan<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let Some(marker) = piece.iter().position(|byte| *byte == 0xff) else { return &[] };
        self.place = Place::ScanCode;
        &piece[marker + 1..]
    }
}

/// What follows a marker.
fn after(code: u8) -> Result<Place, Fault> {
    match code {
        EOI => Ok(Place::End),
        // `TEM` stands alone.
        0x01 => Ok(Place::Marker),
        0 | 0x02..=0xbf | 0xd0..=SOI => Err(Fault::Damaged("a part of the image is of no kind")),
        code => Ok(Place::Length(code)),
    }
}

/// A segment of which so many bytes are left.
fn begin(code: u8, left: u16) -> Place {
    match (code, left) {
        (SOS, 0) => Place::Scan,
        (_, 0) => Place::Marker,
        (code, left) => Place::Segment(code, left),
    }
}

/// Whether a segment is a frame's header, which holds the size. Those of a thumbnail lie within other segments.
fn is_frame(code: u8) -> bool {
    matches!(code, 0xc0..=0xcf) && !matches!(code, 0xc4 | 0xc8 | 0xcc)
}
