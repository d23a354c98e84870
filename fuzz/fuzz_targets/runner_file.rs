//! A runner file: any text gives a runner or one error with its line. What runs is never an argument of the
//! client, and a command line has the words of the file alone.
#![no_main]

use further_link_runners::{Values, Word, fill, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let id = text.split('"').nth(1).unwrap_or("x");
    let runner = match parse(text, id) {
        Ok(runner) => runner,
        Err(error) => {
            assert!((1..=text.lines().count() + 1).contains(&error.line), "{error}");
            return;
        }
    };
    assert!(!id.contains('/') && !id.starts_with('.') && id.len() <= 32);
    let args = ["argument".to_owned()];
    let values = Values {
        file: "/f".as_ref(),
        out: "/o".as_ref(),
        deps: "/o.d".as_ref(),
        args: &args,
        shell: "/s".as_ref(),
        venv: "/v".as_ref(),
    };
    let compile = runner.compile.as_ref().map(|compile| &compile.argv);
    for words in compile.into_iter().chain([&runner.run]).filter(|words| !words.is_empty()) {
        assert!(!matches!(words.first(), Some(Word::Args | Word::Dir)), "what runs is the file's to say");
        assert!(fill(words, &values).len() >= words.iter().filter(|word| **word != Word::Args).count());
    }
    if let Some(entry) = &runner.entry {
        let name = entry.name(7);
        assert!(!name.is_empty() && !name.contains('/') && !name.starts_with('.'), "{name:?}");
    }
});
