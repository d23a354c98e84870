//! The program that the benchmark runs, with and without a server: it says hello, or floods its standard
//! output.
//!
//! It is started by its path, or as the interpreter of a script whose first line holds the arguments: clients
//! name a file, never arguments. Who closes its output ends it.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    process::ExitCode,
};

use further_link_benches::pattern::{self, Kind};

/// Written at once: what a pipe holds.
const PIECE: usize = 64 * 1024;

fn main() -> ExitCode {
    let written = match std::env::args().nth(1) {
        None => io::stdout().write_all(b"hello\n"),
        Some(words) => flood(&words),
    };
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `ascii 1000` writes thousand lines.
fn flood(words: &str) -> io::Result<()> {
    let arguments = words.split_once(' ').and_then(|(kind, lines)| {
        let kind = match kind {
            "ascii" => Kind::Ascii,
            "mixed" => Kind::Mixed,
            _ => return None,
        };
        Some((kind, lines.trim().parse::<u64>().ok()?))
    });
    let Some((kind, lines)) = arguments else {
        return Err(io::Error::other("usage: KIND LINES"));
    };
    let block = pattern::block(kind, "\n");
    let mut left = pattern::bytes_of(&block, lines);
    // Not the locked, line-buffered one: each piece is to be one write.
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        for piece in block.get(..length).unwrap_or_default().chunks(PIECE) {
            output.write_all(piece)?;
        }
        left -= u64::try_from(length).unwrap_or(left);
    }
    Ok(())
}
