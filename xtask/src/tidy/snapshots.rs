//! Every snapshot belongs to a test, and none waits for a decision.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Tree;

/// What can be told from the tree alone: the source that a snapshot names exists, and none is pending.
pub(super) fn check(tree: &Tree) -> Vec<String> {
    let pending = tree.with("new").map(|file| format!("{}: a snapshot that nobody has accepted", file.path.display()));
    let orphans = tree.with("snap").filter_map(|file| {
        let source = file.text.lines().find_map(|line| line.strip_prefix("source: "))?;
        let exists = tree.has(Path::new(source.trim_matches('"')));
        (!exists).then(|| format!("{}: its source {source} is gone", file.path.display()))
    });
    pending.chain(orphans).collect()
}

/// After a whole test run: each snapshot in the tree is among those that the tests looked at, which they have
/// written to `references`, a path per line.
pub(crate) fn every_snapshot_is_used(root: &Path, references: &Path) -> Result<()> {
    let tree = Tree::read(root)?;
    let used: HashSet<PathBuf> = if references.exists() {
        let text = std::fs::read_to_string(references)?;
        text.lines()
            .map(|line| Path::new(line).canonicalize())
            .collect::<Result<_, _>>()
            .context("a snapshot's path")?
    } else {
        HashSet::new()
    };
    let snapshots = tree.with("snap").filter(|file| !used.contains(&root.join(&file.path)));
    let unused: Vec<String> = snapshots.map(|file| file.path.display().to_string()).collect();
    if !unused.is_empty() {
        bail!("snapshots that no test looks at: {}", unused.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_without_its_source_is_a_breach() {
        let tree = Tree::of(&[
            ("edge/src/users.rs", ""),
            ("edge/src/snapshots/users__a.snap", "---\nsource: edge/src/users.rs\n---\n{}"),
            ("edge/src/snapshots/gone__a.snap", "---\nsource: edge/src/gone.rs\n---\n{}"),
            ("edge/src/snapshots/users__a.snap.new", ""),
        ]);
        assert_eq!(check(&tree).len(), 2);
    }

    #[test]
    fn a_snapshot_that_no_test_looks_at_is_a_breach() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().canonicalize().unwrap();
        std::fs::write(path.join("a.snap"), "").unwrap();
        std::fs::write(path.join("b.snap"), "").unwrap();
        let references = path.join("references");
        std::fs::write(&references, format!("{}\n", path.join("a.snap").display())).unwrap();
        let error = every_snapshot_is_used(&path, &references).unwrap_err();
        assert!(error.to_string().ends_with("looks at: b.snap"), "{error}");
    }
}
