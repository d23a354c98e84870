//! Screens of kept programs for `tests/screens`, which compares them with xterm.js.
//!
//! `kept-screen ROWS COLUMNS` reads a JSON line for each step: `["o", TEXT]` is output of the program,
//! `["r", ROWS, COLUMNS]` another size, and `["s"]` asks for a snapshot. It answers with `[SNAPSHOT,
//! MICROSECONDS]`. `kept-screen measure [FILE]…` says how fast screens are fed.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::time::{Duration, Instant};

use further_link_frontend::fuzzing::KeptScreen;
use serde_json::Value;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The size of most terminals, and the largest that is kept (`MOST_CELLS`).
const SIZES: [(u16, u16); 2] = [(24, 80), (255, 257)];
/// Output of a program reaches a screen in pieces of this size or less.
const PIECE: usize = 64 << 10;
const LEAST_TIME: Duration = Duration::from_secs(2);

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [measure, files @ ..] if measure == "measure" => measure_all(files),
        [rows, columns] => answer(KeptScreen::new(rows.parse()?, columns.parse()?)),
        _ => Err("usage: kept-screen ROWS COLUMNS, or: kept-screen measure [FILE]...".into()),
    }
}

fn answer(mut screen: KeptScreen) -> Outcome {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let step: Value = serde_json::from_str(&line?)?;
        let number = |place: usize| step.get(place).and_then(Value::as_u64).ok_or("a size is missing");
        let text = |place: usize| step.get(place).and_then(Value::as_str).ok_or("a text is missing");
        match text(0)? {
            "o" => screen.feed(text(1)?),
            "r" => screen.resize(number(1)?.try_into()?, number(2)?.try_into()?),
            "s" => {
                let start = Instant::now();
                let snapshot = screen.snapshot();
                let time = u64::try_from(start.elapsed().as_micros())?;
                writeln!(output, "{}", serde_json::json!([snapshot, time]))?;
                output.flush()?;
            }
            other => return Err(format!("no step is called {other}").into()),
        }
    }
    Ok(())
}

/// Texts by name, each about as long as a piece.
fn texts(files: &[String]) -> Outcome<Vec<(String, String)>> {
    let line = "The quick brown fox jumps over the lazy dog, and 0123456789.\r\n";
    let colours: String = (0..256)
        .map(|n| format!("\x1b[38;5;{n}mcolour \x1b[1;4{}mnumber\x1b[0m {n}\t\x1b[7mx\x1b[m\r\n", n % 8))
        .collect();
    let mut texts = vec![
        ("plain text".to_owned(), line.repeat(PIECE / line.len())),
        ("colours".to_owned(), colours.repeat(PIECE / colours.len() + 1)),
        ("ESC[2J".to_owned(), "\x1b[2J".repeat(PIECE / 4)),
        ("ESC[2J ESC[41m LF".to_owned(), "\x1b[41m\x1b[2J\n".repeat(PIECE / 10)),
        ("ESC[99L on red".to_owned(), "\x1b[41m\x1b[H\x1b[99L".repeat(PIECE / 13)),
    ];
    for file in files {
        texts.push((file.clone(), std::fs::read_to_string(file)?));
    }
    Ok(texts)
}

fn measure_all(files: &[String]) -> Outcome {
    for (name, text) in texts(files)? {
        for (rows, columns) in SIZES {
            let mut screen = KeptScreen::new(rows, columns);
            let (start, mut bytes) = (Instant::now(), 0_usize);
            while start.elapsed() < LEAST_TIME {
                screen.feed(&text);
                bytes += text.len();
            }
            let speed = u128::try_from(bytes)? * 1000 / start.elapsed().as_micros();
            let start = Instant::now();
            let size = screen.snapshot().len();
            let time = start.elapsed().as_micros();
            println!("{name}, {rows}x{columns}: {speed} KB/s; a snapshot has {size} bytes, {time} us");
        }
    }
    Ok(())
}
