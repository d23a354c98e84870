//! The format of a runner file: TOML in, a checked `Runner` or one error with its line and field out.

use std::ops::RangeInclusive;

use toml_span::{
    Span, Value,
    value::{Table, ValueInner},
};

use further_link_proto::RunnerId;

use crate::words::Word;

/// Longest text of a field in bytes, and of one word of a command line.
const MAX_TEXT: usize = 1000;
/// Longest title in characters: a list shows it.
const MAX_TITLE: usize = 40;
/// Longest program, input or output of a test in bytes.
const MAX_TEST_TEXT: usize = 16 * 1024;
/// Most values of a list.
const MAX_LIST: usize = 100;
/// Seconds that a compiler has if the file does not say.
const COMPILE_SECONDS: u32 = 60;
/// Bounds of the compiler's seconds.
const COMPILE_RANGE: RangeInclusive<u32> = 1..=600;
/// Bounds of the seconds of a run: a week.
const SECONDS_RANGE: RangeInclusive<u32> = 1..=604_800;
/// Bounds of the memory of a run in MiB. Below it no interpreter starts.
const MEMORY_RANGE: RangeInclusive<u32> = 16..=1_048_576;
/// Bounds of the processes of a run.
const PROCESSES_RANGE: RangeInclusive<u32> = 1..=32_768;
/// What stands for a random number in the name of the program's file.
const NUMBER: &str = "{number}";

/// A language, or a kind of program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// The name that clients use.
    pub id: String,
    /// The name that people read.
    pub title: String,
    /// Not to be offered: an administrator's file takes out the package's.
    pub is_disabled: bool,
    /// Endings of file names, without a dot.
    pub extensions: Vec<String>,
    /// Names of programs in a first line (`#!`).
    pub interpreters: Vec<String>,
    /// The file for program text. None if there is no program file.
    pub entry: Option<Entry>,
    /// Programs that must be installed.
    pub requires: Vec<String>,
    /// What to install.
    pub hint: Option<String>,
    /// The stage before.
    pub compile: Option<Compile>,
    /// The command line.
    pub run: Vec<Word>,
    /// Environments of packages that a project can have.
    pub venv: Option<Venv>,
    /// What a run may use.
    pub limits: Limits,
    /// The command line that tells the version.
    pub version: Option<Vec<String>>,
    /// How to see that it works.
    pub tests: Vec<Test>,
}

/// The name of the file for program text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry(String);

/// The stage before the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compile {
    /// The command line.
    pub argv: Vec<Word>,
    /// How long it may take.
    pub seconds: u32,
    /// What it makes may be used again, as long as the files are the same that it has listed.
    pub cache: bool,
}

/// What a run may use, its compiler not counted. None: as much as the service gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How long it may take.
    pub seconds: Option<u32>,
    /// Memory in MiB.
    pub memory: Option<u32>,
    /// Processes at once, and threads, which are processes to the kernel.
    pub processes: Option<u32>,
}

/// How a project gets packages of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Venv {
    /// Its name in the project's folder.
    pub folder: String,
    /// The command line that makes it.
    pub make: Vec<Word>,
    /// The command line that installs packages into it.
    pub install: Vec<Word>,
}

/// A program, and what it has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// What it is about.
    pub name: String,
    /// The program text; a shell has none.
    pub code: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its input.
    pub stdin: String,
    /// Its whole output.
    pub stdout: Option<String>,
    /// A part of its errors.
    pub stderr: Option<String>,
    /// Its exit code.
    pub exit: u8,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {field}{text}")]
pub struct FileError {
    /// Counted from one.
    pub line: usize,
    /// Which field, with a colon and a space; empty if it is about none.
    field: String,
    text: String,
}

impl Entry {
    /// The name with this number.
    pub fn name(&self, number: u32) -> String {
        self.0.replace(NUMBER, &number.to_string())
    }

    /// Whether each run has another name: then the file can lie among the user's own.
    pub fn is_numbered(&self) -> bool {
        self.0.contains(NUMBER)
    }
}

