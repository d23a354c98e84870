//! The addresses of this device: for the names in its own certificate, and to be refused when something is
//! downloaded.
//!
//! Read from /proc: the usual way, a netlink socket, is closed to the packaged frontend
//! (`RestrictAddressFamilies=`), and should stay so. Where /proc does not tell, there are none.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Most addresses of one kind that are used. A device with more (container hosts) is not named by them.
const MOST: usize = 16;
/// `IFA_F_TEMPORARY` (`if_addr.h`): a privacy address, gone tomorrow.
const TEMPORARY: u32 = 1;

/// All of them that last, without those of loopback.
pub(crate) fn of_this_device() -> Vec<IpAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let v4 = parse_v4(&read("/proc/self/net/fib_trie")).into_iter().take(MOST).map(IpAddr::V4);
    let v6 = parse_v6(&read("/proc/self/net/if_inet6"), TEMPORARY).into_iter().take(MOST).map(IpAddr::V6);
    v4.chain(v6).collect()
}

/// Whether it is one of them, temporary ones included.
pub(crate) fn is_of_this_device(address: IpAddr) -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    match address.to_canonical() {
        IpAddr::V4(address) => parse_v4(&read("/proc/self/net/fib_trie")).contains(&address),
        IpAddr::V6(address) => parse_v6(&read("/proc/self/net/if_inet6"), 0).contains(&address),
    }
}

/// Of the routing tables: each address stands in a line of its own, and what it is in the line below.
fn parse_v4(trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.filter(|address: &Ipv4Addr| !address.is_loopback())
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// One line for each: address, number of the interface, length of the prefix, scope, flags, name; all
/// hexadecimal. Without those that have one of these flags.
fn parse_v6(table: &str, unwanted: u32) -> Vec<Ipv6Addr> {
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let scope = u32::from_str_radix(fields.nth(2)?, 16).ok()?;
        let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
        // Scope 0 is global. A link-local address means nothing without the name of an interface.
        (scope == 0 && flags & unwanted == 0).then(|| Ipv6Addr::from(address))
    };
    table.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 192.0.2.0/24 2 0 2
        +-- 192.0.2.0/30 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
Local:
           |-- 192.0.2.2
              /32 host LOCAL
";

    #[test]
    fn addresses_of_interfaces_are_found_and_no_others() {
        assert_eq!(parse_v4(TRIE), [Ipv4Addr::new(192, 0, 2, 2)]);
        let table = "fd000000000000000000000000000002 04 40 00 82     eth0
20010db8000000000000000000000001 02 40 00 01     eth0
00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
";
        assert_eq!(parse_v6(table, TEMPORARY), ["fd00::2".parse::<Ipv6Addr>().unwrap()]);
        assert!(parse_v4("").is_empty() && parse_v6("nonsense\n\n0 0 0 0\n", TEMPORARY).is_empty());
    }
}
