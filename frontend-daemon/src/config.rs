//! Settings from the command line and the environment, checked before anything is started.
//!
//! README.md lists every option and variable; a test compares that table with what is declared here.

use std::{net::IpAddr, path::PathBuf};

use clap::Parser;

/// Runs a person's programs on this device for a browser.
#[derive(Debug, Parser)]
#[command(name = "further-link", version, about, max_term_width = 100)]
pub(crate) struct Config {
    /// TCP port; 0 takes any free one.
    #[arg(long, env = "FURTHER_LINK_PORT", default_value_t = 8028, value_name = "PORT")]
    pub(crate) port: u16,

    /// Address to listen on [default: all]
    #[arg(long, env = "FURTHER_LINK_ADDRESS", value_name = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,

    /// Serve without TLS (any value but 0 and false in the variable).
    #[arg(long, env = "FURTHER_LINK_NOSSL", value_parser = is_on, num_args = 0..=1, require_equals = true, default_value = "",
        default_missing_value = "1", hide_default_value = true, hide_possible_values = true)]
    pub(crate) no_tls: bool,

    /// Directory that relative paths start from, for all users [default: ~/further]
    #[arg(long, env = "FURTHER_LINK_WORK_DIR", value_name = "DIR", value_parser = absolute)]
    pub(crate) work_dir: Option<PathBuf>,

    /// Working directory of programs that name none [default: /tmp]
    #[arg(long, env = "FURTHER_LINK_TEMP_DIR", value_name = "DIR", value_parser = absolute)]
    pub(crate) temp_dir: Option<PathBuf>,

    /// User who may run programs; repeat it, or separate names by commas. The default user is pi if named, else the
    /// first named [default: pi if root starts the server and pi exists, else the user who starts it]
    #[arg(long = "allow-user", env = "FURTHER_LINK_ALLOW_USERS", value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow_users: Vec<String>,

    /// Seconds between SIGTERM and SIGKILL when a program is stopped [default: 2]
    #[arg(long, env = "FURTHER_LINK_GRACE", value_name = "SECONDS")]
    pub(crate) grace: Option<f64>,

    /// Seconds after which a client that does not answer any more (a cable pulled) is gone, and its programs end.
    #[arg(long, env = "FURTHER_LINK_CLIENT_TIMEOUT", value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(6..=86400))]
    pub(crate) client_timeout: u64,

    /// Web page that may use this server, as scheme, name and port; repeat it, or separate them by commas. Beside
    /// <https://further.pi-top.com> and pages of this server itself
    #[arg(
        long = "allow-origin",
        env = "FURTHER_LINK_ALLOW_ORIGINS",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub(crate) allow_origins: Vec<String>,

    /// Name under which clients reach this device; repeat it, or separate names by commas. Beside its addresses,
    /// localhost, its host name alone and with .local, and A-B-C-D.further-link.pi-top.com
    #[arg(long = "allow-host", env = "FURTHER_LINK_ALLOW_HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow_hosts: Vec<String>,

    /// Socket of a running helper. Its own settings then apply: work dir, temp dir, users and grace are not passed on.
    #[arg(long, env = "FURTHER_LINK_HELPER_SOCKET", value_name = "PATH", value_parser = absolute)]
    pub(crate) helper_socket: Option<PathBuf>,

    /// Socket of the helper for uploads [default: that for programs]
    #[arg(long, env = "FURTHER_LINK_FILES_SOCKET", value_name = "PATH", value_parser = absolute)]
    pub(crate) files_socket: Option<PathBuf>,

    /// Largest body of an upload, in MiB.
    #[arg(long, env = "FURTHER_LINK_UPLOAD_LIMIT", value_name = "MIB", default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(1..=128))]
    pub(crate) upload_limit: u16,

    /// Let uploads name urls of this device and its neighbours (any value but 0 and false in the variable).
    #[arg(long, env = "FURTHER_LINK_ALLOW_PRIVATE_DOWNLOADS", value_parser = is_on, num_args = 0..=1, require_equals = true,
        default_value = "", default_missing_value = "1", hide_default_value = true, hide_possible_values = true)]
    pub(crate) allow_private_downloads: bool,

    /// Log more (any value in the variable). Never what programs read or print.
    #[arg(long, env = "FURTHER_LINK_DEBUG", value_parser = is_set, num_args = 0..=1, require_equals = true, default_value = "",
        default_missing_value = "1", hide_default_value = true, hide_possible_values = true)]
    pub(crate) debug: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants parsers that can fail")]
/// B1.2: on unless `0` or `false` in any case. Unset is off, and so is empty.
fn is_on(text: &str) -> Result<bool, std::convert::Infallible> {
    Ok(!matches!(text.to_ascii_lowercase().as_str(), "" | "0" | "false"))
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants parsers that can fail")]
/// B14: any value that is not empty.
fn is_set(text: &str) -> Result<bool, std::convert::Infallible> {
    Ok(!text.is_empty())
}

fn absolute(text: &str) -> Result<PathBuf, std::io::Error> {
    std::path::absolute(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn nossl_is_on_unless_it_says_0_or_false() {
        for (text, on) in
            [("1", true), ("yes", true), ("0", false), ("False", false), ("FALSE", false), ("", false)]
        {
            assert_eq!(is_on(text), Ok(on), "{text:?}");
        }
    }

    #[test]
    fn the_readme_lists_every_option_and_variable() {
        let readme = include_str!("../../README.md");
        for argument in Config::command().get_arguments() {
            let option = format!("`--{}", argument.get_long().expect("every argument has a long form"));
            assert!(readme.contains(&option), "{option} is missing");
            let variable = argument.get_env().expect("every argument has a variable").to_str().unwrap();
            assert!(readme.contains(&format!("`{variable}`")), "{variable} is missing");
        }
    }

    #[test]
    fn the_declaration_is_sound() {
        Config::command().debug_assert();
    }
}
