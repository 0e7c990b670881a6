//! Small whole files of the kinds that are taken, and what is made of them to be refused.

/// One part of a PNG: its length, type, data and check value.
#[must_use]
pub fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut check = crc32fast::Hasher::new();
    check.update(kind);
    check.update(data);
    let length = u32::try_from(data.len()).expect("a part is shorter").to_be_bytes();
    [&length, kind.as_slice(), data, &check.finalize().to_be_bytes()].concat()
}

/// What every PNG begins with, and its header.
#[must_use]
pub fn png_start(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), png_chunk(b"IHDR", &header)].concat()
}

/// What every PNG ends with.
#[must_use]
pub fn png_end() -> Vec<u8> {
    png_chunk(b"IEND", b"")
}

/// A grey PNG of one pixel that browsers show, told to be of this size by nobody but its header when it is larger.
#[must_use]
pub fn png(width: u32, height: u32) -> Vec<u8> {
    // One line of one black pixel, deflated and stored.
    let image = [0x78, 0x01, 0x01, 0x02, 0x00, 0xfd, 0xff, 0x00, 0x00, 0x00, 0x02, 0x00, 0x01];
    [png_start(width, height), png_chunk(b"IDAT", &image), png_end()].concat()
}

/// A JPEG of this size.
#[must_use]
pub fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let ([a, b], [c, d]) = (height.to_be_bytes(), width.to_be_bytes());
    [
        &[0xff, 0xd8, 0xff, 0xe0, 0, 16][..],
        b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0",
        &[0xff, 0xc0, 0, 11, 8, a, b, c, d, 1, 1, 0x11, 0],
        &[0xff, 0xda, 0, 8, 1, 1, 0, 0, 0x3f, 0, 0x12, 0xff, 0, 0x34],
        &[0xff, 0xd9],
    ]
    .concat()
}

/// A PDF.
#[must_use]
pub fn pdf() -> Vec<u8> {
    b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\nxref\n0 1\ntrailer\n<< /Root 1 0 R >>\nstartxref\n45\n%%EOF\n"
        .to_vec()
}

/// A program for Windows, as far as anybody looks.
#[must_use]
pub fn executable() -> Vec<u8> {
    [b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0".to_vec(), vec![0; 400]].concat()
}

/// A zip archive with nothing in it.
#[must_use]
pub fn zip() -> Vec<u8> {
    [b"PK\x05\x06".to_vec(), vec![0; 18]].concat()
}
