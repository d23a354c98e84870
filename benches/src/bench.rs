//! What all cases share: the options, the place, the time that is left, and the rows so far.

use std::time::{Duration, Instant};

use crate::{
    Result,
    binaries::{self, Binaries},
    daemon::Daemon,
    options::Options,
    place::Place,
    report::Row,
};

/// No case begins later than this, so that the whole takes no more than ten minutes, or one.
const LAST_BEGIN: Duration = Duration::from_mins(9);
const LAST_BEGIN_QUICK: Duration = Duration::from_secs(50);

/// The benchmark.
pub(crate) struct Bench {
    pub(crate) binaries: Binaries,
    pub(crate) place: Place,
    pub(crate) rows: Vec<Row>,
    quick: bool,
    only: Option<String>,
    last_begin: Instant,
}

impl Bench {
    /// Builds what is needed, unless the installed package is to be measured.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let binaries = if options.installed { binaries::installed() } else { binaries::build() }?;
        let place = Place::new(&binaries.program)?;
        let limit = if options.quick { LAST_BEGIN_QUICK } else { LAST_BEGIN };
        let (quick, only) = (options.quick, options.only.clone());
        let last_begin = Instant::now() + limit;
        Ok(Self { binaries, place, rows: Vec::new(), quick, only, last_begin })
    }

    /// One of the two, as asked for.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The longest that one pair of samples may take.
    pub(crate) fn limit(&self) -> Duration {
        self.pick(Duration::from_secs(20), Duration::from_secs(2))
    }

    /// A daemon of its own for a case.
    pub(crate) fn daemon(&self) -> Result<Daemon> {
        Daemon::start(&self.binaries, &self.place, false)
    }

    /// Runs a case, if it is asked for and there is time. One that fails is a row that says why, and the
    /// others go on.
    pub(crate) fn case(&mut self, name: &str, measure: impl FnOnce(&Self) -> Result<Vec<Row>>) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        if Instant::now() > self.last_begin {
            self.rows.push(Row::without(name, "skipped: the time is over"));
            return;
        }
        eprintln!("measuring {name}");
        match measure(self) {
            Ok(rows) => self.rows.extend(rows),
            Err(error) => self.rows.push(Row::without(name, &error.to_string())),
        }
    }
}
