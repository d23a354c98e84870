//! Where log lines go: to the journal when systemd started this process, else to standard error.
//!
//! A line says everything in its words. The journal has fields as well, to search by; standard error
//! shows the words alone. Program text, paths, input, output and query strings are never logged: a
//! person's data and tokens do not belong there. Text of a stranger could imitate log lines as well.

use tracing_subscriber::{
    filter::LevelFilter, fmt::format::debug_fn, layer::SubscriberExt, util::SubscriberInitExt,
};

/// systemd tells which stream is the journal's (`JOURNAL_STREAM`, systemd.exec(5)): a variable alone may have
/// been inherited from a desktop session.
fn stderr_is_the_journal() -> bool {
    rustix::fs::fstat(rustix::stdio::stderr()).is_ok_and(|stat| {
        std::env::var("JOURNAL_STREAM")
            .is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    })
}

/// Starts logging under this name. Without a journal to reach, standard error has to do.
pub fn start_logging(name: &str, debug: bool) {
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let registry = tracing_subscriber::registry().with(level);
    if stderr_is_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal.with_syslog_identifier(name.to_owned())).init();
        return;
    }
    let words = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        _ => Ok(()),
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .fmt_fields(words);
    registry.with(lines).init();
}
