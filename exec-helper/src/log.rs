//! Where log lines go: to the journal with named fields when systemd started this process, else to standard error.
//!
//! One line per privileged act (user, runner, pid, outcome). Never program text, paths, input or output: a person's data
//! does not belong into a log, and what a stranger wrote could imitate log lines.

use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// systemd tells which stream is the journal's (`JOURNAL_STREAM`, systemd.exec(5)): a variable alone may have been
/// inherited from a desktop session.
fn stderr_is_the_journal() -> bool {
    rustix::fs::fstat(rustix::stdio::stderr()).is_ok_and(|stat| {
        std::env::var("JOURNAL_STREAM")
            .is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    })
}

/// Starts logging under this name. Without a journal to reach, standard error has to do.
pub(crate) fn start(name: &str) {
    let registry = tracing_subscriber::registry().with(LevelFilter::INFO);
    if stderr_is_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal.with_syslog_identifier(name.to_owned())).init();
        return;
    }
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    registry.with(lines).init();
}
