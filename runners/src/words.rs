//! The words of a command line in a runner file, and what stands for the placeholders among them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// As it stands.
    Text(String),
    /// The program's file.
    File,
    /// The folder that it lies in.
    Dir,
    /// What the compiler makes.
    Out,
    /// Where the compiler lists the files that it has read.
    Deps,
    /// The client's arguments, any number of words.
    Args,
    /// The login shell of the user.
    Shell,
    /// The project's environment of packages.
    Venv,
}

/// What the placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The program's file.
    pub file: &'a Path,
    /// What the compiler makes.
    pub out: &'a Path,
    /// Where the compiler lists the files that it has read.
    pub deps: &'a Path,
    /// The client's arguments.
    pub args: &'a [String],
    /// The login shell of the user.
    pub shell: &'a Path,
    /// The project's environment of packages.
    pub venv: &'a Path,
}

impl Word {
    /// The word of a runner file. None for a placeholder that there is not.
    pub(crate) fn new(text: &str) -> Option<Self> {
        Some(match text {
            "{file}" => Self::File,
            "{dir}" => Self::Dir,
            "{out}" => Self::Out,
            "{deps}" => Self::Deps,
            "{args}" => Self::Args,
            "{shell}" => Self::Shell,
            "{venv}" => Self::Venv,
            _ if has_placeholder(text) => return None,
            _ => Self::Text(text.to_owned()),
        })
    }
}

/// Whether there is a name in braces, such as `{files}`. Other braces are text: awk and tcl have them.
fn has_placeholder(text: &str) -> bool {
    let after_brace = text.split('{').skip(1);
    after_brace.filter_map(|rest| rest.split_once('}')).any(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    })
}

/// The command line.
pub fn fill(words: &[Word], values: &Values<'_>) -> Vec<OsString> {
    let mut filled = Vec::with_capacity(words.len() + values.args.len());
    for word in words {
        match word {
            Word::Text(text) => filled.push(text.into()),
            Word::File => filled.push(values.file.into()),
            Word::Dir => filled.push(values.file.parent().map_or_else(PathBuf::new, Path::to_owned).into()),
            Word::Out => filled.push(values.out.into()),
            Word::Deps => filled.push(values.deps.into()),
            Word::Args => filled.extend(values.args.iter().map(OsString::from)),
            Word::Shell => filled.push(values.shell.into()),
            Word::Venv => filled.push(values.venv.into()),
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_whole_words_and_arguments_stay_apart() {
        let words = ["cc", "-o", "{out}", "{deps}", "{file}", "{dir}", "{shell}", "{args}", "{ x }", "{}"];
        let words: Vec<_> = words.into_iter().map(|word| Word::new(word).unwrap()).collect();
        let args = ["a b".to_owned(), "{file}".to_owned(), "$(id)".to_owned()];
        let values = Values {
            file: "/p/a.c".as_ref(),
            out: "/t/o".as_ref(),
            deps: "/t/o.d".as_ref(),
            args: &args,
            shell: "/bin/sh".as_ref(),
            venv: "/p/.venv".as_ref(),
        };
        let expected = [
            "cc", "-o", "/t/o", "/t/o.d", "/p/a.c", "/p", "/bin/sh", "a b", "{file}", "$(id)", "{ x }", "{}",
        ];
        assert_eq!(fill(&words, &values), expected);
        for text in ["{files}", "-o{out}", "{file}.o", "x{dir}", "{a}{b}"] {
            assert_eq!(Word::new(text), None, "{text}");
        }
    }
}
