//! Places: how many connections there may be at once, in all and from one address, and how many bytes of unfinished
//! messages all of them may make this process keep.
//!
//! `listen` takes a place for each connection it accepts; the place goes with the connection. The devices of a home or a
//! school reach the network by one IPv6 /64, and one machine can have all addresses of it: that is one address here.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes of unfinished messages, over all connections: sixteen of the largest. The unit's `MemoryMax=` is four times that.
const MAX_UNFINISHED: usize = 64 * 1024 * 1024;
/// The same from one address that is not this machine's: others get through whatever one does.
const MAX_UNFINISHED_PER_ADDRESS: usize = MAX_UNFINISHED / 4;

/// Addresses that count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

impl Network {
    /// The one that an address belongs to.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(ip) if !ip.is_loopback() => {
                let mut octets = ip.octets();
                let (_, host) = octets.split_at_mut(8);
                host.fill(0);
                Self(Ipv6Addr::from(octets).into())
            }
            other => Self(other),
        }
    }
}

/// All places.
pub(crate) struct Places {
    total: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: Use,
    networks: HashMap<Network, Use>,
}

/// What is in use.
#[derive(Default)]
struct Use {
    connections: usize,
    unfinished: usize,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("{0} connections are open (--max-connections)")]
    Total(usize),
    #[error("{0} connections from this address are open (--max-connections-per-address)")]
    Address(usize),
}

impl Places {
    /// So many connections in all, and so many of them from one address.
    pub(crate) fn new(total: usize, per_address: usize) -> Self {
        Self { total, per_address, taken: Mutex::default() }
    }

    /// A place for a connection from this address. Only the total counts for this machine's own, which are no strangers.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let network = Network::of(address);
        let mut taken = self.lock();
        if taken.all.connections >= self.total {
            return Err(Full::Total(self.total));
        }
        let here = taken.networks.entry(network).or_default();
        if here.connections >= self.per_address && !network.0.is_loopback() {
            return Err(Full::Address(self.per_address));
        }
        here.connections += 1;
        taken.all.connections += 1;
        Ok(Place { places: Arc::clone(self), network })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    network: Network,
}

impl Place {
    pub(crate) fn network(&self) -> Network {
        self.network
    }

    /// Counts bytes of an unfinished message; false if there are too many already.
    pub(crate) fn hold(&self, bytes: usize) -> bool {
        let mut taken = self.places.lock();
        let all = taken.all.unfinished.saturating_add(bytes);
        let Some(here) = taken.networks.get_mut(&self.network) else { return false };
        let of_address = here.unfinished.saturating_add(bytes);
        let own = self.network.0.is_loopback();
        if all > MAX_UNFINISHED || of_address > MAX_UNFINISHED_PER_ADDRESS && !own {
            return false;
        }
        here.unfinished = of_address;
        taken.all.unfinished = all;
        true
    }

    /// Gives back what was held.
    pub(crate) fn release(&self, bytes: usize) {
        let mut taken = self.places.lock();
        taken.all.unfinished = taken.all.unfinished.saturating_sub(bytes);
        if let Some(here) = taken.networks.get_mut(&self.network) {
            here.unfinished = here.unfinished.saturating_sub(bytes);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all.connections = taken.all.connections.saturating_sub(1);
        let Some(here) = taken.networks.get_mut(&self.network) else { return };
        here.connections = here.connections.saturating_sub(1);
        if here.connections == 0 {
            taken.networks.remove(&self.network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_share_and_all_have_one_limit() {
        let places = Arc::new(Places::new(5, 2));
        let mut held: Vec<_> =
            ["10.0.0.1", "::ffff:10.0.0.1"].map(|text| places.take(ip(text)).unwrap()).into();
        assert_eq!(places.take(ip("10.0.0.1")).err(), Some(Full::Address(2)));
        held.extend(["127.0.0.1", "127.0.0.1", "127.0.0.1"].map(|text| places.take(ip(text)).unwrap()));
        assert_eq!(places.take(ip("10.0.0.2")).err(), Some(Full::Total(5)));
        held.remove(0);
        assert!(places.take(ip("10.0.0.1")).is_ok());
        drop(held);
        assert!(places.lock().networks.is_empty(), "nothing is remembered of those who have gone");
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let places = Arc::new(Places::new(5, 1));
        let held = places.take(ip("2001:db8:1:2:3:4:5:6")).unwrap();
        assert_eq!(places.take(ip("2001:db8:1:2::1")).err(), Some(Full::Address(1)));
        assert!(places.take(ip("2001:db8:1:3:3:4:5:6")).is_ok());
        drop(held);
    }

    #[test]
    fn unfinished_bytes_are_bounded_in_all_and_for_each_address() {
        let places = Arc::new(Places::new(9, 9));
        let one = places.take(ip("10.0.0.1")).unwrap();
        assert!(one.hold(MAX_UNFINISHED_PER_ADDRESS));
        assert!(!one.hold(1));
        let others: Vec<_> = (2..5).map(|n| places.take(ip(&format!("10.0.0.{n}"))).unwrap()).collect();
        assert!(others.iter().all(|place| place.hold(MAX_UNFINISHED_PER_ADDRESS)));
        let own = places.take(ip("127.0.0.1")).unwrap();
        assert!(!own.hold(1), "all is in use");
        one.release(MAX_UNFINISHED_PER_ADDRESS);
        assert!(own.hold(MAX_UNFINISHED_PER_ADDRESS));
    }
}
