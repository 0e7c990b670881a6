//! `cargo xtask tidy`: the rules of the tree that no compiler checks. Each is also a test.
//!
//! | module | rule |
//! |---|---|
//! | [`arithmetic`] | calculations in the documents come out |
//! | [`files`] | files stay short; nothing is left to do or passed over |
//! | [`crates`] | who may depend on whom |
//! | [`links`] | links in the documents lead somewhere |
//! | [`metrics`] | the operators' document tells of every metric |
//! | [`requirements`] | the tests that the requirements name exist |
//! | [`snapshots`] | every snapshot is used by a test |

mod arithmetic;
mod crates;
mod files;
mod links;
mod metrics;
mod requirements;
mod snapshots;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub(crate) use snapshots::every_snapshot_is_used;

/// Checks every rule; the error lists every breach.
pub(crate) fn run(root: &Path) -> Result<()> {
    let tree = Tree::read(root)?;
    let mut breaches = files::check(&tree);
    breaches.extend(arithmetic::check(&tree));
    breaches.extend(crates::check(root)?);
    breaches.extend(links::check(&tree));
    breaches.extend(metrics::check(&tree));
    breaches.extend(requirements::check(&tree));
    breaches.extend(snapshots::check(&tree));
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("the tree is not tidy:\n{}", breaches.join("\n"));
}

/// A text file of the tree.
struct File {
    /// Relative to the top.
    path: PathBuf,
    text: String,
}

impl File {
    fn is(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }
}

/// The checkout: its text files, and the paths of all.
struct Tree {
    files: Vec<File>,
    paths: Vec<PathBuf>,
}

/// The extensions of the files whose text the rules read.
const READ: [&str; 6] = ["rs", "js", "css", "md", "snap", "new"];

impl Tree {
    /// Reads the checkout, without what is built or hidden.
    fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { files: Vec::new(), paths: Vec::new() };
        tree.add_folder(root, root)?;
        tree.files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(tree)
    }

    fn add_folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_skipped = name.starts_with('.') || name == "target" || name == "node_modules";
            if !is_skipped {
                self.add(root, &path)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, root: &Path, path: &Path) -> Result<()> {
        let relative = path.strip_prefix(root)?.to_path_buf();
        self.paths.push(relative.clone());
        if path.is_dir() {
            return self.add_folder(root, path);
        }
        if READ.iter().any(|extension| path.extension().is_some_and(|found| found == *extension)) {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            self.files.push(File { path: relative, text });
        }
        Ok(())
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == Path::new(path))
    }

    fn with(&self, extension: &'static str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| file.is(extension))
    }

    fn has(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.paths.iter().any(|known| known == path)
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let files: Vec<File> =
            files.iter().map(|(path, text)| File { path: path.into(), text: (*text).to_owned() }).collect();
        let paths = files.iter().map(|file| file.path.clone()).collect();
        Self { files, paths }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        if let Err(error) = super::run(crate::root()) {
            panic!("{error:#}");
        }
    }
}