/// Reads the text of the file of this id.
pub fn parse(text: &str, id: &str) -> Result<Runner, FileError> {
    let mut document = toml_span::parse(text).map_err(|error| FileError {
        line: line_of(text, error.span),
        field: String::new(),
        text: error.to_string(),
    })?;
    let ValueInner::Table(table) = document.take() else { return Err(Place::top(text).error("not a table")) };
    let mut fields = Fields { table, place: Place::top(text) };
    let own = fields.take("id").map(|field| field.text(MAX_TEXT)).transpose()?;
    if own.as_deref().is_none_or(|own| own != id) {
        let text = format!("has to be the file's name without .toml: {id:?}");
        return Err(fields.place.of("id").error(&text));
    }
    if !RunnerId::is_id(id) {
        let text = "has at most 32 of a-z, 0-9, '+', '-', '_' and '.', and begins with one of a-z and 0-9";
        return Err(fields.place.of("id").error(text));
    }
    let is_disabled = fields.take("disabled").map(Field::flag).transpose()?.unwrap_or(false);
    let title = fields.take("title").map(Field::title).transpose()?;
    let extensions = fields.list("extensions", Field::extension)?;
    let interpreters = fields.list("interpreters", Field::program)?;
    let entry = fields.take("entry").map(Field::entry).transpose()?;
    let requires = fields.list("requires", Field::program)?;
    let hint = fields.take("hint").map(|field| field.text(MAX_TEXT)).transpose()?;
    let compile = fields.take("compile").map(|field| field.compile(entry.is_some())).transpose()?;
    let run = fields.take("run").map(|field| field.run(entry.is_some(), compile.is_some())).transpose()?;
    let venv = fields.take("venv").map(Field::venv).transpose()?;
    let limits = fields.take("limits").map(Field::limits).transpose()?.unwrap_or_default();
    let version = fields.take("version").map(Field::version).transpose()?;
    let tests = fields.list("test", Field::test)?;
    let place = fields.finish()?;
    let run = match run {
        Some(run) => run,
        None if is_disabled => Vec::new(),
        None => return Err(place.of("run").error("is missing: [run] argv says what to execute")),
    };
    let title = match title {
        Some(title) => title,
        None if is_disabled => id.to_owned(),
        None => return Err(place.of("title").error("is missing: the name that people read")),
    };
    let id = id.to_owned();
    let runner = Runner {
        id,
        title,
        is_disabled,
        extensions,
        interpreters,
        entry,
        requires,
        hint,
        compile,
        run,
        venv,
        limits,
        version,
        tests,
    };
    Ok(runner)
}

/// The same without its tests, which a start does not need: they are most of a file, and of the time to read
/// it. Whatever is wrong is found in the whole text.
pub(crate) fn parse_for_start(text: &str, id: &str) -> Result<Runner, FileError> {
    before_tests(text).and_then(|head| parse(head, id).ok()).map_or_else(|| parse(text, id), Ok)
}

/// What stands before the tests, if nothing that could be another table follows the first. Where that line is
/// part of a text or a list, what is before it is no TOML.
fn before_tests(text: &str) -> Option<&str> {
    let (mut first, mut at) = (None, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "[[test]]" {
            first = first.or(Some(at));
        } else if first.is_some() && line.trim_start().starts_with('[') {
            return None;
        }
        at += line.len();
    }
    text.get(..first?)
}

/// Where something stands: its line, and the name of its field.
#[derive(Clone)]
struct Place<'a> {
    text: &'a str,
    at: Span,
    field: String,
}

impl<'a> Place<'a> {
    fn top(text: &'a str) -> Self {
        Self { text, at: Span { start: 0, end: 0 }, field: String::new() }
    }

    /// A field below it, which is not there.
    fn of(&self, name: &str) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        Self { field: format!("{}{dot}{name}", self.field), ..self.clone() }
    }

    fn error(&self, text: &str) -> FileError {
        let field = if self.field.is_empty() { String::new() } else { format!("{}: ", self.field) };
        FileError { line: line_of(self.text, self.at), field, text: text.to_owned() }
    }
}

fn line_of(text: &str, at: Span) -> usize {
    text.bytes().take(at.start).filter(|byte| *byte == b'\n').count() + 1
}

/// The fields of a table that were not read yet.
struct Fields<'a, 'de> {
    table: Table<'de>,
    place: Place<'a>,
}

impl<'a, 'de> Fields<'a, 'de> {
    fn take(&mut self, name: &str) -> Option<Field<'a, 'de>> {
        let place = self.place.of(name);
        self.table
            .remove_entry(name)
            .map(|(key, value)| Field { place: Place { at: key.span, ..place }, value })
    }

