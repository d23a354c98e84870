//! Screens of kept programs for `tests/screens`, which compares them with xterm.js.
//!
//! `kept-screen ROWS COLUMNS` reads a JSON line for each step: `["o", TEXT]` is output of the program,
//! `["r", ROWS, COLUMNS]` another size, and `["s"]` asks for a snapshot. It answers with `[SNAPSHOT,
//! MICROSECONDS]`. `kept-screen measure` says how fast screens are fed.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::time::{Duration, Instant};

use further_link_frontend::fuzzing::KeptScreen;
use serde_json::Value;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The size of most terminals, a window that fills a screen, and the largest that is kept (`MOST_CELLS`).
const SIZES: [(u16, u16); 3] = [(24, 80), (64, 240), (131, 500)];
/// Output of a program reaches a screen in pieces of this size or less.
const PIECE: usize = 64 << 10;
const LEAST_TIME: Duration = Duration::from_millis(200);

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [measure] if measure == "measure" => measure_all(),
        [rows, columns] => answer(KeptScreen::new(rows.parse()?, columns.parse()?))?,
        _ => return Err("usage: kept-screen ROWS COLUMNS, or: kept-screen measure".into()),
    }
    Ok(())
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

/// What a program repeats: its name, what it prints first, and what it prints again and again.
///
/// After two usual ones come those where few bytes touch many cells.
const FLOODS: [(&str, &str, &str); 25] = [
    ("plain text", "", "The quick brown fox jumps over the lazy dog, and 0123456789.\r\n"),
    ("colours", "", "\x1b[38;5;99mcolour \x1b[1;44mnumber\x1b[0m 99\t\x1b[7mx\x1b[m\r\n"),
    ("wide characters", "", "世界\u{301}"),
    ("LF on red", "\x1b[41m\x1b[999H", "\n"),
    ("ESC M on red", "\x1b[41m", "\x1bM"),
    ("ESC[2J", "", "\x1b[2J"),
    ("ESC[2J x", "", "\x1b[2Jx"),
    ("ESC[J x", "", "\x1b[H\x1b[Jx"),
    ("ESC[1J x", "\x1b[999H", "\x1b[1Jx"),
    ("ESC[999S x", "", "\x1b[999Sx"),
    ("ESC[999S x on red", "\x1b[41m", "\x1b[999Sx"),
    ("ESC[999T x", "", "\x1b[999Tx"),
    ("ESC[999L on red", "\x1b[41m", "\x1b[999L"),
    ("ESC[999M on red", "\x1b[41m", "\x1b[999M"),
    ("ESC[999@ on red", "\x1b[41m", "\x1b[999@"),
    ("ESC[999P on red", "\x1b[41m", "\x1b[999P"),
    ("ESC[2K", "", "\x1b[2K"),
    ("ESC[?1049h ESC[?1049l", "", "\x1b[?1049h\x1b[?1049l"),
    ("ESC[?47h x ESC[?47l", "", "\x1b[?47hx\x1b[?47l"),
    ("ESC c", "", "\x1bc"),
    ("ESC # 8", "", "\x1b#8"),
    ("ESC[999b", "", "x\x1b[999b"),
    ("x in insert mode", "\x1b[4h", "\rx"),
    ("ESC[999b in insert mode", "\x1b[4h", "x\x1b[999b"),
    ("ESC[999I ESC[999Z", "", "\x1b[999I\x1b[999Z"),
];

fn measure_all() {
    println!("seconds for {PIECE} bytes at {SIZES:?}, and a snapshot at the last");
    for (name, first, again) in FLOODS {
        let text = again.repeat(PIECE / again.len());
        print!("{name}:");
        let mut screen = KeptScreen::new(1, 1);
        for (rows, columns) in SIZES {
            screen = KeptScreen::new(rows, columns);
            screen.feed(first);
            let (start, mut times) = (Instant::now(), 0);
            while start.elapsed() < LEAST_TIME {
                screen.feed(&text);
                times += 1;
            }
            print!(" {:.4}", start.elapsed().as_secs_f64() / f64::from(times));
        }
        let start = Instant::now();
        let size = screen.snapshot().len();
        println!("; {size} bytes in {} us", start.elapsed().as_micros());
    }
}
