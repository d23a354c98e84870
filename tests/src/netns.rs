//! Clients on other machines: a daemon in a network of its own (network namespace, `network_namespaces(7)`),
//! and connections in there from addresses that are not its loopback's.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::daemon::{Builder, Daemon};
use crate::wait::DEADLINE;

/// The daemon's address there.
pub const SERVER: &str = "192.0.2.1";
/// The daemon's address there, in IPv6.
pub const SERVER_V6: &str = "2001:db8:1::1";
/// Addresses for clients, from networks for documentation (RFC 5737, RFC 3849). The last two are of one /64.
const CLIENTS: [&str; 5] = ["192.0.2.2", "192.0.2.3", "2001:db8:1::2", "2001:db8:2::2", "2001:db8:2::3"];

/// A network of 253 more clients: the first three parts of their addresses.
pub const CROWD: &str = "198.18.7";

/// The network around one daemon.
#[derive(Debug)]
pub struct Network {
    namespace: File,
    port: u16,
}

impl Network {
    /// Has the daemon start in such a network, listening on all addresses.
    pub fn around(builder: Builder) -> Builder {
        let addresses = [SERVER, SERVER_V6].into_iter().chain(CLIENTS).map(|address| {
            let (bits, at_once) = if address.contains(':') { (128, " nodad") } else { (32, "") };
            format!("ip address add {address}/{bits} dev lo{at_once} && ")
        });
        // All of a local network is local, so a client can be at any address of it.
        let crowd = format!("ip address add {CROWD}.1/24 dev lo && ");
        let script = format!("ip link set lo up && {crowd}{}exec \"$@\"", addresses.collect::<String>());
        builder.default_address().wrapped_in(&["unshare", "--net", "--", "sh", "-c", &script, "sh"])
    }

    /// The network of a daemon that was started so.
    pub fn of(daemon: &Daemon) -> Self {
        let namespace = File::open(format!("/proc/{}/ns/net", daemon.pid())).expect("the daemon runs");
        Self { namespace, port: daemon.address().port() }
    }

    /// Runs this in a thread of its own there: what it connects to and listens on is in that network.
    pub fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("the network is there");
                run()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The daemon's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connects from one address to another one.
    #[track_caller]
    pub fn connect(&self, from: &str, to: &str) -> TcpStream {
        let (from, to): (IpAddr, IpAddr) = (from.parse().expect("address"), to.parse().expect("address"));
        let to = SocketAddr::new(to, self.port);
        let connected = self.inside(|| connect_from(from, to));
        let stream = connected.unwrap_or_else(|e| panic!("from {from} to {to}: {e}"));
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    }
}

/// Connects from an address of this network.
pub fn connect_from(from: IpAddr, to: SocketAddr) -> rustix::io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}
