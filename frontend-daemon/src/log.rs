//! Where log lines go: to the journal when systemd started this process, else to standard error.
//!
//! Never program text, input or output, nor query strings: they hold a person's data and tokens.

use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// systemd tells which stream is the journal's (`JOURNAL_STREAM`, systemd.exec(5)): a variable alone may have been
/// inherited from a desktop session.
fn stderr_is_the_journal() -> bool {
    rustix::fs::fstat(rustix::stdio::stderr()).is_ok_and(|stat| {
        std::env::var("JOURNAL_STREAM")
            .is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    })
}

/// Starts logging.
pub(crate) fn start(debug: bool) {
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let registry = tracing_subscriber::registry().with(level);
    if stderr_is_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal.with_syslog_identifier("further-link".to_owned())).init();
        return;
    }
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    registry.with(lines).init();
}
