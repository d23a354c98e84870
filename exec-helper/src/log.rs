//! Where log lines go: to the journal with named fields when systemd started this process, else to standard error.
//!
//! One line per privileged act (user, runner, pid, outcome). Never program text, paths, input or output: a person's data
//! does not belong into a log, and what a stranger wrote could imitate log lines.

use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Set by systemd for services whose output goes to the journal (systemd.exec(5)).
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Starts logging under this name. Without a journal to reach, standard error has to do.
pub(crate) fn start(name: &str) {
    let registry = tracing_subscriber::registry().with(LevelFilter::INFO);
    if std::env::var_os(JOURNAL_STREAM).is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal.with_syslog_identifier(name.to_owned())).init();
        return;
    }
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    registry.with(lines).init();
}
