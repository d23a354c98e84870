//! Rows, and what is made of them: a table for people and JSON lines for comparison over time.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{Result, bench::Bench, daemon, sample::Figure};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    BytesPerSecond,
    RunsPerSecond,
    Bytes,
    Percent,
    Count,
    Times,
}

/// Which number a goal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Ratio,
    RatioOfP99,
    Ours,
    OursP99,
}

/// What to reach. Printed, never asserted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(Of, f64),
    AtLeast(Of, f64),
}

/// One line of the table.
pub(crate) struct Row {
    metric: String,
    unit: Unit,
    bare: Option<Figure>,
    ours: Option<Figure>,
    /// Another server.
    peer: Option<Figure>,
    goal: Option<Goal>,
    note: Option<String>,
}

impl Row {
    /// Ours alone.
    pub(crate) fn ours(metric: impl Into<String>, unit: Unit, ours: Option<Figure>) -> Self {
        Self { metric: metric.into(), unit, bare: None, ours, peer: None, goal: None, note: None }
    }

    /// Both.
    pub(crate) fn both(
        metric: impl Into<String>,
        unit: Unit,
        bare: Option<Figure>,
        ours: Option<Figure>,
    ) -> Self {
        Self { bare, ..Self::ours(metric, unit, ours) }
    }

    /// And those of another server.
    pub(crate) fn beside(self, peer: Option<Figure>) -> Self {
        Self { peer, ..self }
    }

    /// No figures, and why.
    pub(crate) fn without(metric: &str, why: &str) -> Self {
        Self { note: Some(why.to_owned()), ..Self::ours(metric, Unit::Count, None) }
    }

    pub(crate) fn at_most(self, of: Of, limit: f64) -> Self {
        Self { goal: Some(Goal::AtMost(of, limit)), ..self }
    }

