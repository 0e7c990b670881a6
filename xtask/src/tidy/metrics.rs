//! Each metric that the program keeps stands in the table of `docs/OPERATING.md` with its kind, and nothing else does.
//! All have one prefix.

use std::collections::BTreeSet;

use super::Tree;

/// The document.
const DOCUMENT: &str = "docs/OPERATING.md";
/// What every name begins with.
const PREFIX: &str = "rookery_";
/// The kinds; the macros that make them are called so.
const KINDS: [&str; 3] = ["counter", "gauge", "histogram"];

/// A metric: its name and its kind.
type Metric<'a> = (&'a str, &'a str);

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let Some(document) = tree.file(DOCUMENT) else { return Vec::new() };
    let told: BTreeSet<Metric<'_>> = document.text.lines().filter_map(row).collect();
    let program = tree.with("rs").filter(|file| !file.path.starts_with("xtask"));
    let kept: BTreeSet<Metric<'_>> = program.flat_map(|file| metrics(&file.text)).collect();
    let odd = kept.iter().filter(|(name, _)| !name.starts_with(PREFIX));
    let odd = odd.map(|(name, _)| format!("the metric {name} does not begin with {PREFIX}"));
    let untold = kept.difference(&told).map(|(name, kind)| format!("{DOCUMENT}: the {kind} {name} is missing"));
    let gone = told.difference(&kept).map(|(name, kind)| format!("{DOCUMENT}: there is no {kind} {name}"));
    odd.chain(untold).chain(gone).collect()
}

/// The metric that a row of the table tells of: `` | `rookery_a` | gauge | … ``.
fn row(line: &str) -> Option<Metric<'_>> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    let kind = cells.next()?;
    (name.starts_with(PREFIX) && KINDS.contains(&kind)).then_some((name, kind))
}

/// The metrics that a source file names: `counter!("rookery_a"`.
fn metrics(text: &str) -> impl Iterator<Item = Metric<'_>> {
    KINDS.into_iter().flat_map(move |kind| {
        let calls = text.match_indices("!(").filter(move |(at, _)| text[..*at].ends_with(kind));
        calls.filter_map(move |(at, call)| {
            let name = text[at + call.len()..].trim_start().strip_prefix('"')?.split('"').next()?;
            Some((name, kind))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_told_of_once_and_by_its_kind() {
        let table = "| metric | kind |\n|---|---|\n| `rookery_a_total` | counter |\n| `rookery_b` | gauge |\n\
            | `rookery_gone` | gauge |\n";
        let code = "metrics::counter!(\"rookery_a_total\").increment(1);\nmetrics::histogram!(\n    \"rookery_b\");\n\
            metrics::gauge!(\"other\");\n";
        assert_eq!(
            check(&Tree::of(&[(DOCUMENT, table), ("a.rs", code)])),
            [
                "the metric other does not begin with rookery_",
                "docs/OPERATING.md: the gauge other is missing",
                "docs/OPERATING.md: the histogram rookery_b is missing",
                "docs/OPERATING.md: there is no gauge rookery_b",
                "docs/OPERATING.md: there is no gauge rookery_gone",
            ]
        );
    }
}
