//! Where log lines go: to the journal when systemd started this process, else to standard error.
//!
//! Never program text, input or output, nor query strings: they hold a person's data and tokens.

use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Set by systemd for services whose output goes to the journal (systemd.exec(5)).
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Starts logging.
pub(crate) fn start(debug: bool) {
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let registry = tracing_subscriber::registry().with(level);
    if std::env::var_os(JOURNAL_STREAM).is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal.with_syslog_identifier("further-link".to_owned())).init();
        return;
    }
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    registry.with(lines).init();
}