    pub(crate) fn at_least(self, of: Of, limit: f64) -> Self {
        Self { goal: Some(Goal::AtLeast(of, limit)), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        let (bare, ours) = (self.bare?, self.ours?);
        match self.goal {
            Some(Goal::AtMost(Of::RatioOfP99, _)) => Some(ours.p99? / bare.p99?),
            _ => Some(ours.p50 / bare.p50),
        }
    }

    fn is_met(&self) -> Option<bool> {
        let number = |of| match of {
            Of::Ratio | Of::RatioOfP99 => self.ratio(),
            Of::Ours => self.ours.map(|figure| figure.p50),
            Of::OursP99 => self.ours?.p99,
        };
        match self.goal? {
            Goal::AtMost(of, limit) => Some(number(of)? <= limit),
            Goal::AtLeast(of, limit) => Some(number(of)? >= limit),
        }
    }

    fn goal_text(&self) -> String {
        let (sign, of, limit) = match self.goal {
            None => return String::new(),
            Some(Goal::AtMost(of, limit)) => ("≤", of, limit),
            Some(Goal::AtLeast(of, limit)) => ("≥", of, limit),
        };
        match of {
            Of::Ratio => format!("{sign} {limit}x"),
            Of::RatioOfP99 => format!("p99 {sign} {limit}x"),
            Of::Ours => format!("{sign} {}", self.unit.text(limit)),
            Of::OursP99 => format!("p99 {sign} {}", self.unit.text(limit)),
        }
    }

    fn cells(&self, earlier: Option<&HashMap<String, f64>>) -> Vec<String> {
        let text = |number: Option<f64>| number.map_or_else(String::new, |number| self.unit.text(number));
        let p50 = |figure: Option<Figure>| text(figure.map(|figure| figure.p50));
        let p99 = |figure: Option<Figure>| text(figure.and_then(|figure| figure.p99));
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x"));
        let verdict = match (self.is_met(), &self.note) {
            (_, Some(note)) => note.clone(),
            (Some(true), None) => "met".to_owned(),
            (Some(false), None) => "MISSED".to_owned(),
            (None, None) => String::new(),
        };
        let mut cells = vec![
            self.metric.clone(),
            p50(self.bare),
            p99(self.bare),
            p50(self.ours),
            p99(self.ours),
            p50(self.peer),
            ratio(self.ratio()),
        ];
        cells.extend(earlier.map(|earlier| ratio(earlier.get(&self.metric).copied())));
        cells.extend([self.goal_text(), verdict]);
        cells
    }
}

impl Unit {
    fn text(self, number: f64) -> String {
        let scaled = |steps: &[(f64, &str)]| {
            let found = steps.iter().find(|(size, _)| number.abs() >= *size).or(steps.last());
            found.map_or_else(String::new, |(size, name)| format!("{} {name}", short(number / size)))
        };
        match self {
            Self::Seconds => scaled(&[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")]),
            Self::BytesPerSecond => scaled(&[(1e6, "MB/s"), (1e3, "kB/s")]),
            Self::Bytes => scaled(&[(1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")]),
            Self::RunsPerSecond => format!("{}/s", short(number)),
            Self::Percent => format!("{} %", short(number)),
            Self::Times => format!("{}x", short(number)),
            Self::Count => short(number),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::BytesPerSecond => "B/s",
            Self::RunsPerSecond => "runs/s",
            Self::Bytes => "B",
            Self::Percent => "%",
            Self::Count => "",
            Self::Times => "x",
        }
    }
}

/// Three digits that count, or all before the point.
fn short(number: f64) -> String {
    let text = match number.abs() {
        size if size >= 100.0 => return format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The table.
pub(crate) fn table(rows: &[Row], earlier: Option<&HashMap<String, f64>>) -> String {
    let mut head = vec!["metric", "bare p50", "p99", "ours p50", "p99", "best peer", "ratio"];
    head.extend(earlier.map(|_| "before"));
    head.extend(["goal", ""]);
    let mut lines = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| row.cells(earlier)));
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().filter_map(|line| Some(line.get(column)?.chars().count())).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            // The first and the last are words.
            if column == 0 || column + 1 == columns {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One JSON object a row.
pub(crate) fn json_lines(rows: &[Row]) -> Result<String> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let commit = commit();
    let mut lines = String::new();
    for row in rows {
        let p50 = |figure: Option<Figure>| figure.map(|figure| figure.p50);
        let p99 = |figure: Option<Figure>| figure.and_then(|figure| figure.p99);
        let line = json!({
            "metric": row.metric, "unit": row.unit.name(), "time": time, "commit": commit,
            "bare": p50(row.bare), "bare_p99": p99(row.bare), "ours": p50(row.ours), "ours_p99": p99(row.ours), "peer": p50(row.peer),
            "ratio": row.ratio(), "met": row.is_met(), "note": row.note,
        });
        writeln!(lines, "{line}")?;
    }
    Ok(lines)
}

/// The ratios of an earlier run, by metric.
pub(crate) fn read_earlier(file: &Path) -> Result<HashMap<String, f64>> {
    let mut ratios = HashMap::new();
    for line in fs::read_to_string(file)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        let of = |name| row.get(name);
        if let (Some(metric), Some(ratio)) =
            (of("metric").and_then(Value::as_str), of("ratio").and_then(Value::as_f64))
        {
            ratios.insert(metric.to_owned(), ratio);
        }
    }
    Ok(ratios)
}

/// What the figures depend on.
pub(crate) fn circumstances(bench: &Bench) -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processors = std::thread::available_parallelism()?;
    let own = nix::unistd::User::from_uid(nix::unistd::Uid::effective())?;
    let build = if bench.binaries.optimised { "" } else { "; NOT OPTIMISED, use --release" };
    Ok(format!(
        "commit {}; kernel {}; {processors} processors, shared by the daemon, this client and the programs{build}\n\
         programs of the daemon run as {}, the bare ones as {}\n{}",
        commit(),
        kernel.trim(),
        daemon::user()?,
        own.map_or_else(|| "?".to_owned(), |user| user.name),
        load()?
    ))
}

/// Who else was busy.
pub(crate) fn load() -> Result<String> {
    Ok(format!("load average {}", fs::read_to_string("/proc/loadavg")?.trim()))
}

fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let text = output.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_about_the_number_they_name() {
        let figure = |p50, p99| Some(Figure { p50, p99: Some(p99) });
        let row = || Row::both("x", Unit::Seconds, figure(1.0, 2.0), figure(1.4, 5.0));
        assert_eq!(row().at_most(Of::Ratio, 1.5).is_met(), Some(true));
        assert_eq!(row().at_most(Of::RatioOfP99, 2.4).is_met(), Some(false));
        assert_eq!(row().at_most(Of::Ours, 1.5).is_met(), Some(true));
        assert_eq!(row().at_most(Of::OursP99, 4.9).is_met(), Some(false));
        assert_eq!(row().at_least(Of::Ratio, 1.5).is_met(), Some(false));
        assert_eq!(row().is_met(), None);
    }

    #[test]
    fn numbers_are_short_and_have_a_unit() {
        assert_eq!(Unit::Seconds.text(0.000_036_4), "36.4 µs");
        assert_eq!(Unit::Seconds.text(1.5), "1.5 s");
        assert_eq!(Unit::Bytes.text(0.0), "0 B");
        assert_eq!(Unit::Bytes.text(8192.0), "8 KiB");
        assert_eq!(Unit::BytesPerSecond.text(370e6), "370 MB/s");
    }
}
