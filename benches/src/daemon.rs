//! One running daemon, the frontend and its listening helper: the release build, with an empty environment,
//! on a free port of the loopback. Ended by their pids.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Result, binaries::Binaries, pause, place::Place, procfs};

/// It listens within milliseconds.
const START_LIMIT: Duration = Duration::from_secs(10);
/// It waits for its programs for 5 s.
const END_LIMIT: Duration = Duration::from_secs(8);
/// After its start, and between two runs: the spare helper is ready again by then.
pub(crate) const SPARE_PAUSE: Duration = Duration::from_millis(4);

/// The accounts that a frontend becomes which root has started, the first that exists.
const SERVICE_ACCOUNTS: [&str; 2] = ["further-link", "nobody"];

/// The daemon.
pub(crate) struct Daemon {
    frontend: Child,
    helper: Child,
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    /// From the frontend's start to the line that says where it listens.
    pub(crate) took: Duration,
}

impl Daemon {
    /// Starts it and waits until it listens. As root the frontend becomes the service account, and the helper
    /// runs programs as `pi`, or as root where there is no such user.
    pub(crate) fn start(binaries: &Binaries, place: &Place, tls: bool) -> Result<Self> {
        let socket = place.socket();
        let helper = start_helper(binaries, place, &socket)?;
        let mut command = plain(&binaries.frontend);
        command.args(["--port", "0", "--address", "127.0.0.1", "--helper-socket"]).arg(&socket);
        if !tls {
            command.arg("--no-tls");
        }
        let begin = Instant::now();
        let mut frontend = command.stderr(Stdio::piped()).spawn()?;
        let lines = frontend.stderr.take().map(follow).ok_or("no log")?;
        let mut last = String::new();
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let mut daemon = Self { frontend, helper, address, tls, took: Duration::ZERO };
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
        i32::try_from(self.frontend.id()).unwrap_or_default()
    }

    /// The frontend, the listening helper, and its instances: what is ours of all processes, without the
    /// programs.
    pub(crate) fn processes(&self) -> Vec<procfs::Process> {
        let mut all = procfs::with_forks(self.pid());
        all.extend(procfs::with_forks(i32::try_from(self.helper.id()).unwrap_or_default()));
        all
    }

    fn end(&mut self) -> Result<()> {
        let all = self.processes();
        let frontend = end(&mut self.frontend);
        end(&mut self.helper).and(frontend)?;
        let limit = Instant::now() + END_LIMIT;
        while all.iter().any(procfs::Process::is_there) {
            if Instant::now() > limit {
                return Err("helpers did not end with the daemon".into());
            }
            pause(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Tells it to end, and waits for that.
fn end(child: &mut Child) -> Result<()> {
    if let Some(pid) = Pid::from_raw(i32::try_from(child.id())?) {
        kill_process(pid, Signal::TERM)?;
    }
    let limit = Instant::now() + END_LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() > limit {
            child.kill()?;
            child.wait()?;
            return Err("the daemon did not end by SIGTERM".into());
        }
        pause(Duration::from_millis(1));
    }
    Ok(())
}

fn plain(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The root side, listening.
fn start_helper(binaries: &Binaries, place: &Place, socket: &Path) -> Result<Child> {
    let mut command = plain(&binaries.helper);
    command.arg("--listen").arg(socket).args(["--allow-user", &user()?]);
    command.arg("--work-dir").arg(place.work()).arg("--temp-dir").arg(place.temp());
    if let Some(runners) = &binaries.runners {
        command.arg("--runners-dirs").arg(runners);
    }
    if nix::unistd::Uid::effective().is_root() {
        let mut accounts = SERVICE_ACCOUNTS.into_iter();
        let account =
            accounts.find(|name| nix::unistd::User::from_name(name).is_ok_and(|user| user.is_some()));
        command.args(["--frontend-user", account.ok_or("no account for the frontend")?]);
    }
    let helper = command.stderr(Stdio::null()).spawn()?;
    let end = Instant::now() + START_LIMIT;
    while !socket.exists() {
        if Instant::now() > end {
            return Err("the helper does not listen".into());
        }
        pause(Duration::from_millis(1));
    }
    Ok(helper)
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
            // Lines are not asked for any more once it listens.
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
