//! The layers of a crate, as the table in its `lib.rs` has them: a module uses layers above its own in the
//! table only, and no file uses itself by way of others.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests panic to fail"
)]

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

/// The crates with such a table, and the least number of files that each has.
const CRATES: [(&str, usize); 2] = [("exec-helper", 20), ("frontend-daemon", 40)];

/// A source file, as a path of modules, and what it imports of its crate.
struct Module {
    path: Vec<String>,
    imports: Vec<Vec<String>>,
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src")
}

/// The layer of each module, counted from the top of the table, where the ground is.
fn layers(lib: &str) -> HashMap<String, usize> {
    let rows = lib.lines().filter(|line| line.starts_with("//! |")).skip(2).enumerate();
    rows.flat_map(|(layer, row)| {
        row.split('`').skip(1).step_by(2).map(move |module| (module.to_owned(), layer)).collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn no_module_imports_from_its_own_layer_or_one_below() {
    for (name, least) in CRATES {
        let source = source(name);
        let layers = layers(&fs::read_to_string(source.join("lib.rs")).unwrap());
        let modules = modules(&source);
        assert!(modules.len() >= least, "the sources of {name} are where they were");
        for module in modules {
            let own = &module.path[0];
            let layer = *layers.get(own).unwrap_or_else(|| panic!("{name}: {own} has no layer"));
            for import in &module.imports {
                // A name that `lib.rs` exports is below all.
                let other = layers.get(&import[0]).copied().unwrap_or(layers.len());
                assert!(
                    import[0] == *own || other < layer,
                    "{name}: {:?} imports {}",
                    module.path,
                    import.join("::")
                );
            }
        }
    }
}

#[test]
fn no_file_imports_itself_by_way_of_others() {
    for (name, _) in CRATES {
        let modules = modules(&source(name));
        let names: Vec<String> = modules.iter().map(|module| module.path.join("::")).collect();
        let arrows: BTreeMap<&String, Vec<String>> = names
            .iter()
            .zip(&modules)
            .map(|(name, module)| {
                let files = module.imports.iter().filter_map(|import| file_of(import, &names));
                (name, files.filter(|file| file != name).collect())
            })
            .collect();
        for start in &names {
            let mut reached: Vec<&String> = arrows[start].iter().collect();
            let mut next = 0;
            while let Some(file) = reached.get(next).copied() {
                assert_ne!(file, start, "{name}: a circle: {reached:?}");
                let more: Vec<&String> = arrows[file].iter().filter(|file| !reached.contains(file)).collect();
                reached.extend(more);
                next += 1;
            }
        }
    }
}

/// The longest beginning of an import that is a file.
fn file_of(import: &[String], names: &[String]) -> Option<String> {
    (1..=import.len()).rev().map(|length| import[..length].join("::")).find(|path| names.contains(path))
}

fn modules(root: &Path) -> Vec<Module> {
    let mut files = Vec::new();
    collect(root, &mut files);
    let is_product = |file: &PathBuf| {
        let name = file.file_stem().unwrap_or_default();
        name != "tests" && name != "lib" && name != "main"
    };
    files.retain(is_product);
    files.iter().map(|file| module(root, file)).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn module(root: &Path, file: &Path) -> Module {
    let path = file.strip_prefix(root).unwrap().with_extension("");
    let mut path: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    path.pop_if(|last| last == "mod");
    let source = fs::read_to_string(file).unwrap();
    let product = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let imports = product.match_indices("crate::").filter(|(at, _)| !is_in_comment(product, *at));
    let imports = imports.flat_map(|(at, found)| expand(&product[at + found.len()..])).collect();
    Module { path, imports }
}

fn is_in_comment(source: &str, at: usize) -> bool {
    let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
    source[line..at].trim_start().starts_with("//")
}

/// The paths of `a::b`, or of `{a::b, c::{d, e}}`.
fn expand(text: &str) -> Vec<Vec<String>> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let rest = &text[name.len()..];
    if let Some(rest) = rest.strip_prefix("::") {
        let mut paths = expand(rest);
        for path in &mut paths {
            path.insert(0, name.clone());
        }
        return paths;
    }
    match text.strip_prefix('{') {
        Some(list) => parts(list).into_iter().flat_map(|part| expand(part.trim())).collect(),
        None => vec![vec![name]],
    }
}

/// What stands between the commas of a list, up to its closing brace.
fn parts(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[test]
fn nested_imports_are_read() {
    let read: Vec<String> =
        expand("{a::{self, b::C},\n  d::E,\n};").iter().map(|path| path.join("::")).collect();
    assert_eq!(read, ["a::self", "a::b::C", "d::E"]);
}
