//! The layers of this crate, and the test that holds them against the imports of the source files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Lowest first. A module imports only from rows above its own, never from another module of its own row.
const LAYERS: [&[&str]; 9] = [
    &["config", "device", "files", "lifecycle", "log", "reply"],
    &["memory", "access", "tls"],
    &["helper", "outbox"],
    &["process", "upload"],
    &["session"],
    &["http", "cli"],
    &["daemon"],
    &["fuzzing"],
    &["lib"],
];

/// A source file, as a path of modules, and what it imports of this crate.
struct Module {
    path: Vec<String>,
    imports: Vec<Vec<String>>,
}

#[test]
fn no_module_imports_from_its_own_row_or_one_above() {
    let layer = |name: &str| LAYERS.iter().position(|row| row.contains(&name));
    for module in modules() {
        let name = &module.path[0];
        let own = layer(name).unwrap_or_else(|| panic!("{name} has no layer"));
        for import in &module.imports {
            // A name that `lib.rs` exports is above all.
            let other = layer(&import[0]).unwrap_or(LAYERS.len());
            assert!(import[0] == *name || other < own, "{:?} imports {}", module.path, import.join("::"));
        }
    }
}

#[test]
fn no_file_imports_itself_by_way_of_others() {
    let modules = modules();
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
            assert_ne!(file, start, "a circle: {reached:?}");
            let more: Vec<&String> = arrows[file].iter().filter(|file| !reached.contains(file)).collect();
            reached.extend(more);
            next += 1;
        }
    }
}

/// The longest beginning of an import that is a file.
fn file_of(import: &[String], names: &[String]) -> Option<String> {
    (1..=import.len()).rev().map(|length| import[..length].join("::")).find(|path| names.contains(path))
}

fn modules() -> Vec<Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let is_product = |file: &PathBuf| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        !name.ends_with("tests") && name != "layers" && name != "main"
    };
    files.retain(is_product);
    assert!(files.len() > 40, "the sources are where they were");
    files.iter().map(|file| module(&root, file)).collect()
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
