//! What a file really is, told while it passes by.
//!
//! Neither its name nor what its sender calls it is believed. Its first bytes say what it is; then its structure
//! is followed to its very end, with a few bytes of state, so that a file that breaks off, and one that goes on
//! as something else, are both found out however large they are.

mod jpeg;
mod pdf;
mod png;
mod tail;

use infer::MatcherType;

use crate::ApiError;
use jpeg::Jpeg;
use pdf::Pdf;
use png::Png;
use tail::Tail;

/// The beginning by which a file is told, in bytes. Of kinds whose structure is not followed, the size in pixels
/// is read off it too.
const PREFIX_BYTES: usize = 64 * 1024;
/// Where the beginning of a page or a script would have to stand for a program to take the file for one, in bytes.
const MARKUP_BYTES: usize = 1024;
/// What pages and scripts begin with.
const MARKUP: [&[u8]; 6] = [b"<script", b"<html", b"<!doctype", b"<?php", b"<svg", b"<hta:"];

/// Why a file is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is of no kind that is taken; what it seems to be.
    Unsupported(Option<&'static str>),
    /// It is of one kind and called another.
    Mismatch {
        /// What it is called.
        called: String,
        /// What it is.
        found: &'static str,
    },
    /// It breaks off, or its parts do not fit.
    Damaged(&'static str),
    /// It is a second thing as well.
    Polyglot(&'static str),
}

/// What a file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its media type.
    pub(crate) content_type: &'static str,
    /// What its name should end in, without the dot.
    pub(crate) extension: &'static str,
    /// Bytes.
    pub(crate) size: u64,
    /// Pixels: width and height, of images.
    pub(crate) pixels: Option<(u32, u32)>,
}

/// Looks at a file while it passes by.
pub(crate) struct Inspector {
    accepted: Vec<String>,
    called: Option<String>,
    /// The beginning, until it is told by it.
    prefix: Vec<u8>,
    told: Option<Told>,
    tail: Tail,
    size: u64,
}

/// What the beginning says.
struct Told {
    kind: infer::Type,
    structure: Structure,
}

enum Structure {
    Png(Png),
    Jpeg(Jpeg),
    Pdf(Pdf),
    /// It is not followed. The size in pixels, if the beginning tells it.
    Unknown(Option<(u32, u32)>),
}

impl Inspector {
    /// Takes files of these media types. `called` is what the sender calls this one, if it calls it anything.
    pub(crate) fn new(accepted: &[String], called: Option<&str>) -> Self {
        let called = called.and_then(claim);
        let (prefix, tail) = (Vec::new(), Tail::default());
        Self { accepted: accepted.to_vec(), called, prefix, told: None, tail, size: 0 }
    }

    /// Bytes that have passed.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Looks at the next piece.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<(), Fault> {
        self.size += piece.len() as u64;
        self.tail.take(piece);
        if let Some(told) = &mut self.told {
            return told.structure.take(piece);
        }
        self.prefix.extend_from_slice(piece);
        if self.prefix.len() < PREFIX_BYTES { Ok(()) } else { self.tell() }
    }

    /// The file has passed: what was it?
    pub(crate) fn finish(mut self) -> Result<Found, Fault> {
        if self.told.is_none() {
            self.tell()?;
        }
        let Some(Told { kind, structure }) = self.told else { return Err(Fault::Unsupported(None)) };
        let has_parts =
            !matches!((&structure, kind.matcher_type()), (Structure::Unknown(_), matcher) if is_container(matcher));
        if has_parts && self.tail.holds_archive() {
            return Err(Fault::Polyglot("a zip archive"));
        }
        let pixels = structure.finish(&self.tail, self.size)?;
        let (content_type, extension) = (kind.mime_type(), kind.extension());
        Ok(Found { content_type, extension, size: self.size, pixels })
    }

    /// Tells the file by its beginning, and follows its structure so far.
    fn tell(&mut self) -> Result<(), Fault> {
        let prefix = std::mem::take(&mut self.prefix);
        let Some(kind) = infer::get(&prefix) else { return Err(Fault::Unsupported(None)) };
        let found = kind.mime_type();
        if !self.accepted.iter().any(|accepted| accepted == found) {
            return Err(Fault::Unsupported(Some(found)));
        }
        if let Some(called) = self.called.take_if(|called| called != found) {
            return Err(Fault::Mismatch { called, found });
        }
        let mut structure = match found {
            "image/png" => Structure::Png(Png::default()),
            "image/jpeg" => Structure::Jpeg(Jpeg::default()),
            "application/pdf" => Structure::Pdf(Pdf::default()),
            _ => Structure::Unknown(pixels(&prefix)),
        };
        if !matches!(structure, Structure::Unknown(_)) {
            let begins_as_page = holds_markup(&prefix[..prefix.len().min(MARKUP_BYTES)]);
            if begins_as_page {
                return Err(Fault::Polyglot("a page or a script"));
            }
        }
        structure.take(&prefix)?;
        self.told = Some(Told { kind, structure });
        Ok(())
    }
}

