//! File names: which are taken, and how a browser is told of one.

use std::fmt::Write;

use crate::validate;

/// The longest name, in characters.
const NAME_CHARACTERS: usize = 150;
/// What a file without a name is called, without its extension.
const NAMELESS: &str = "attachment";

/// A file name, without any path: one visible line.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if name.contains(['/', '\\']) || matches!(name, "." | "..") {
        return Err("must be a file name without a path".into());
    }
    validate::name(name, NAME_CHARACTERS)
}

/// A name that ends as files of this kind do, so that no program takes the file for another. `extension` stands
/// without its dot.
pub(crate) fn fitting(name: Option<&str>, extension: &str) -> String {
    let name = name.map(str::trim).filter(|name| !name.is_empty()).unwrap_or(NAMELESS);
    let present = name.rsplit_once('.').map(|(_, present)| present.to_ascii_lowercase()).unwrap_or_default();
    let fits = match extension {
        "jpg" => matches!(&*present, "jpg" | "jpeg" | "jpe" | "jfif"),
        "tif" => matches!(&*present, "tif" | "tiff"),
        extension => present == extension,
    };
    if fits { name.to_owned() } else { format!("{name}.{extension}") }
}

/// The `Content-Disposition` of a download under this name (RFC 6266): it is saved, never shown.
pub(crate) fn disposition(name: &str) -> String {
    let is_plain = |char: char| char.is_ascii_graphic() && !matches!(char, '"' | '\\' | '%') || char == ' ';
    let plain: String = name.chars().map(|char| if is_plain(char) { char } else { '_' }).collect();
    let mut text = format!("attachment; filename=\"{plain}\"");
    if plain != name {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                write!(text, "%{byte:02X}").unwrap_or_else(|error| unreachable!("a string takes any text: {error}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_path_and_nothing_unseen() {
        for name in ["a.png", "Krähen im Flug.jpeg", "no extension", ".hidden", "a..b", "10:30.png"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let long = "a".repeat(151);
        for name in [
            "",
            " ",
            ".",
            "..",
            "../a.png",
            "a/b.png",
            "..\\a.png",
            "C:\\a.png",
            "a\0.png",
            "a\n.png",
            "gnp\u{202e}.exe",
            &long,
        ] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_name_ends_as_its_kind_does() {
        for (name, extension, wanted) in [
            (Some("a.png"), "png", "a.png"),
            (Some("A.PNG"), "png", "A.PNG"),
            (Some("a.jpeg"), "jpg", "a.jpeg"),
            (Some("a.exe"), "png", "a.exe.png"),
            (Some("scan"), "pdf", "scan.pdf"),
            (Some("png"), "png", "png.png"),
            (Some("a.hta"), "pdf", "a.hta.pdf"),
            (None, "png", "attachment.png"),
        ] {
            assert_eq!(fitting(name, extension), wanted);
        }
    }

    #[test]
    fn a_browser_is_told_the_name_in_two_ways() {
        assert_eq!(disposition("a b.png"), "attachment; filename=\"a b.png\"");
        assert_eq!(disposition("ä\"%.png"), "attachment; filename=\"___.png\"; filename*=UTF-8''%C3%A4%22%25.png");
    }
}
