//! `cargo xtask test`: every test, from a clean checkout.

mod real;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use servers::shell::{self, Needed};

use crate::tidy;
use real::Servers;

/// What the tests start that cargo does not build: the browser test's browser, the README's client, the Makefile's make.
/// What checks the description of the API is Python, which the servers need too.
const NEEDED: [Needed; 5] = [
    Needed { package: "curl", is_there: || shell::find("curl").is_some() },
    Needed { package: "make", is_there: || shell::find("make").is_some() },
    Needed { package: "npm", is_there: || shell::find("npx").is_some() },
    Needed { package: "chromium", is_there: || shell::find("chromium").is_some() },
    Needed { package: "chromium-driver", is_there: || shell::find("chromedriver").is_some() },
];

/// What the tests and their servers need.
fn needed() -> Vec<Needed> {
    [&NEEDED[..], &servers::NEEDED[..]].concat()
}

/// Gets what the tests need, checks the tree, runs the tests. The last line is `N passed, N failed`.
pub(crate) fn run(root: &Path) -> Result<()> {
    step("programs that the tests start", || shell::provide(&needed()))?;
    let real = step("real servers", Servers::get)?;
    let mut tally = Tally::default();
    tally.count(step("tidy", || tidy::run(root)));
    let references = root.join("target/snapshot-references.txt");
    let mut tests = Tally::default();
    let outcome = step("cargo test", || {
        tests = cargo_test(root, &references, real.endpoints_file())?;
        if tests.ended_well || tests.failed > 0 { Ok(()) } else { bail!("cargo test failed before its tests had run") }
    });
    tally.count(outcome);
    tally.passed += tests.passed;
    tally.failed += tests.failed;
    if tally.failed == 0 {
        tally.count(step("snapshots", || tidy::every_snapshot_is_used(root, &references)));
    }
    // Before the last line, and before an exit that drops nothing.
    drop(real);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        // The line above is the last: an error would say no more.
        std::process::exit(1);
    }
    Ok(())
}

/// How many passed, how many failed. A step that is no test counts only when it fails.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ended_well: bool,
}

impl Tally {
    fn count(&mut self, outcome: Result<()>) {
        if let Err(error) = outcome {
            println!("error: {error:#}");
            self.failed += 1;
        }
    }

    /// Adds what a line of cargo's says, if it is a summary: `test result: ok. 12 passed; 0 failed; …`.
    fn read(&mut self, line: &str) {
        let Some(summary) = line.strip_prefix("test result: ") else { return };
        self.passed += number_before(summary, " passed");
        self.failed += number_before(summary, " failed");
    }
}

fn number_before(line: &str, word: &str) -> u64 {
    let Some((before, _)) = line.split_once(word) else { return 0 };
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Runs all tests, passes their output through, and sums their results.
fn cargo_test(root: &Path, references: &Path, endpoints: &Path) -> Result<Tally> {
    if references.exists() {
        std::fs::remove_file(references)?;
    }
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace", "--no-fail-fast"]).current_dir(root).stdout(Stdio::piped());
    command.env("INSTA_SNAPSHOT_REFERENCES_FILE", references);
    command.env(servers::ENDPOINTS_VARIABLE, endpoints);
    #[expect(clippy::disallowed_methods, reason = "so a CI system says that it is one")]
    if std::env::var_os("CI").is_some() {
        command.env("CARGO_INCREMENTAL", "0").env("INSTA_UPDATE", "no");
    }
    let mut cargo = command.spawn().context("cannot start cargo")?;
    let output = cargo.stdout.take().context("cargo's output is not ours")?;
    let mut tally = Tally::default();
    let mut ours = std::io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        ours.write_all(&line)?;
        ours.write_all(b"\n")?;
        tally.read(&String::from_utf8_lossy(&line));
    }
    tally.ended_well = cargo.wait()?.success();
    Ok(tally)
}

/// Runs a step and says how long it took.
fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("== {name}");
    let started = Instant::now();
    let outcome = work();
    let verdict = if outcome.is_ok() { "done" } else { "failed" };
    println!("== {name}: {verdict} in {:.1} s", started.elapsed().as_secs_f64());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named_at_once_and_the_guide_names_the_same() {
        let nothing: Vec<Needed> = needed().iter().map(|one| Needed { is_there: || false, ..*one }).collect();
        let packages = shell::missing(&nothing).join(" ");
        assert_eq!(packages, "curl make npm chromium chromium-driver python3-venv maven openjdk-17-jre-headless");
        let guide = std::fs::read_to_string(crate::root().join("CONTRIBUTING.md")).unwrap();
        assert!(guide.contains(&packages), "CONTRIBUTING.md names {packages}");
    }

    #[test]
    fn the_results_of_all_test_programs_are_summed() {
        let mut tally = Tally::default();
        let output = "running 3 tests\n\
            test a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            a log line with 7 passed in it\n\
            test result: FAILED. 40 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s\n";
        output.lines().for_each(|line| tally.read(line));
        assert_eq!(tally, Tally { passed: 42, failed: 3, ended_well: false });
    }
}