    fn list<T>(
        &mut self,
        name: &str,
        read: impl Fn(Field<'a, 'de>) -> Result<T, FileError>,
    ) -> Result<Vec<T>, FileError> {
        let Some(field) = self.take(name) else { return Ok(Vec::new()) };
        field.list()?.into_iter().map(read).collect()
    }

    /// There are no others.
    fn finish(self) -> Result<Place<'a>, FileError> {
        match self.table.into_iter().next() {
            None => Ok(self.place),
            Some((key, _)) => {
                let place = Place { at: key.span, ..self.place.of(&key.name) };
                Err(place.error("is not a field of a runner file; see further-link-runners(5)"))
            }
        }
    }
}

/// A field and its value.
struct Field<'a, 'de> {
    place: Place<'a>,
    value: Value<'de>,
}

impl<'a, 'de> Field<'a, 'de> {
    fn text(mut self, most: usize) -> Result<String, FileError> {
        match self.value.take() {
            ValueInner::String(text) if text.contains('\0') => Err(self.place.error("has a NUL in it")),
            ValueInner::String(text) if text.len() > most => {
                Err(self.place.error(&format!("is longer than {most} bytes")))
            }
            ValueInner::String(text) => Ok(text.into_owned()),
            _ => Err(self.place.error("has to be a text in quotes")),
        }
    }

    fn flag(mut self) -> Result<bool, FileError> {
        match self.value.take() {
            ValueInner::Boolean(flag) => Ok(flag),
            _ => Err(self.place.error("has to be true or false")),
        }
    }

