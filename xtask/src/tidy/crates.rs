//! Who may depend on whom: `types ← seams ← edge, ingest ← rookery ← testkit`. Seams never depend on seams,
//! except that the analytics worker reads the log; roles never depend on roles. And what `cargo run` runs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use servers::shell;

const SEAMS: &[&str] = &["types", "log", "directory", "history", "analytics", "blobs"];

/// Each crate, and those of ours that it may depend on. A crate that does not stand here is a breach.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("types", &[]),
    ("log", &["types"]),
    ("directory", &["types"]),
    ("history", &["types"]),
    ("blobs", &["types"]),
    ("analytics", &["types", "log"]),
    ("edge", SEAMS),
    ("ingest", SEAMS),
    ("rookery", &["types", "log", "directory", "history", "analytics", "blobs", "edge", "ingest"]),
    (
        "testkit",
        &["types", "log", "directory", "history", "analytics", "blobs", "edge", "ingest", "rookery", "servers"],
    ),
    ("servers", &[]),
    ("xtask", &["types", "servers"]),
];

/// Each crate, and those that its tests alone may use beside these: only the binary's own tests can start the binary,
/// and every seam's contract is tested on a real server. The example needs a server to fill.
const ALLOWED_IN_TESTS: [(&str, &str); 9] = [
    ("log", "servers"),
    ("directory", "servers"),
    ("history", "servers"),
    ("analytics", "servers"),
    ("blobs", "servers"),
    ("ingest", "servers"),
    ("rookery", "servers"),
    ("rookery", "testkit"),
    ("xtask", "testkit"),
];

/// The program that `cargo run` runs. Cargo refuses to choose among several when none or more than one is named so.
const DEFAULT_RUN: &str = "rookery";

/// What `cargo metadata` says, as far as we ask.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    default_run: Option<String>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Set for a crate of ours.
    path: Option<String>,
    /// `dev` when only tests use it.
    kind: Option<String>,
}

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(root);
    let metadata: Metadata = serde_json::from_str(&shell::output(&mut cargo)?).context("cargo metadata")?;
    Ok(breaches(&metadata).into_iter().chain(breach_of_default_run(&metadata)).collect())
}

fn breaches(metadata: &Metadata) -> Vec<String> {
    metadata.packages.iter().flat_map(breaches_of).collect()
}

fn breach_of_default_run(metadata: &Metadata) -> Option<String> {
    let named: Vec<&str> = metadata.packages.iter().filter_map(|package| package.default_run.as_deref()).collect();
    (named != [DEFAULT_RUN]).then(|| format!("`cargo run` is to run {DEFAULT_RUN}; `default-run` names {named:?}"))
}

fn breaches_of(package: &Package) -> Vec<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!("{}: a crate without a place in the order of crates", package.name)];
    };
    let ours = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
    let is_for_tests = |dependency: &Dependency| {
        let edge = (package.name.as_str(), dependency.name.as_str());
        dependency.kind.as_deref() == Some("dev") && ALLOWED_IN_TESTS.contains(&edge)
    };
    ours.filter(|dependency| !allowed.contains(&dependency.name.as_str()) && !is_for_tests(dependency))
        .map(|dependency| format!("{} depends on {}, which is not below it", package.name, dependency.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(name: &str, dependency: &str, path: Option<&str>) -> Metadata {
        let dependency = Dependency { name: dependency.into(), path: path.map(Into::into), kind: None };
        Metadata { packages: vec![Package { name: name.into(), dependencies: vec![dependency], default_run: None }] }
    }

    #[test]
    fn cargo_run_must_know_what_to_run() {
        let mut packages = metadata("rookery", "types", None);
        assert!(breach_of_default_run(&packages).is_some());
        packages.packages[0].default_run = Some(DEFAULT_RUN.into());
        assert_eq!(breach_of_default_run(&packages), None);
        packages.packages.push(Package {
            name: "xtask".into(),
            dependencies: vec![],
            default_run: Some("xtask".into()),
        });
        assert!(breach_of_default_run(&packages).is_some());
    }

    #[test]
    fn s_01_the_crates_of_the_shape_are_used() {
        let manifest = std::fs::read_to_string(crate::root().join("Cargo.toml")).expect("the manifest");
        for name in [
            "axum",
            "tokio",
            "async-nats",
            "sqlx",
            "scylla",
            "jsonwebtoken",
            "argon2",
            "aws-sdk-s3",
            "clickhouse",
            "tracing-opentelemetry",
        ] {
            assert!(manifest.lines().any(|line| line.starts_with(&format!("{name} = "))), "{name}");
        }
    }

    #[test]
    fn a_seam_on_a_seam_and_a_role_on_a_role_are_breaches() {
        assert_eq!(breaches(&metadata("history", "log", Some("/log"))).len(), 1);
        assert_eq!(breaches(&metadata("edge", "ingest", Some("/ingest"))).len(), 1);
        assert_eq!(breaches(&metadata("rookery", "testkit", Some("/testkit"))).len(), 1);
        assert_eq!(breaches(&metadata("new", "types", Some("/types"))).len(), 1);
    }

    #[test]
    fn what_stands_below_is_allowed_and_so_are_the_crates_of_others() {
        assert_eq!(breaches(&metadata("analytics", "log", Some("/log"))), Vec::<String>::new());
        assert_eq!(breaches(&metadata("types", "log", None)), Vec::<String>::new());
        let mut tests = metadata("rookery", "testkit", Some("/testkit"));
        tests.packages[0].dependencies[0].kind = Some("dev".into());
        assert_eq!(breaches(&tests), Vec::<String>::new());
    }
}
