//! The texts of the page: each catalogue has the same keys, and every key that a module names is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::bundle::{extension, files};

/// The catalogue that the others follow.
const FIRST: &str = "en.json";

/// Compares the catalogues in `texts`, and the modules with them. What is wrong is the error.
pub(crate) fn check(web: &Path) -> Result<(), String> {
    let mut catalogues = BTreeMap::new();
    let directory = web.join("texts");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let texts: BTreeMap<String, String> =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        catalogues.insert(name, texts);
    }
    let first = catalogues.get(FIRST).ok_or_else(|| format!("{FIRST} is not in {}", directory.display()))?;
    for (name, texts) in &catalogues {
        compare(first, name, texts)?;
    }
    for (path, bytes) in files(web)? {
        let source = String::from_utf8_lossy(&bytes);
        if extension(&path) != "js" {
            continue;
        }
        if let Some(key) = keys(&source).into_iter().find(|key| !first.contains_key(*key)) {
            return Err(format!("{path}: the text {key:?} is not in texts/{FIRST}"));
        }
    }
    Ok(())
}

fn compare(
    first: &BTreeMap<String, String>,
    name: &str,
    texts: &BTreeMap<String, String>,
) -> Result<(), String> {
    if let Some(key) = first.keys().find(|key| texts.get(*key).is_none_or(|text| text.trim().is_empty())) {
        return Err(format!("texts/{name}: the text {key:?} is missing"));
    }
    if let Some(key) = texts.keys().find(|key| !first.contains_key(*key)) {
        return Err(format!("texts/{name}: the text {key:?} is not in {FIRST}"));
    }
    Ok(())
}

/// The keys of calls `t("key")`.
fn keys(source: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (at, call) in source.match_indices("t(") {
        let before = source.get(..at).and_then(|before| before.chars().next_back());
        let is_name = before.is_some_and(|c| c.is_alphanumeric() || "_$.".contains(c));
        let argument = source.get(at + call.len()..).unwrap_or_default().trim_start();
        let quoted = argument.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        if let (false, Some((key, _))) = (is_name, quoted) {
            found.insert(key);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_t_name_keys_and_other_calls_do_not() {
        let source = "t(\"a\") + x.t(\"no\") + set(\"no\") + t(name) + (t( \"b.c\", { n }))";
        assert_eq!(keys(source), ["a", "b.c"].into());
    }

    #[test]
    fn the_catalogues_of_the_page_agree() {
        assert_eq!(check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("web")), Ok(()));
    }

    #[test]
    fn a_missing_an_empty_and_an_unknown_text_are_errors() {
        let texts = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
        };
        let first = texts(&[("run", "Run"), ("stop", "Stop")]);
        assert_eq!(compare(&first, "de.json", &texts(&[("run", "Start"), ("stop", "Halt")])), Ok(()));
        for other in [
            texts(&[("run", "Start")]),
            texts(&[("run", "Start"), ("stop", " ")]),
            texts(&[("run", "Start"), ("stop", "Halt"), ("pause", "Pause")]),
        ] {
            assert!(compare(&first, "de.json", &other).is_err(), "{other:?}");
        }
    }
}
