//! Another server for the same work, where this machine has it: `websocketd`, from Debian's package of that
//! name. A connection there is one program on pipes, with no users, no JSON and no process of root: it does
//! less.

use std::{
    ffi::OsStr,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Result, bare::Times, client::Client, pause};

/// It listens within milliseconds.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The server, for one program.
pub(crate) struct Peer {
    process: Child,
    address: SocketAddr,
}

impl Peer {
    /// Starts it for this program and its arguments. None where it is not installed, which is said.
    pub(crate) fn start(program: &[&OsStr]) -> Result<Option<Self>> {
        // Free a moment ago; it takes no listener that is open.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new("websocketd");
        command.args(["--loglevel=fatal", "--address=127.0.0.1", &format!("--port={}", address.port())]);
        command.args(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("NOT MEASURED beside a peer: there is no websocketd here (apt install websocketd)");
                return Ok(None);
            }
            spawned => spawned?,
        };
        let peer = Self { process, address };
        let end = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > end {
                return Err("websocketd does not listen".into());
            }
            pause(Duration::from_millis(1));
        }
        Ok(Some(peer))
    }

    /// One run, which begins with its connection.
    pub(crate) fn run(&self, expected: &[u8]) -> Result<Times> {
        let begin = Instant::now();
        let mut client = Client::of_peer(self.address)?;
        let started = begin.elapsed();
        let (mut first, mut output) = (None, Vec::new());
        // It sends lines, without their ends.
        while let Some(line) = client.text()? {
            first = first.or_else(|| Some(begin.elapsed()));
            output.extend_from_slice(line);
            output.push(b'\n');
        }
        let stopped = begin.elapsed();
        if output == expected {
            Ok(Times { started, first, stopped })
        } else {
            Err(format!("websocketd: output {:?}", String::from_utf8_lossy(&output)).into())
        }
    }

    /// A program that stays, once it has said something.
    pub(crate) fn open(&self) -> Result<Client> {
        let mut client = Client::of_peer(self.address)?;
        client.text()?.ok_or("websocketd: the program has ended")?;
        Ok(client)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("websocketd: {error}");
        }
    }
}
