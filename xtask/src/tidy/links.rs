//! Relative links in the documents lead to files that exist, and to headings that they have.

use std::path::{Component, Path, PathBuf};

use super::{File, Tree};

pub(super) fn check(tree: &Tree) -> Vec<String> {
    tree.with("md").flat_map(|file| targets(&file.text).filter_map(|target| breach(tree, file, target))).collect()
}

fn breach(tree: &Tree, file: &File, target: &str) -> Option<String> {
    let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
    if is_elsewhere {
        return None;
    }
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
    if !tree.has(&path) {
        return Some(format!("{}: {target} leads nowhere", file.path.display()));
    }
    let document = tree.file(&path.to_string_lossy())?;
    let leads_to_heading = heading.is_empty() || !document.is("md") || has_heading(&document.text, heading);
    (!leads_to_heading).then(|| format!("{}: {target} leads to no heading", file.path.display()))
}

/// The targets of all links in a Markdown text, code left out.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    let prose = text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    prose.flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split([')', ' ']).next())
}

/// The path that a link in `document` means, without `.` and `..`.
fn resolve(document: &Path, target: &str) -> PathBuf {
    let mut path = document.parent().unwrap_or(Path::new("")).to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

/// Whether the text has a heading whose anchor is this: lower case, spaces as hyphens, other signs dropped.
fn has_heading(text: &str, anchor: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| line.trim_start_matches('#').trim()).any(|heading| anchor_of(heading) == anchor)
}

fn anchor_of(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_nowhere_is_a_breach() {
        let text =
            "[a](API.md) [b](../edge/) [c](missing.md) [d](https://example.com) [e](API.md#no) [f](API.md#two-words)";
        let tree = Tree::of(&[("docs/A.md", text), ("docs/API.md", "# Two `words`!"), ("edge", "")]);
        let breaches = check(&tree);
        assert_eq!(breaches, ["docs/A.md: missing.md leads nowhere", "docs/A.md: API.md#no leads to no heading"]);
    }

    #[test]
    fn links_in_code_are_not_followed() {
        assert_eq!(check(&Tree::of(&[("A.md", "```\n[a](b)\n```\n")])), Vec::<String>::new());
    }
}
