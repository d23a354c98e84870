//! Uploads beside plain writes of the same files: one large file, and a thousand small ones, in a new project
//! each time.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::{
    Result,
    bench::Bench,
    http, procfs,
    report::{Of, Row, Unit},
    sample::{Figure, float, in_turn},
};

/// The cases.
pub(crate) fn measure(bench: &mut Bench) {
    for (name, files, size, goal) in [
        ("upload of 10 MB", 1, 10_000_000, 8.0),
        ("upload of 900 KB", 1, 900_000, 8.0),
        ("upload of 1000 files of 1 KB", 1000, 1000, 5.0),
    ] {
        bench.case(name, |bench| upload(bench, name, files, size, goal));
    }
}

fn upload(bench: &Bench, name: &str, files: usize, size: usize, goal: f64) -> Result<Vec<Row>> {
    let daemon = bench.daemon()?;
    let text = "All work and no play makes Jack a dull boy.\n".repeat(size / 44 + 1);
    let text = text.get(..size).ok_or("too short")?;
    let one = json!({"type": "text", "content": {"text": text}});
    let all: Map<String, Value> =
        (0..files).map(|number| (format!("file{number}.txt"), one.clone())).collect();
    let all = Value::Object(all).to_string();
    if http::post(&daemon, "/upload", br#"{"name":"probe","files":{}}"#)? == 404 {
        return Ok(vec![Row::without(name, "not available (404)")]);
    }
    procfs::reset_peak(daemon.pid())?;
    let before = procfs::resident(daemon.pid())?;
    let mut turn = (0, 0);
    let (bare, ours) = in_turn(
        bench.pick(20, 5),
        bench.limit(),
        || {
            turn.0 += 1;
            write(bench, &format!("bare{}", turn.0), files, text)
        },
        || {
            turn.1 += 1;
            let project = format!("project{}", turn.1);
            let body = format!(r#"{{"name":"{project}","files":{all}}}"#);
            let begin = Instant::now();
            let status = http::post(&daemon, "/upload", body.as_bytes())?;
            let took = begin.elapsed();
            if status == 200 { Ok(took) } else { Err(format!("status {status}").into()) }
        },
    )?;
    let peak = procfs::peak(daemon.pid())?.saturating_sub(before);
    let left = procfs::resident(daemon.pid())?.saturating_sub(before);
    verify(bench, "project1", files, text)?;
    let (bare, ours) = (Figure::of_times(bare), Figure::of_times(ours));
    let memory = |what: &str, bytes| {
        Row::ours(format!("{name}: {what}"), Unit::Bytes, Some(Figure::single(float(bytes))))
    };
    Ok(vec![
        Row::both(name, Unit::Seconds, bare, ours).at_most(Of::Ratio, goal),
        memory("growth of the frontend at its peak", peak),
        memory("growth of the frontend that stays", left),
    ])
}

fn write(bench: &Bench, name: &str, files: usize, text: &str) -> Result<Duration> {
    let begin = Instant::now();
    let directory = bench.place.work().join(format!("{name}-{files}x{}", text.len()));
    fs::create_dir(&directory)?;
    for number in 0..files {
        fs::write(directory.join(format!("file{number}.txt")), text)?;
    }
    Ok(begin.elapsed())
}

/// Every byte of one upload.
fn verify(bench: &Bench, project: &str, files: usize, text: &str) -> Result<()> {
    for number in 0..files {
        let file = bench.place.work().join(project).join(format!("file{number}.txt"));
        if fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))? != text.as_bytes() {
            return Err(format!("{} has other bytes", file.display()).into());
        }
    }
    Ok(())
}