impl Structure {
    fn take(&mut self, piece: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Png(png) => png.take(piece),
            Self::Jpeg(jpeg) => jpeg.take(piece),
            Self::Pdf(pdf) => pdf.take(piece),
            Self::Unknown(_) => Ok(()),
        }
    }

    /// The size in pixels, of images.
    fn finish(self, tail: &Tail, size: u64) -> Result<Option<(u32, u32)>, Fault> {
        match self {
            Self::Png(png) => png.finish().map(Some),
            Self::Jpeg(jpeg) => jpeg.finish().map(Some),
            Self::Pdf(pdf) => pdf.finish(tail, size).map(|()| None),
            Self::Unknown(pixels) => Ok(pixels),
        }
    }
}

/// What a sender calls a file, without parameters; `None` for what means any bytes.
fn claim(called: &str) -> Option<String> {
    let essence = called.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let essence = if essence == "image/jpg" { "image/jpeg".to_owned() } else { essence };
    (!essence.is_empty() && essence != "application/octet-stream").then_some(essence)
}

/// Whether files of such a kind may well be archives.
fn is_container(matcher: MatcherType) -> bool {
    matches!(matcher, MatcherType::Archive | MatcherType::Doc | MatcherType::Book | MatcherType::App)
}

/// Whether a page or a script begins in these bytes.
fn holds_markup(bytes: &[u8]) -> bool {
    let begins = |(place, _): (usize, &u8)| {
        let starts =
            |mark: &&[u8]| bytes.get(place..place + mark.len()).is_some_and(|at| at.eq_ignore_ascii_case(mark));
        MARKUP.iter().any(starts)
    };
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'<').any(begins)
}

fn pixels(prefix: &[u8]) -> Option<(u32, u32)> {
    let size = imagesize::blob_size(prefix).ok()?;
    Some((u32::try_from(size.width).ok()?, u32::try_from(size.height).ok()?))
}

impl Fault {
    /// As clients are told of it, who may send files of these media types.
    pub(crate) fn into_error(self, accepted: &[String]) -> ApiError {
        let accepted = accepted.join(", ");
        match self {
            Self::Unsupported(Some(found)) => {
                ApiError::unsupported_content(format!("the file is {found}; accepted are {accepted}"))
            }
            Self::Unsupported(None) => {
                ApiError::unsupported_content(format!("the file is of none of the accepted types: {accepted}"))
            }
            Self::Mismatch { called, found } => {
                let called: String = called.chars().take(100).collect();
                ApiError::type_mismatch(format!("the file is {found}, but was declared as {called}"))
            }
            Self::Damaged(what) => ApiError::unfit_file("damaged_file", format!("the file is damaged: {what}")),
            Self::Polyglot(what) => ApiError::unfit_file("polyglot_file", format!("the file is also {what}")),
        }
    }
}

#[cfg(test)]
mod tests;
