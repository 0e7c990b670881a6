//! Each row of `docs/REQUIREMENTS.md` names its tests in its last column, as `` `code` ``; they exist. A row
//! that is not done yet says so.

use super::Tree;

/// The document.
const DOCUMENT: &str = "docs/REQUIREMENTS.md";
/// What the last column begins with when a row is not done yet.
const LATER: &str = "later";
/// What makes tests of the functions that it names.
const SCENARIOS: [&str; 2] = ["scenarios!(", "on_either_kind_of_store!("];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let Some(document) = tree.file(DOCUMENT) else { return Vec::new() };
    let rows: Vec<Row<'_>> = document.text.lines().filter_map(Row::read).collect();
    if rows.is_empty() {
        return vec![format!("{DOCUMENT}: no rows")];
    }
    rows.iter().flat_map(|row| breaches(tree, row)).collect()
}

fn breaches(tree: &Tree, row: &Row<'_>) -> Vec<String> {
    if row.tests().next().is_none() && !row.proof.starts_with(LATER) {
        return vec![format!("{DOCUMENT}: {} names no test", row.id)];
    }
    let missing = row.tests().filter(|test| !exists(tree, test));
    missing.map(|test| format!("{DOCUMENT}: {} names the test {test}, which does not exist", row.id)).collect()
}

/// Whether there is such a function, and it is run: as a test itself, or as a scenario.
fn exists(tree: &Tree, test: &str) -> bool {
    let definition = format!("fn {test}(");
    tree.with("rs").any(|file| {
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        let defined = lines.iter().position(|line| line.contains(&definition));
        let is_test = defined
            .and_then(|index| index.checked_sub(1))
            .and_then(|before| lines.get(before))
            .is_some_and(|attribute| attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test"));
        let is_scenario = || {
            SCENARIOS.iter().any(|makes_tests| {
                let list = file.text.split_once(makes_tests).and_then(|(_, rest)| rest.split(')').next());
                list.is_some_and(|list| list.split(',').any(|name| name.trim() == test))
            })
        };
        defined.is_some() && (is_test || is_scenario())
    })
}

/// A row of a table: `| B1-01 | … | proof |`.
struct Row<'a> {
    id: &'a str,
    proof: &'a str,
}

impl<'a> Row<'a> {
    /// The row on this line, if its first cell is a requirement's id.
    fn read(line: &'a str) -> Option<Self> {
        let cells: Vec<&str> = line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let id = *cells.first()?;
        let (group, number) = id.split_once('-')?;
        let is_id = group.starts_with(['B', 'S']) && number.parse::<u16>().is_ok();
        is_id.then_some(Self { id, proof: cells.last().copied().filter(|_| cells.len() > 2).unwrap_or_default() })
    }

    /// The functions that the proof names: the last part of each path of at least two words.
    fn tests(&self) -> impl Iterator<Item = &'a str> {
        let code = self.proof.split('`').skip(1).step_by(2);
        let names = code.filter_map(|path| path.rsplit("::").next());
        names.filter(|name| {
            name.contains('_') && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_names_no_test_or_a_missing_one_is_a_breach() {
        let table = "| id | requirement | test |\n|---|---|---|\n\
            | B1-01 | Users are listed. | `b1_01_users_are_listed` |\n\
            | B1-02 | Sign-up. | `edge::users::b1_02_gone` in `edge/src/users.rs` |\n\
            | S-01 | Push. | later: needs a push service |\n\
            | S-02 | Not done. | |\n\
            | S-03 | Not done either. | soon, in `a.rs` |\n";
        let tree = Tree::of(&[(DOCUMENT, table), ("a.rs", "#[test]\nfn b1_01_users_are_listed() {}\n")]);
        assert_eq!(
            check(&tree),
            [
                "docs/REQUIREMENTS.md: B1-02 names the test b1_02_gone, which does not exist",
                "docs/REQUIREMENTS.md: S-02 names no test",
                "docs/REQUIREMENTS.md: S-03 names no test",
            ]
        );
    }

    #[test]
    fn a_function_that_no_test_runs_is_no_test() {
        let table = "| B1-01 | x | `one_two` |\n";
        let is_test = |text: &str| check(&Tree::of(&[(DOCUMENT, table), ("a.rs", text)])).is_empty();
        assert!(is_test("#[tokio::test(flavor = \"multi_thread\")]\nasync fn one_two() {}\n"));
        assert!(is_test("scenarios!(\n    one_two,\n);\nasync fn one_two(cluster: &Cluster) {}\n"));
        assert!(is_test("on_either_kind_of_store!(one_two);\nasync fn one_two(client: &Client) {}\n"));
        assert!(!is_test("async fn one_two(cluster: &Cluster) {}\n"));
    }
}
