use proptest::prelude::{any, prop, proptest};

use super::*;

const DEFAULT: [&str; 3] = ["application/pdf", "image/jpeg", "image/png"];

fn accepted() -> Vec<String> {
    DEFAULT.map(str::to_owned).to_vec()
}

/// Looks at a file that comes in pieces of so many bytes.
fn look_in_pieces(file: &[u8], called: Option<&str>, bytes: usize) -> Result<Found, Fault> {
    let mut inspector = Inspector::new(&accepted(), called);
    for piece in file.chunks(bytes) {
        inspector.take(piece)?;
    }
    inspector.finish()
}

/// Looks at a file, and makes sure that it does not matter in which pieces it comes.
fn look(file: &[u8]) -> Result<Found, Fault> {
    let found = look_in_pieces(file, None, usize::MAX);
    for bytes in [1, 7, 4096] {
        assert_eq!(look_in_pieces(file, None, bytes), found);
    }
    found
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut check = crc32fast::Hasher::new();
    check.update(kind);
    check.update(data);
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length, kind.as_slice(), data, &check.finalize().to_be_bytes()].concat()
}

fn header(width: u32, height: u32) -> Vec<u8> {
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat())
}

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A PNG with these parts between its header and its end.
fn png_with(parts: &[Vec<u8>]) -> Vec<u8> {
    [SIGNATURE.to_vec(), header(640, 480), parts.concat(), chunk(b"IEND", b"")].concat()
}

fn png() -> Vec<u8> {
    png_with(&[chunk(b"IDAT", &[7; 300]), chunk(b"IDAT", &[8; 5000])])
}

fn segment(code: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).unwrap().to_be_bytes();
    [&[0xff, code], &length[..], data].concat()
}

/// A JPEG with these parts before its frame.
fn jpeg_with(parts: &[Vec<u8>]) -> Vec<u8> {
    [
        vec![0xff, 0xd8],
        segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
        parts.concat(),
        segment(0xc2, &[8, 0x01, 0xe0, 0x02, 0x80, 1, 1, 0x11, 0]),
        segment(0xc4, &[0; 20]),
        segment(0xda, &[1, 1, 0, 0, 0x3f, 0]),
        [0x12, 0xff, 0, 0x34, 0xff, 0xd0, 0x56, 0xff, 0xd7].repeat(500),
        segment(0xda, &[1, 1, 0, 0, 0x3f, 0]),
        vec![0x78; 40],
        vec![0xff, 0xff, 0xd9],
    ]
    .concat()
}

fn jpeg() -> Vec<u8> {
    jpeg_with(&[])
}

fn pdf_with(body: &[u8]) -> Vec<u8> {
    [
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< >>\nendobj\n",
        body,
        b"xref\n0 1\ntrailer\n<< >>\nstartxref\n15\n%%EOF\n",
    ]
    .concat()
}

fn pdf() -> Vec<u8> {
    pdf_with(b"")
}

/// What ends a zip archive, with a comment.
fn zip(comment: &[u8]) -> Vec<u8> {
    let length = u16::try_from(comment.len()).unwrap().to_le_bytes();
    [b"PK\x03\x04 a file ", &b"PK\x05\x06\0\0\0\0\x01\0\x01\0\x10\0\0\0\x10\0\0\0"[..], &length, comment].concat()
}

fn assert_polyglot(file: &[u8]) {
    let fault = look(file).unwrap_err();
    assert!(matches!(fault, Fault::Polyglot(_)), "{fault:?}");
}

fn assert_damaged(file: &[u8]) {
    let fault = look(file).unwrap_err();
    assert!(matches!(fault, Fault::Damaged(_)), "{fault:?}");
}

