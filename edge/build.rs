//! Lists the files of the built-in page (`web/`), so that all of them are in the program.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web").canonicalize()?;
    println!("cargo::rerun-if-changed={}", web.display());
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&web)? {
        let name = entry?.file_name().into_string().map_err(|name| format!("{} is not UTF-8", name.display()))?;
        names.push(name);
    }
    names.sort_unstable();

    let mut list = String::from("&[\n");
    for name in &names {
        writeln!(list, "    ({name:?}, include_bytes!({:?})),", web.join(name))?;
    }
    list.push_str("]\n");
    #[expect(clippy::disallowed_methods, reason = "a build script is told so where to write")]
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    std::fs::write(Path::new(&out).join("web.rs"), list)?;
    Ok(())
}
