//! `further-link self-test`: an administrator sees which languages work on this device. The running service
//! runs the tests of the runner files, as it runs what clients send; see `self_test`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use further_link_api::{AdminRequest, TestAnswer};
use unicode_width::UnicodeWidthStr;

use crate::{
    cli::admin_socket::{AdminError, Lines},
    config::{ADMIN_SOCKET, Config},
};

/// A test failed.
const FAILED: u8 = 1;
/// Nothing was tried.
const NOT_TRIED: u8 = 2;
/// Widths of the first columns: a language's longest name, and a test's.
const LANGUAGE: usize = 22;
const TEST: usize = 24;

/// What to test.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print each result as JSON, one in a line.
    #[arg(long)]
    json: bool,
    /// Ids of runners, such as c or python3. Without one: all that there are.
    #[arg(value_name = "ID")]
    runners: Vec<String>,
}

/// Does it.
pub(crate) fn run(options: &Options, config: &Config) -> ExitCode {
    let path = config.admin_socket.as_deref().unwrap_or(Path::new(ADMIN_SOCKET));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return not_tried(&error.into()),
    };
    match runtime.block_on(tests(path, options)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(error) => not_tried(&error),
    }
}

fn not_tried(error: &AdminError) -> ExitCode {
    eprintln!("further-link: {error}");
    ExitCode::from(NOT_TRIED)
}

/// Prints the results as they come. How many tests failed.
async fn tests(path: &Path, options: &Options) -> Result<usize, AdminError> {
    let request = AdminRequest::Test { runners: options.runners.clone() };
    let mut lines = Lines::of(path, &request).await?;
    let mut stdout = io::stdout();
    let mut counts = Counts::default();
    let mut head = Some(format!("{}{}RESULT\n", cell("LANGUAGE", LANGUAGE), cell("TEST", TEST)));
    loop {
        let line = lines.next().await?;
        let answer = serde_json::from_str(&line).map_err(|_| AdminError::Answer)?;
        if let TestAnswer::Error { message } = answer {
            return Err(AdminError::Refused(message));
        }
        if answer == TestAnswer::Done {
            break;
        }
        counts.add(&answer);
        if options.json {
            writeln!(stdout, "{line}")?;
        } else {
            let lines = head.take().unwrap_or_default() + &row(&answer);
            stdout.write_all(lines.as_bytes())?;
        }
    }
    if !options.json {
        write!(stdout, "\n{}", counts.in_words())?;
    }
    Ok(counts.failed)
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    missing: usize,
}

impl Counts {
    fn add(&mut self, answer: &TestAnswer) {
        match answer {
            TestAnswer::Test { wrong: None, .. } => self.passed += 1,
            TestAnswer::Test { .. } => self.failed += 1,
            TestAnswer::Missing { .. } => self.missing += 1,
            TestAnswer::Done | TestAnswer::Error { .. } => {}
        }
    }

    fn in_words(&self) -> String {
        let Self { passed, failed, missing } = self;
        format!("{passed} tests passed, {failed} failed. {missing} languages are not installed.\n")
    }
}

fn row(answer: &TestAnswer) -> String {
    match answer {
        TestAnswer::Test { title, name, wrong: None, ms, .. } => {
            format!("{}{}passed in {ms} ms\n", cell(title, LANGUAGE), cell(name, TEST))
        }
        TestAnswer::Test { title, name, wrong: Some(wrong), .. } => {
            format!("{}{}FAILED: {}\n", cell(title, LANGUAGE), cell(name, TEST), shown(wrong))
        }
        TestAnswer::Missing { title, hint, .. } => {
            let hint = hint.as_deref().unwrap_or("see its runner file");
            format!("{}{}not installed: {}\n", cell(title, LANGUAGE), cell("-", TEST), shown(hint))
        }
        TestAnswer::Done | TestAnswer::Error { .. } => String::new(),
    }
}

fn cell(text: &str, width: usize) -> String {
    let text = shown(text);
    let space = width.saturating_sub(text.width()).max(1);
    text + &" ".repeat(space)
}

/// Without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_result() {
        let test = |wrong: Option<&str>| TestAnswer::Test {
            runner: "c".to_owned(),
            title: "C".to_owned(),
            name: "hello".to_owned(),
            wrong: wrong.map(str::to_owned),
            ms: 12,
        };
        let missing = TestAnswer::Missing {
            runner: "ada".to_owned(),
            title: "Ada".to_owned(),
            hint: Some("sudo apt install gnat".to_owned()),
        };
        let mut counts = Counts::default();
        let rows: Vec<_> = [test(None), test(Some("exit\x1b[31m code 1")), missing]
            .iter()
            .map(|answer| {
                counts.add(answer);
                row(answer)
            })
            .collect();
        let before = |language, test| format!("{language:22}{test:24}");
        assert_eq!(
            rows,
            [
                before("C", "hello") + "passed in 12 ms\n",
                before("C", "hello") + "FAILED: exit[31m code 1\n",
                before("Ada", "-") + "not installed: sudo apt install gnat\n",
            ]
        );
        assert_eq!(counts.in_words(), "1 tests passed, 1 failed. 1 languages are not installed.\n");
    }
}