    fn number(mut self, range: &RangeInclusive<u32>) -> Result<u32, FileError> {
        let number = match self.value.take() {
            ValueInner::Integer(number) => u32::try_from(number).ok().filter(|number| range.contains(number)),
            _ => None,
        };
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| self.place.error(&format!("has to be a whole number from {least} to {most}")))
    }

    /// The values, each with the place of its own.
    fn list(mut self) -> Result<Vec<Self>, FileError> {
        let ValueInner::Array(values) = self.value.take() else {
            return Err(self.place.error("has to be a list in square brackets"));
        };
        if values.len() > MAX_LIST {
            return Err(self.place.error(&format!("has more than {MAX_LIST} values")));
        }
        let place = |value: &Value<'_>| Place { at: value.span, ..self.place.clone() };
        Ok(values.into_iter().map(|value| Self { place: place(&value), value }).collect())
    }

    fn fields(mut self) -> Result<Fields<'a, 'de>, FileError> {
        match self.value.take() {
            ValueInner::Table(table) => Ok(Fields { table, place: self.place }),
            _ => Err(self.place.error("has to be a table")),
        }
    }

    fn checked(self, is_right: impl FnOnce(&str) -> bool, otherwise: &str) -> Result<String, FileError> {
        let place = self.place.clone();
        let text = self.text(MAX_TEXT)?;
        if is_right(&text) { Ok(text) } else { Err(place.error(otherwise)) }
    }

    fn title(self) -> Result<String, FileError> {
        self.checked(
            |title| (1..=MAX_TITLE).contains(&title.chars().count()) && !title.chars().any(char::is_control),
            &format!("has 1 to {MAX_TITLE} characters"),
        )
    }

    fn extension(self) -> Result<String, FileError> {
        let is_right = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'/'))
                && !text.bytes().any(|byte| byte.is_ascii_uppercase())
        };
        self.checked(is_right, "has to be the end of a file name in small letters, without the dot")
    }

    fn program(self) -> Result<String, FileError> {
        let is_right =
            |text: &str| !text.is_empty() && !text.contains('/') && !text.contains(char::is_whitespace);
        self.checked(is_right, "has to be the name of a program that is looked for in PATH")
    }

    fn entry(self) -> Result<Entry, FileError> {
        let is_right = |text: &str| {
            let plain = text.replacen(NUMBER, "7", 1);
            !plain.is_empty()
                && plain.len() <= 64
                && !plain.starts_with('.')
                && !plain.contains(['/', '{', '}'])
        };
        self.checked(is_right, "has to be a file name; {number} stands for a random number").map(Entry)
    }

    /// A command line with its placeholders.
    fn words(self) -> Result<Vec<(Place<'a>, Word)>, FileError> {
        let place = self.place.clone();
        let words = self.list()?.into_iter().map(|field| {
            let place = field.place.clone();
            let text = field.text(MAX_TEXT)?;
            let word = Word::new(&text).ok_or_else(|| {
                let whole =
                    "a placeholder is a word of its own: {file}, {dir}, {out}, {deps}, {args}, {shell}, {venv}";
                place.error(&format!("{text:?} is not a placeholder; {whole}"))
            });
            Ok((place, word?))
        });
        let words = words.collect::<Result<Vec<_>, _>>()?;
        match words.first() {
            None => Err(place.error("names no program")),
            Some((place, Word::Args | Word::Dir)) => Err(place.error("begins with the program to execute")),
            Some((place, Word::Text(text))) if text.is_empty() => Err(place.error("names no program")),
            Some((place, Word::Text(text))) if text.contains('/') && !text.starts_with('/') => {
                Err(place.error(&format!("{text:?} is neither a name for PATH nor an absolute path")))
            }
            Some(_) => Ok(words),
        }
    }

    fn compile(self, has_file: bool) -> Result<Compile, FileError> {
        let mut fields = self.fields()?;
        let argv = fields.take("argv").map(Self::words).transpose()?;
        let seconds = fields.take("seconds").map(|field| field.number(&COMPILE_RANGE)).transpose()?;
        let cache = fields.take("cache").map(Field::flag).transpose()?.unwrap_or(false);
        let place = fields.finish()?;
        let argv = argv.ok_or_else(|| place.of("argv").error("is missing"))?;
        let wrong = argv.iter().find(|(_, word)| matches!(word, Word::Args | Word::Shell | Word::Venv));
        if let Some((place, _)) = wrong {
            return Err(place.error("a compiler gets neither {args} nor {shell} nor {venv}"));
        }
        Ok(Compile { argv: with_file(argv, has_file)?, seconds: seconds.unwrap_or(COMPILE_SECONDS), cache })
    }

    fn run(self, has_file: bool, is_compiled: bool) -> Result<Vec<Word>, FileError> {
        let mut fields = self.fields()?;
        let argv = fields.take("argv").map(Self::words).transpose()?;
        let place = fields.finish()?;
        let argv = argv.ok_or_else(|| place.of("argv").error("is missing"))?;
        if let Some((place, _)) = argv.iter().find(|(_, word)| !is_compiled && *word == Word::Out) {
            return Err(place.error("{out} needs a [compile], which makes it"));
        }
        if let Some((place, _)) = argv.iter().find(|(_, word)| *word == Word::Deps) {
            return Err(place.error("{deps} is known in [compile] only"));
        }
        with_file(argv, has_file)
    }

    fn venv(self) -> Result<Venv, FileError> {
        let mut fields = self.fields()?;
        let folder = fields.take("folder").map(Self::folder).transpose()?;
        let make = fields.take("make").map(Self::words).transpose()?;
        let install = fields.take("install").map(Self::words).transpose()?;
        let place = fields.finish()?;
        let missing = |name| place.of(name).error("is missing");
        let folder = folder.ok_or_else(|| missing("folder"))?;
        let make = make.ok_or_else(|| missing("make"))?;
        let install = install.ok_or_else(|| missing("install"))?;
        let words = |argv: Vec<(Place<'_>, Word)>| {
            let is_wrong = |word: &Word| !matches!(word, Word::Text(_) | Word::Venv | Word::Args);
            match argv.iter().find(|(_, word)| is_wrong(word)) {
                Some((place, _)) => Err(place.error("only {venv} and {args} are known here")),
                None => Ok(argv.into_iter().map(|(_, word)| word).collect()),
            }
        };
        Ok(Venv { folder, make: words(make)?, install: words(install)? })
    }

    fn limits(self) -> Result<Limits, FileError> {
        let mut fields = self.fields()?;
        let mut limit = |name, range| fields.take(name).map(|field| field.number(range)).transpose();
        let limits = Limits {
            seconds: limit("seconds", &SECONDS_RANGE)?,
            memory: limit("memory", &MEMORY_RANGE)?,
            processes: limit("processes", &PROCESSES_RANGE)?,
        };
        fields.finish()?;
        Ok(limits)
    }

    fn folder(self) -> Result<String, FileError> {
        let is_right = |text: &str| !matches!(text, "" | "." | "..") && !text.contains('/');
        self.checked(is_right, "has to be the name of a folder")
    }

    fn version(self) -> Result<Vec<String>, FileError> {
        let mut fields = self.fields()?;
        let argv = fields.take("argv").map(Self::words).transpose()?;
        let place = fields.finish()?;
        let argv = argv.ok_or_else(|| place.of("argv").error("is missing"))?;
        let words = argv.into_iter().map(|(place, word)| match word {
            Word::Text(text) => Ok(text),
            _ => Err(place.error("there is no program to name with a placeholder")),
        });
        words.collect()
    }

    fn test(self) -> Result<Test, FileError> {
        let mut fields = self.fields()?;
        let mut text = |name| fields.take(name).map(|field| field.text(MAX_TEST_TEXT)).transpose();
        let (name, code, stdin) = (text("name")?, text("code")?, text("stdin")?);
        let (stdout, stderr) = (text("stdout")?, text("stderr")?);
        let args = fields.list("args", |field| field.text(MAX_TEXT))?;
        let exit = fields.take("exit").map(|field| field.number(&(0..=255))).transpose()?;
        let place = fields.finish()?;
        Ok(Test {
            name: name.ok_or_else(|| place.of("name").error("is missing"))?,
            code: code.unwrap_or_default(),
            args,
            stdin: stdin.unwrap_or_default(),
            stdout,
            stderr,
            exit: exit.and_then(|exit| u8::try_from(exit).ok()).unwrap_or_default(),
        })
    }
}

