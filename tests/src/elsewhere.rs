//! Clients on other machines: a daemon in a network of its own (network namespace, `network_namespaces(7)`), and
//! connections in there from addresses that are not its loopback's.

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

/// The network around one daemon.
#[derive(Debug)]
pub struct Elsewhere {
    namespace: File,
    port: u16,
}

impl Elsewhere {
    /// Has the daemon start in such a network, listening on all addresses.
    pub fn around(builder: Builder) -> Builder {
        let addresses = [SERVER, SERVER_V6].into_iter().chain(CLIENTS).map(|address| {
            let (bits, at_once) = if address.contains(':') { (128, " nodad") } else { (32, "") };
            format!("ip address add {address}/{bits} dev lo{at_once} && ")
        });
        let script = format!("ip link set lo up && {}exec \"$@\"", addresses.collect::<String>());
        builder.default_address().wrapped_in(&["unshare", "--net", "--", "sh", "-c", &script, "sh"])
    }

    /// The network of a daemon that was started so.
    pub fn of(daemon: &Daemon) -> Self {
        let namespace = File::open(format!("/proc/{}/ns/net", daemon.pid())).expect("the daemon runs");
        Self { namespace, port: daemon.address().port() }
    }

    /// Connects from one address to another one.
    #[track_caller]
    pub fn connect(&self, from: &str, to: &str) -> TcpStream {
        let (from, to): (IpAddr, IpAddr) = (from.parse().expect("address"), to.parse().expect("address"));
        let to = SocketAddr::new(to, self.port);
        // A thread of its own moves there; the socket stays there when the thread has ended.
        let connected = std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = socket(family, SocketType::STREAM, None)?;
                sockopt::set_socket_reuseaddr(&socket, true)?;
                bind(&socket, &SocketAddr::new(from, 0))?;
                connect(&socket, &to)?;
                Ok::<_, rustix::io::Errno>(socket)
            });
            there.join().expect("no panic")
        });
        let stream = TcpStream::from(connected.unwrap_or_else(|e| panic!("from {from} to {to}: {e}")));
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    }
}