#[test]
fn whole_files_are_told_with_their_measures() {
    let size = |file: &[u8]| file.len() as u64;
    let (content_type, extension, pixels) = ("image/png", "png", Some((640, 480)));
    assert_eq!(look(&png()), Ok(Found { content_type, extension, size: size(&png()), pixels }));
    let (content_type, extension) = ("image/jpeg", "jpg");
    assert_eq!(look(&jpeg()), Ok(Found { content_type, extension, size: size(&jpeg()), pixels }));
    let (content_type, extension, pixels) = ("application/pdf", "pdf", None);
    assert_eq!(look(&pdf()), Ok(Found { content_type, extension, size: size(&pdf()), pixels }));
}

#[test]
fn measures_are_found_behind_any_preface() {
    let preface = segment(0xe1, &[0; 65_000]);
    assert_eq!(look(&jpeg_with(&vec![preface; 4])).unwrap().pixels, Some((640, 480)));
}

#[test]
fn a_file_of_no_kind_that_is_taken_is_refused() {
    for (file, found) in [
        (b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff".as_slice(), Some("application/vnd.microsoft.portable-executable")),
        (&[&b"\x7fELF\x02\x01\x01"[..], &[0; 60]].concat(), Some("application/x-executable")),
        (b"GIF89a\x01\0\x01\0\0\0\0", Some("image/gif")),
        (b"<!DOCTYPE html><html><script>alert(1)</script></html>", Some("text/html")),
        (b"just text", None),
        (b"", None),
    ] {
        let fault = look(file).unwrap_err();
        assert_eq!(fault, Fault::Unsupported(found), "{}", String::from_utf8_lossy(file));
    }
    assert_damaged(b"junk%PDF-1.7\nstartxref\n5\n%%EOF\n");
    let zip = look(&zip(b"")).unwrap_err();
    assert_eq!(zip, Fault::Unsupported(Some("application/zip")));
}

#[test]
fn a_lying_content_type_is_refused_and_a_vague_one_is_not() {
    for called in [None, Some("image/png"), Some("IMAGE/PNG; x=y"), Some("application/octet-stream"), Some("")] {
        assert!(look_in_pieces(&png(), called, 100).is_ok(), "{called:?}");
    }
    assert!(look_in_pieces(&jpeg(), Some("image/jpg"), 100).is_ok());
    for called in ["image/jpeg", "application/pdf", "text/html", "nonsense"] {
        let fault = look_in_pieces(&png(), Some(called), 100).unwrap_err();
        assert_eq!(fault, Fault::Mismatch { called: called.into(), found: "image/png" });
    }
}

#[test]
fn a_file_that_breaks_off_anywhere_is_damaged() {
    for file in [png(), jpeg(), pdf()] {
        let told = 20;
        // The line end after a document's end may be missing.
        let least = if file.starts_with(b"%PDF") { 2 } else { 1 };
        for length in (told..=file.len() - least).rev().step_by(17).chain([file.len() - least]) {
            let fault = look_in_pieces(&file[..length], None, 1000).unwrap_err();
            assert!(matches!(fault, Fault::Damaged(_)), "{length} of {}: {fault:?}", file.len());
        }
    }
}

#[test]
fn parts_of_an_image_that_do_not_fit_are_damage() {
    let mut flipped = png();
    flipped[100] ^= 1;
    assert_damaged(&flipped);
    let image = || chunk(b"IDAT", b"image");
    assert_damaged(&png_with(&[]));
    assert_damaged(&[SIGNATURE, &image(), &header(1, 1), &chunk(b"IEND", b"")].concat());
    assert_damaged(&png_with(&[header(1, 1), image()]));
    assert_damaged(&[SIGNATURE, &header(0, 1), &image(), &chunk(b"IEND", b"")].concat());
    assert_damaged(&[SIGNATURE, &header(1, 1), &image(), &chunk(b"IEND", b"x")].concat());
    assert_damaged(&[SIGNATURE, &header(1, 1), &image(), b"\xff\xff\xff\xffIDAT"].concat());
    assert_damaged(&[SIGNATURE, &header(1, 1), &chunk(b"I\0AT", b"")].concat());
    // No frame, no scan, a part without a length, a second beginning.
    assert_damaged(&[&[0xff, 0xd8][..], &segment(0xe0, b"JFIF"), &segment(0xda, &[0]), &[0xff, 0xd9]].concat());
    assert_damaged(&[&[0xff, 0xd8][..], &segment(0xc0, &[8, 0, 1, 0, 1, 1]), &[0xff, 0xd9]].concat());
    assert_damaged(&[0xff, 0xd8, 0xff, 0xe0, 0, 1, 0xff, 0xd9]);
    assert_damaged(&[0xff, 0xd8, 0xff, 0xd8, 0xff, 0xd9]);
}

#[test]
fn whatever_follows_the_end_makes_a_polyglot() {
    for file in [png(), jpeg(), pdf()] {
        for more in [
            b"<script>alert(1)</script>".to_vec(),
            zip(b""),
            b"#!/bin/sh".to_vec(),
            b"MZ\x90\0".to_vec(),
            jpeg(),
            pdf(),
        ] {
            assert_polyglot(&[file.clone(), more].concat());
        }
    }
}

#[test]
fn an_archive_is_found_within_a_whole_file() {
    // Their ends stand in the archive's comment.
    let hidden = |rest: usize| zip(&vec![0; rest]);
    assert_polyglot(&png_with(&[chunk(b"IDAT", b"image"), chunk(b"teXt", &hidden(0))]));
    assert_polyglot(&jpeg_with(&[segment(0xfe, &hidden(4000))]));
    assert_polyglot(&pdf_with(&[b"2 0 obj\nstream\n", &hidden(60_000)[..], b"endstream\nendobj\n"].concat()));
}

#[test]
fn a_page_within_the_beginning_is_found() {
    let page = b"<HTML><body onload=alert(1)>";
    assert_polyglot(&png_with(&[chunk(b"teXt", page), chunk(b"IDAT", b"image")]));
    assert_polyglot(&jpeg_with(&[segment(0xfe, b"<?php system($_GET[0]);")]));
    assert_polyglot(&pdf_with(page));
    let mut tape = pdf_with(&[b' '; 600]);
    tape[257..262].copy_from_slice(b"ustar");
    assert_eq!(look(&tape), Err(Fault::Unsupported(Some("application/x-tar"))));
}

#[test]
fn a_document_may_have_been_added_to_but_by_a_document() {
    let update = b"\n2 0 obj\n<< >>\nendobj\nxref\n0 1\ntrailer\n<< >>\nstartxref\n99\n%%EOF\r\n\r\n";
    let updated = [pdf(), update.to_vec(), update.to_vec()].concat();
    assert!(look(&updated).is_ok());
    let embedded = pdf_with(&[b"2 0 obj\nstream\n", &pdf()[..], b"endstream\nendobj\n"].concat());
    assert!(look(&embedded).is_ok());
    let page = [&pdf()[..], b"<b>hello</b>\nstartxref\n15\n%%EOF\n"].concat();
    assert_polyglot(&page);
    assert_polyglot(&[&pdf()[..], b"nonsense\nstartxref\n15\n%%EOF\n"].concat());
    for end in
        ["startxref\n15\n%%EO", "%%EOF\n", "startxref\n%%EOF", "startxref\n0\n%%EOF", "startxref\n99999999\n%%EOF"]
    {
        assert_damaged(&[b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n", end.as_bytes()].concat());
    }
    assert_damaged(b"%PDF-x.7\nstartxref\n3\n%%EOF");
}

#[test]
fn another_kind_is_told_by_its_beginning_where_it_is_taken() {
    let gif = b"GIF89a\x40\x01\xf0\0\0\0\0;";
    let mut inspector = Inspector::new(&["image/gif".into()], None);
    inspector.take(gif).unwrap();
    let found = inspector.finish().unwrap();
    assert_eq!((found.content_type, found.extension, found.pixels), ("image/gif", "gif", Some((320, 240))));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(start in 0_usize..4, bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let start = [&png()[..33], &jpeg()[..30], &pdf()[..20], b""][start].to_vec();
        let file = [start, bytes].concat();
        std::hint::black_box(look(&file)).ok();
    }
}
