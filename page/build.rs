//! Puts the page together: takes the packages that `modules.json` names, names all files by their content,
//! compresses them, and writes `page.rs` for the library. README.md has the rules.
//!
//! It writes below `OUT_DIR` only. Cargo calls it when something in this folder has changed, and not for a
//! change of other crates.
#![expect(clippy::disallowed_methods, reason = "runs npm, at build time")]

#[path = "build/bundle.rs"]
mod bundle;
#[path = "build/imports.rs"]
mod imports;
#[path = "build/npm.rs"]
mod npm;
#[path = "build/texts.rs"]
mod texts;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bundle::Bundle;

/// The variable that names an installed `node_modules`, for builds without a network.
const MODULES_DIR: &str = "FURTHER_LINK_PAGE_MODULES";
/// The variable that makes a missing npm an error: no package is to lack its page unseen.
const REQUIRED: &str = "FURTHER_LINK_PAGE_REQUIRED";

/// What the server says then.
const LEFT: &str =
    "this server was built without its page; build it with the feature `page`, which is on by default";

/// Why there is no page.
enum Failure {
    /// It was not asked for.
    Left,
    /// The build goes on, and the server says this sentence.
    Missing(String),
    /// The build fails.
    Broken(String),
}

fn main() -> ExitCode {
    for path in ["build.rs", "build", "web", "package.json", "package-lock.json", "modules.json"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for variable in [MODULES_DIR, REQUIRED] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let is_required = env::var_os(REQUIRED).is_some_and(|value| !value.is_empty() && value != "0");
    let source = match page(&out) {
        Ok(bundle) => bundle.write(&out).map_err(|error| format!("{}: {error}", out.display())),
        Err(Failure::Left) => Ok(format!("Err({LEFT:?})")),
        Err(Failure::Missing(sentence)) if !is_required => {
            println!("cargo::warning=no page is built in: {sentence}");
            // A file that is never there: the next build looks again.
            println!("cargo::rerun-if-changed={}", out.join("missing").display());
            Ok(format!("Err({sentence:?})"))
        }
        Err(Failure::Missing(sentence) | Failure::Broken(sentence)) => Err(sentence),
    };
    let written = source.and_then(|source| {
        fs::write(out.join("page.rs"), source).map_err(|error| format!("{}: {error}", out.display()))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error=the page: {error}");
            ExitCode::FAILURE
        }
    }
}

fn page(out: &Path) -> Result<Bundle, Failure> {
    if env::var_os("CARGO_FEATURE_PAGE").is_none() {
        return Err(Failure::Left);
    }
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|error| Failure::Broken(format!("page/{path}: {error}")))
    };
    let wanted: BTreeMap<String, String> = serde_json::from_str(&read("modules.json")?)
        .map_err(|error| Failure::Broken(format!("page/modules.json: {error}")))?;
    texts::check(Path::new("web")).map_err(Failure::Broken)?;
    let mut modules = BTreeMap::new();
    if !wanted.is_empty() {
        let directory = match env::var_os(MODULES_DIR).filter(|directory| !directory.is_empty()) {
            Some(directory) => PathBuf::from(directory),
            None => npm::install(Path::new("."), out).map_err(Failure::Missing)?,
        };
        for (name, path) in wanted {
            let place = directory.join(&path);
            let bytes = fs::read(&place)
                .map_err(|error| Failure::Broken(format!("{name}: {}: {error}", place.display())))?;
            modules.insert(name, (path, bytes));
        }
    }
    bundle::bundle(Path::new("web"), modules).map_err(Failure::Broken)
}
