//! Files stay short enough to be read in one go, and nothing is left to do or passed over.

use super::{File, Tree};

/// The longest a source file may be, its tests not counted.
const MAX_LINES: usize = 450;

/// Words that mean unfinished work or a test that does not run. Written in pieces: this file is searched too.
const STRAY: [&str; 5] = [
    concat!("todo", "!("),
    concat!("unimpl", "emented!("),
    concat!("dbg", "!("),
    concat!("#[ign", "ore"),
    concat!("FIX", "ME"),
];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let sources = || ["rs", "js", "css"].into_iter().flat_map(|extension| tree.with(extension));
    let long = sources().filter(|file| !is_test(file)).filter_map(|file| {
        let lines = lines_without_tests(&file.text);
        (lines > MAX_LINES).then(|| format!("{}: {lines} lines, more than {MAX_LINES}", file.path.display()))
    });
    let stray = sources().flat_map(|file| {
        file.text.lines().enumerate().filter_map(|(index, line)| {
            let word = STRAY.iter().find(|word| line.contains(**word))?;
            Some(format!("{}:{}: `{word}`", file.path.display(), index + 1))
        })
    });
    long.chain(stray).collect()
}

/// Whether the whole file is tests: a contract suite, a `tests` folder, a module of tests.
fn is_test(file: &File) -> bool {
    let is_in_tests = file.path.components().any(|part| part.as_os_str() == "tests");
    is_in_tests || file.path.file_stem().is_some_and(|stem| stem == "tests" || stem == "contract")
}

/// The number of lines before the tests at the end of the file.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]"
            && pair[1].trim_start_matches("pub(crate) ").starts_with("mod ")
            && pair[1].ends_with('{')
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_a_breach_and_its_tests_do_not_count() {
        let code = "line\n".repeat(MAX_LINES);
        let tests = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(check(&Tree::of(&[("a.rs", &code), ("b.rs", &tests)])), Vec::<String>::new());
        let longer = format!("{code}line\n");
        assert_eq!(check(&Tree::of(&[("c.rs", &longer)])), ["c.rs: 451 lines, more than 450"]);
        assert_eq!(check(&Tree::of(&[("c.css", &longer)])), ["c.css: 451 lines, more than 450"]);
        assert_eq!(check(&Tree::of(&[("c/contract.rs", &longer)])), Vec::<String>::new());
    }

    #[test]
    fn a_test_that_does_not_run_is_a_breach() {
        let text = format!("fn a() {{}}\n{}]\nfn b() {{}}\n", STRAY[3]);
        assert_eq!(check(&Tree::of(&[("a.rs", &text)])).len(), 1);
    }
}
