//! Comments are in plain words, and within the line length: rule 7 of CONTRIBUTING.md, over all sources.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::path::{Path, PathBuf};

/// Where sources lie.
const FOLDERS: [&str; 10] = [
    "api",
    "benches",
    "exec-helper",
    "frontend-daemon",
    "fuzz",
    "page",
    "proto",
    "python",
    "systemd",
    "tests",
];
/// Persons for mechanisms, and a word that has a plain one.
const BANNED: [&str; 5] = ["nobody", "somebody", "whoever", "anybody", "anew"];
/// Names that were given up for the field's own. The words of CONTRIBUTING.md have what they are called now.
const RETIRED: [&str; 20] = [
    "Asked",
    "Census",
    "Choices",
    "Complaint",
    "Dice",
    "Elsewhere",
    "Gone",
    "Happening",
    "Helpers",
    "Keeper",
    "LoneHelper",
    "Mistake",
    "NotUnderstood",
    "OneDescriptor",
    "Outgoing",
    "Places",
    "Room",
    "Scene",
    "TheHelper",
    "Wrong",
];
/// As `rustfmt.toml` has it for code.
const WIDTH: usize = 110;

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_made =
            ["target", "corpus", "artifacts", "build", "__pycache__", "node_modules"].contains(&name);
        if path.is_dir() && !is_made && !name.starts_with('.') {
            collect(&path, files);
        } else if ["rs", "py", "sh", "service", "socket", "slice", "target"]
            .iter()
            .any(|known| path.extension().is_some_and(|extension| extension == *known))
        {
            files.push(path);
        }
    }
}

/// All sources, by their paths from the root.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files);
    }
    assert!(files.len() > 200, "the sources are where they were");
    let with_text = |file: PathBuf| {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        (name, fs::read_to_string(file).unwrap())
    };
    files.into_iter().map(with_text).collect()
}

fn is_rust(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "rs")
}

/// The lines that are comments, with their numbers.
fn comments<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(move |(_, line)| line.trim_start().starts_with(mark))
}

/// The banned words of a comment. Between backticks stand names.
fn banned(line: &str) -> Vec<&'static str> {
    let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
    let words: Vec<&str> = plain.split(|c: char| !c.is_alphanumeric()).collect();
    BANNED.into_iter().filter(|word| words.contains(word)).collect()
}

#[test]
fn comments_are_in_plain_words_and_within_the_line_length() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let is_rust = is_rust(&name);
        for (number, line) in comments(&text, if is_rust { "//" } else { "#" }) {
            let words = banned(line);
            if !words.is_empty() {
                wrong.push(format!("{name}:{number}: {}", words.join(", ")));
            }
            // A link or a table cannot be broken.
            let can_break = !line.contains("http") && !line.contains('|');
            if is_rust && can_break && line.chars().count() > WIDTH {
                wrong.push(format!("{name}:{number}: longer than {WIDTH} columns"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} comments:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn code_has_the_fields_names_for_things() {
    let mut wrong = Vec::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| is_rust(name)) {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        // Texts are not names.
        let names =
            code.flat_map(|line| line.split("//").take(1)).flat_map(|line| line.split('"').step_by(2));
        let names = names.collect::<Vec<_>>().join(" ");
        let names: Vec<&str> = names.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let found = RETIRED.into_iter().filter(|retired| names.contains(retired));
        wrong.extend(found.map(|retired| format!("{name}: {retired}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_name_between_backticks_is_no_word() {
    assert_eq!(banned("// the account `nobody`, for example"), [""; 0]);
    assert_eq!(banned("// Nobody reads it anew."), ["nobody", "anew"]);
    assert_eq!(banned("// newcomers"), [""; 0]);
}
