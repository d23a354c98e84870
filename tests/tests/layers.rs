//! The layers of a crate, as the table in its `lib.rs` has them: a module uses layers above its own in the table only.

#![expect(clippy::unwrap_used, reason = "tests panic to fail")]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// The layer of each module, counted from the top of the table, where the ground is.
fn layers(lib: &str) -> HashMap<String, usize> {
    let rows = lib.lines().filter(|line| line.starts_with("//! |")).skip(2).enumerate();
    rows.flat_map(|(layer, row)| {
        row.split('`').skip(1).step_by(2).map(move |module| (module.to_owned(), layer)).collect::<Vec<_>>()
    })
    .collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The modules of the crate that a file names, other than in its tests.
fn uses(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.split("crate::").skip(1).flat_map(first_names).collect()
}

/// The first name of each path in `name::…` or `{name::{…}, name, …}`.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = text.strip_prefix('{') else { return vec![name(text)] };
    let mut depth = 1;
    let (mut names, mut start) = (Vec::new(), 0);
    for (at, c) in list.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if (c == ',' && depth == 1) || depth == 0 {
            names.push(name(&list[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn no_module_of_the_helper_uses_a_layer_below_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exec-helper/src");
    let layers = layers(&fs::read_to_string(source.join("lib.rs")).unwrap());
    for file in files(&source) {
        let below = file.strip_prefix(&source).unwrap().with_extension("");
        let module = below.iter().next().unwrap().to_str().unwrap();
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let own = *layers.get(module).unwrap_or_else(|| panic!("{module} is in no layer"));
        for used in uses(&fs::read_to_string(&file).unwrap()) {
            let Some(other) = layers.get(&used) else { continue };
            assert!(used == module || *other < own, "{}: uses {used}, which is below it", file.display());
        }
    }
}

#[test]
fn nested_lists_of_imports_are_read() {
    let text = "use crate::{\n a::{B, c::D},\n e,\n f::G,\n};\nuse crate::h::I;\n#[cfg(test)]\nuse crate::j;";
    assert_eq!(uses(text), ["a", "e", "f", "h"]);
}