/// The words, if what they name can be there.
fn with_file(argv: Vec<(Place<'_>, Word)>, has_file: bool) -> Result<Vec<Word>, FileError> {
    if let Some((place, _)) = argv.iter().find(|(_, word)| *word == Word::Venv) {
        return Err(place.error("{venv} is known in [venv] only"));
    }
    let wrong = argv.iter().find(|(_, word)| !has_file && matches!(word, Word::File | Word::Dir));
    if let Some((place, _)) = wrong {
        return Err(place.error("needs a field entry: the name of the file for program text"));
    }
    Ok(argv.into_iter().map(|(_, word)| word).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: &str = r#"
id = "c"
title = "C"
extensions = ["c"]
entry = "{number}.c"
requires = ["gcc"]
hint = "sudo apt install gcc"

[compile]
argv = ["gcc", "-o", "{out}", "{file}"]

[run]
argv = ["{out}", "{args}"]

[[test]]
name = "hello"
code = 'int main() {}'
stdout = "hi\n"
"#;

    fn with(old: &str, new: &str) -> String {
        assert!(C.contains(old), "{old}");
        parse(&C.replacen(old, new, 1), "c").map_or_else(|error| error.to_string(), |_| "right".to_owned())
    }

    #[test]
    fn a_file_says_what_to_run() {
        let runner = parse(C, "c").unwrap();
        assert_eq!((runner.title.as_str(), runner.requires.as_slice()), ("C", &["gcc".to_owned()][..]));
        assert_eq!(runner.run, [Word::Out, Word::Args]);
        let compile = runner.compile.unwrap();
        assert_eq!((compile.argv.len(), compile.seconds), (4, 60));
        assert_eq!(runner.entry.map(|entry| entry.name(12)).as_deref(), Some("12.c"));
        assert_eq!(runner.tests.first().unwrap().stdout.as_deref(), Some("hi\n"));
    }

    #[test]
    fn a_start_reads_all_but_the_tests() {
        let whole = parse(C, "c").unwrap();
        let started = parse_for_start(C, "c").unwrap();
        assert_eq!(started, Runner { tests: Vec::new(), ..whole });
        let behind = format!("{C}[limits]\nseconds = 7\n");
        assert_eq!(
            parse_for_start(&behind, "c").unwrap().limits.seconds,
            Some(7),
            "a table behind the tests"
        );
        let spaced = format!("{C}  [ limits ]\nseconds = 7\n");
        assert_eq!(parse_for_start(&spaced, "c").unwrap().limits.seconds, Some(7), "{spaced}");
        let quoted = C.replace("hint = \"sudo apt install gcc\"", "hint = '''\n[[test]]\n'''");
        assert_eq!(parse_for_start(&quoted, "c"), parse(&quoted, "c"), "no test begins in a text");
        let wrong = C.replace("title = \"C\"", "title = 7");
        assert_eq!(parse_for_start(&wrong, "c"), parse(&wrong, "c"));
    }

    #[test]
    fn an_error_names_line_and_field() {
        for (old, new, error) in [
            (r#"id = "c""#, r#"id = "d""#, "line 1: id: has to be the file's name without .toml: \"c\""),
            (r#"title = "C""#, "title = 7", "line 3: title: has to be a text in quotes"),
            (r#"title = "C""#, "", "line 1: title: is missing"),
            (r#"["c"]"#, r#"[".c"]"#, "line 4: extensions: has to be the end of a file name"),
            (r#"["c"]"#, r#""c""#, "line 4: extensions: has to be a list"),
            ("{number}.c", "../c", "line 5: entry: has to be a file name"),
            (r#"["gcc"]"#, r#"["/bin/gcc"]"#, "line 6: requires: has to be the name of a program"),
            (r#""{file}"]"#, r#""-I{dir}"]"#, "line 10: compile.argv: \"-I{dir}\" is not a placeholder"),
            (r#""{file}"]"#, r#""{files}"]"#, "line 10: compile.argv: \"{files}\" is not a placeholder"),
            (
                r#"["{out}", "{args}"]"#,
                r#"["{out}", "{deps}"]"#,
                "line 13: run.argv: {deps} is known in [compile]",
            ),
            (r#""{file}"]"#, r#""{args}"]"#, "line 10: compile.argv: a compiler gets neither"),
            (r#"["gcc", "-o""#, r#"["bin/gcc", "-o""#, "line 10: compile.argv: \"bin/gcc\" is neither"),
            (r#"["{out}", "{args}"]"#, "[]", "line 13: run.argv: names no program"),
            (r#"["{out}", "{args}"]"#, r#"["{args}"]"#, "line 13: run.argv: begins with the program"),
            ("hint =", "hints =", "line 7: hints: is not a field of a runner file"),
            ("[run]\nargv = [\"{out}\", \"{args}\"]", "", "line 1: run: is missing"),
            ("[[test]]\nname", "[[test]]\nnames", "line 16: test.names: is not a field"),
            (
                "[[test]]",
                "[limits]\nseconds = 0\n[[test]]",
                "line 16: limits.seconds: has to be a whole number",
            ),
            (
                "[[test]]",
                "[limits]\nmemory = \"1G\"\n[[test]]",
                "line 16: limits.memory: has to be a whole number",
            ),
            ("[[test]]", "[limits]\ncpu = 1\n[[test]]", "line 16: limits.cpu: is not a field"),
            ("[run]", "[run", "line 12: "),
            (
                "entry = \"{number}.c\"
",
                "",
                "line 9: compile.argv: needs a field entry",
            ),
        ] {
            let seen = with(old, new);
            assert!(seen.starts_with(error), "{new}: {seen}");
        }
    }

    #[test]
    fn limits_are_none_unless_they_are_there() {
        assert_eq!(parse(C, "c").unwrap().limits, Limits::default());
        let text = format!("{C}[limits]\nseconds = 60\nmemory = 256\nprocesses = 20\n");
        let limits = Limits { seconds: Some(60), memory: Some(256), processes: Some(20) };
        assert_eq!(parse(&text, "c").unwrap().limits, limits);
    }

    #[test]
    fn what_one_part_needs_another_has() {
        let without_entry = "id = \"x\"\ntitle = \"X\"\n[run]\nargv = [\"x\", \"{file}\"]\n";
        assert!(
            parse(without_entry, "x")
                .unwrap_err()
                .to_string()
                .contains("line 4: run.argv: needs a field entry")
        );
        let without_compile = "id = \"x\"\ntitle = \"X\"\nentry = \"x\"\n[run]\nargv = [\"{out}\"]\n";
        assert!(parse(without_compile, "x").unwrap_err().to_string().contains("{out} needs a [compile]"));
        let disabled = parse("id = \"x\"\ndisabled = true\n", "x").unwrap();
        assert!(disabled.is_disabled);
        assert!(
            parse("id = \"../x\"\ntitle = \"X\"\n", "../x")
                .unwrap_err()
                .to_string()
                .contains("id: has at most")
        );
    }
}
