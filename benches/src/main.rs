//! The benchmark: starts the real daemon over loopback, and measures it beside the same work without any
//! server, and with another server where there is one (`peer`).
//!
//! Cases: `start` and `runs` (a), `rates` (a), `echo` (b), `throughput` (c), `memory` (d), `many` (e),
//! `upload` (f), `tls` (g). They take turns with `bare` through `sample`, talk to the `daemon` by `client`,
//! look at it by `procfs`, and answer with rows for `report`. Nothing here is a test: a goal that is missed
//! is printed, never asserted.
#![expect(
    clippy::disallowed_methods,
    reason = "the bans on Command and sleep are for the production crates; a benchmark starts programs and paces itself"
)]

mod options;
mod place;
mod sample;

mod check;

mod bare;
mod binaries;
mod client;
mod daemon;
mod http;
mod message;
mod peer;
mod procfs;
mod wire;

mod bench;
mod report;

mod echo;
mod many;
mod memory;
mod rates;
mod runs;
mod start;
mod throughput;
mod tls;
mod upload;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use crate::{bench::Bench, options::Options};

/// Whatever went wrong with a measurement, in words: it ends that case only.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

/// Lets others go first, or time pass.
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("further-link-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    // A thousand connections here, and as many in the daemon, which inherits this.
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most)?;
    let earlier = options.baseline.as_deref().map(report::read_earlier).transpose()?;
    let mut bench = Bench::new(options)?;
    println!("{}", report::circumstances(&bench)?);
    start::measure(&mut bench);
    runs::measure(&mut bench);
    rates::measure(&mut bench);
    echo::measure(&mut bench);
    throughput::measure(&mut bench);
    memory::measure(&mut bench);
    many::measure(&mut bench);
    upload::measure(&mut bench);
    tls::measure(&mut bench);
    print!("{}", report::table(&bench.rows, earlier.as_ref()));
    println!("{}", report::load()?);
    if let Some(file) = &options.json {
        std::fs::write(file, report::json_lines(&bench.rows)?)?;
    }
    Ok(())
}
