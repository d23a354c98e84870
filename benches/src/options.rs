//! The command line.

use std::path::PathBuf;

/// Measures further-link beside the same work without any server.
#[derive(clap::Parser, Debug)]
#[command(name = "further-link-benches")]
pub(crate) struct Options {
    /// Fewer samples: less than a minute instead of several
    #[arg(long)]
    pub(crate) quick: bool,
    /// Run only the cases whose name contains this
    #[arg(long, value_name = "PATTERN")]
    pub(crate) only: Option<String>,
    /// Measure the daemons of the installed Debian package, and build nothing: for machines without source
    #[arg(long)]
    pub(crate) installed: bool,
    /// Write the figures into this file as JSON lines as well
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Show the ratios of such a file of an earlier run beside the new ones
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
}
