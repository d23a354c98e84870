//! One running daemon: the release build, with an empty environment, on a free port of the loopback. Ended by its pid.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Result, pause, place::Place, procfs};

/// It listens within milliseconds.
const START_LIMIT: Duration = Duration::from_secs(10);
/// It waits for its programs for 5 s.
const END_LIMIT: Duration = Duration::from_secs(8);
/// After its start, and between two runs: the spare helper is ready again by then.
pub(crate) const SPARE_PAUSE: Duration = Duration::from_millis(4);

/// The daemon.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    /// From its start to the line that says where it listens.
    pub(crate) took: Duration,
}

impl Daemon {
    /// Starts it and waits until it listens. As root it becomes the service account, and runs programs as `pi`, or as root
    /// where there is no such user.
    pub(crate) fn start(binary: &Path, place: &Place, tls: bool) -> Result<Self> {
        let mut command = Command::new(binary);
        command.env_clear().env("PATH", "/usr/bin:/bin").args(["--port", "0", "--address", "127.0.0.1"]);
        command.arg("--work-dir").arg(place.work()).arg("--temp-dir").arg(place.temp());
        command.args(["--allow-user", &user()?]);
        if !tls {
            command.arg("--no-tls");
        }
        let begin = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let lines = child.stderr.take().map(follow).ok_or("no log")?;
        let mut last = String::new();
        let address = Ipv4Addr::LOCALHOST.into();
        let mut daemon = Self { child, address: SocketAddr::new(address, 0), tls, took: Duration::ZERO };
        // An error drops, and so ends, what was started.
        while daemon.address.port() == 0 {
            let left = START_LIMIT.saturating_sub(begin.elapsed());
            let Ok(line) = lines.recv_timeout(left) else {
                return Err(format!("the daemon does not listen: {last}").into());
            };
            daemon.took = begin.elapsed();
            daemon.address.set_port(port(&line).unwrap_or(0));
            last = line;
        }
        pause(SPARE_PAUSE * 5);
        Ok(daemon)
    }

    /// The process that faces the network.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    fn end(&mut self) -> Result<()> {
        let helpers = procfs::ours(self.pid());
        if let Some(pid) = Pid::from_raw(self.pid()) {
            kill_process(pid, Signal::TERM)?;
        }
        let end = Instant::now() + END_LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                self.child.kill()?;
                self.child.wait()?;
                return Err("the daemon did not end by SIGTERM".into());
            }
            pause(Duration::from_millis(1));
        }
        while helpers.iter().any(procfs::Process::is_there) {
            if Instant::now() > end {
                return Err("helpers did not end with the daemon".into());
            }
            pause(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

/// Who runs the programs.
pub(crate) fn user() -> Result<String> {
    let own = nix::unistd::Uid::effective();
    if own.is_root() && nix::unistd::User::from_name("pi")?.is_some() {
        return Ok("pi".to_owned());
    }
    Ok(nix::unistd::User::from_uid(own)?.ok_or("this user has no account")?.name)
}

/// Reads the log to its end, so that it never fills, and hands out its lines.
fn follow(log: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(std::io::Result::ok) {
            // Nobody asks for lines any more once it listens.
            let (Ok(()) | Err(_)) = sender.send(line);
        }
    });
    receiver
}

fn port(line: &str) -> Option<u16> {
    let (_, place) = line.split_once("listening on http")?;
    let place = place.split_whitespace().next()?.trim_end_matches('/');
    place.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn the_port_is_found_with_and_without_tls() {
        assert_eq!(port("INFO further-link 6.0.0 listening on http://127.0.0.1:4711"), Some(4711));
        assert_eq!(port("listening on https://localhost:8028 and all other addresses"), Some(8028));
        assert_eq!(port("ERROR cannot listen"), None);
    }
}
