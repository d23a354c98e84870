//! How many connections there may be at once, in all and from one network, and which room for unfinished
//! messages each of them shares.
//!
//! `listen` reserves a permit for each connection that it accepts. Connections that no decision has let in
//! yet live in a small pool of their own; when it is full the oldest goes, of the network that has most (as
//! sshd's `MaxStartups` drops connections before the login). A connection that was let in keeps its permit
//! for as long as it lasts.
//!
//! The devices of a home or a school reach the network by one IPv6 /64, and one machine can have all
//! addresses of it: that is one network here.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::memory::budget::{Budget, MAX_UNFINISHED};

/// Connections that were not let in yet: each costs a TLS handshake's memory, and a client needs one for some
/// milliseconds.
const MAX_WAITING: usize = 1024;
/// The same from one network: a class of thirty behind one router, each with the six connections of a page.
const MAX_WAITING_PER_ADDRESS: usize = 192;
/// The same from this machine, where a proxy may stand for many clients.
const MAX_WAITING_LOOPBACK: usize = 512;
/// Bytes of unfinished messages from one address that is not this machine's, of those of all: others get
/// through whatever one does.
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

    fn most_waiting(self) -> usize {
        if self.0.is_loopback() { MAX_WAITING_LOOPBACK } else { MAX_WAITING_PER_ADDRESS }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(ip) if !ip.is_loopback() => write!(f, "{ip}/64"),
            other => write!(f, "{other}"),
        }
    }
}

/// The limits, and what is in use of them.
pub(crate) struct ConnectionLimits {
    total: usize,
    per_address: usize,
    /// For the unfinished messages of all connections.
    messages: Budget,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    let_in: usize,
    networks: HashMap<Network, Use>,
    waiting: HashMap<u64, Waiting>,
    /// The number of the next connection.
    next: u64,
}

/// What one network uses.
struct Use {
    let_in: usize,
    /// For its unfinished messages.
    messages: Budget,
    /// Connections that were not let in yet, in the order of their beginning: those that are silent, and
    /// those that have sent something.
    silent: BTreeSet<u64>,
    spoken: BTreeSet<u64>,
}

impl Use {
    fn new(messages: Budget) -> Self {
        Self { let_in: 0, messages, silent: BTreeSet::new(), spoken: BTreeSet::new() }
    }

    fn waiting(&self) -> usize {
        self.silent.len() + self.spoken.len()
    }

    /// The connection to close for a newer one: the oldest of the silent ones, or of the others, whichever
    /// are more. So a flood of one kind does not push out a client that is further on, or not as far.
    fn oldest(&self) -> Option<u64> {
        let more = if self.spoken.len() > self.silent.len() { &self.spoken } else { &self.silent };
        more.first().copied()
    }
}

/// A connection that was not let in yet.
struct Waiting {
    network: Network,
    evict: oneshot::Sender<()>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too many connections are open (--max-connections, FURTHER_LINK_MAX_CONNECTIONS)")]
    Total,
    #[error(
        "{0} connections from this address are open (--max-connections-per-address, \
         FURTHER_LINK_MAX_CONNECTIONS_PER_ADDRESS)"
    )]
    Address(usize),
}

impl ConnectionLimits {
    /// Most connections that were let in, in all and from one network.
    pub(crate) fn new(total: usize, per_address: usize, messages: Budget) -> Self {
        Self { total, per_address, messages, used: Mutex::default() }
    }

    /// A permit for a connection that was just accepted, and what completes when it has to go for a newer
    /// one.
    pub(crate) fn reserve(self: &Arc<Self>, address: IpAddr) -> (ConnectionPermit, Eviction) {
        let network = Network::of(address);
        let mut used = self.lock();
        if used.networks.get(&network).is_some_and(|here| here.waiting() >= network.most_waiting()) {
            used.evict_oldest_of(network);
        } else if used.waiting.len() >= MAX_WAITING
            && let Some(greediest) = used.network_with_most_waiting()
        {
            used.evict_oldest_of(greediest);
        }
        let number = used.next;
        used.next += 1;
        let here = used.networks.entry(network).or_insert_with(|| Use::new(self.messages_of(network)));
        here.silent.insert(number);
        let messages = here.messages.clone();
        let (evict, evicted) = oneshot::channel();
        used.waiting.insert(number, Waiting { network, evict });
        let limits = Arc::clone(self);
        let let_in = Mutex::new(false);
        (ConnectionPermit { limits, network, number, messages, let_in }, Eviction(evicted))
    }

    fn messages_of(&self, network: Network) -> Budget {
        let is_own = network.0.is_loopback();
        if is_own { self.messages.clone() } else { self.messages.share(MAX_UNFINISHED_PER_ADDRESS) }
    }

    /// Whether a network that has `here` connections may have one more, of `used` in all.
    ///
    /// While half of all is free a network may have its full share. Below that the share shrinks with the
    /// square of what is free, down to one: so four networks that take all they can leave half, and the
    /// next hundred cannot take all of it. This machine's share is half of all, since a proxy here may
    /// stand for many clients.
    fn check(&self, network: Network, here: usize, used: usize) -> Result<(), Full> {
        let free = self.total.saturating_sub(used);
        let is_loopback = network.0.is_loopback();
        let full_share = if is_loopback { self.total.div_ceil(2) } else { self.per_address };
        let share = match (2 * free).checked_div(self.total) {
            Some(0) => (full_share * (2 * free).pow(2) / self.total.pow(2)).max(1),
            _ => full_share,
        };
        match () {
            () if free == 0 => Err(Full::Total),
            () if here < share => Ok(()),
            () if here >= self.per_address && !is_loopback => Err(Full::Address(self.per_address)),
            () => Err(Full::Total),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    fn network_with_most_waiting(&self) -> Option<Network> {
        let most = self.networks.iter().max_by_key(|(_, network)| network.waiting())?;
        Some(*most.0)
    }

    fn evict_oldest_of(&mut self, network: Network) {
        let oldest = self.networks.get(&network).and_then(Use::oldest);
        if let Some(number) = oldest
            && let Some(waiting) = self.end_waiting(number)
        {
            // Its task may have ended just now.
            let (Ok(()) | Err(())) = waiting.evict.send(());
        }
    }

    /// Takes a connection out of the pool. None if it is not in there any more.
    fn end_waiting(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        if let Some(network) = self.networks.get_mut(&waiting.network) {
            network.silent.remove(&number);
            network.spoken.remove(&number);
        }
        self.forget_if_unused(waiting.network);
        Some(waiting)
    }

    fn forget_if_unused(&mut self, network: Network) {
        if self.networks.get(&network).is_some_and(|here| here.let_in == 0 && here.waiting() == 0) {
            self.networks.remove(&network);
        }
    }
}

/// Completes when a connection has to make room for a newer one; never once it was let in.
pub(crate) struct Eviction(oneshot::Receiver<()>);

impl Eviction {
    pub(crate) async fn wait(self) {
        if self.0.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One connection's permit, until it is dropped.
pub(crate) struct ConnectionPermit {
    limits: Arc<ConnectionLimits>,
    network: Network,
    number: u64,
    messages: Budget,
    let_in: Mutex<bool>,
}

impl ConnectionPermit {
    pub(crate) fn network(&self) -> Network {
        self.network
    }

    /// The number of the connection since the start, for the log.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The client has sent its first byte.
    pub(crate) fn note_first_byte(&self) {
        let mut used = self.limits.lock();
        if let Some(here) = used.networks.get_mut(&self.network)
            && here.silent.remove(&self.number)
        {
            here.spoken.insert(self.number);
        }
    }

    /// Moves the connection from the pool to those that were let in. True if it is the first time.
    pub(crate) fn let_in(&self) -> Result<bool, Full> {
        let mut let_in = self.let_in.lock().unwrap_or_else(PoisonError::into_inner);
        if *let_in {
            return Ok(false);
        }
        let mut used = self.limits.lock();
        let here = used.networks.get(&self.network).map_or(0, |here| here.let_in);
        self.limits.check(self.network, here, used.let_in)?;
        used.let_in += 1;
        if let Some(here) = used.networks.get_mut(&self.network) {
            here.let_in += 1;
        }
        used.end_waiting(self.number);
        *let_in = true;
        Ok(true)
    }

    /// The room for its unfinished messages.
    pub(crate) fn messages(&self) -> &Budget {
        &self.messages
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let let_in = *self.let_in.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut used = self.limits.lock();
        if !let_in {
            drop(used.end_waiting(self.number));
            return;
        }
        used.let_in = used.let_in.saturating_sub(1);
        if let Some(here) = used.networks.get_mut(&self.network) {
            here.let_in = here.let_in.saturating_sub(1);
        }
        used.forget_if_unused(self.network);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limits(total: usize, per_address: usize) -> Arc<ConnectionLimits> {
        Arc::new(ConnectionLimits::new(total, per_address, Budget::new(MAX_UNFINISHED)))
    }

    /// A connection that was let in, or why not.
    fn let_in(limits: &Arc<ConnectionLimits>, address: &str) -> Result<ConnectionPermit, Full> {
        let (permit, _) = limits.reserve(ip(address));
        permit.let_in().map(|_| permit)
    }

    #[test]
    fn each_address_has_its_own_share_of_those_that_were_let_in() {
        let limits = limits(100, 2);
        let mut held: Vec<_> =
            ["10.0.0.1", "::ffff:10.0.0.1"].map(|text| let_in(&limits, text).unwrap()).into();
        assert_eq!(let_in(&limits, "10.0.0.1").err(), Some(Full::Address(2)));
        assert!(let_in(&limits, "10.0.0.2").is_ok());
        held.extend(["127.0.0.1"; 5].map(|text| let_in(&limits, text).unwrap()));
        held.remove(0);
        assert!(let_in(&limits, "10.0.0.1").is_ok());
        drop(held);
        assert!(limits.lock().networks.is_empty(), "nothing is remembered of those that have gone");
        assert!(limits.lock().waiting.is_empty());
    }

    #[test]
    fn whatever_a_hundred_networks_take_another_one_is_let_in() {
        for greedy in [0, 1, 8, 64, 100] {
            let limits = limits(2048, 256);
            let mut held = Vec::new();
            let networks = (0..greedy).map(|n| format!("10.0.0.{n}")).chain(["127.0.0.1".to_owned()]);
            for address in networks {
                while let Ok(permit) = let_in(&limits, &address) {
                    held.push(permit);
                }
            }
            assert!(let_in(&limits, "10.0.1.1").is_ok(), "beside {greedy} networks with {}", held.len());
        }
    }

    #[test]
    fn a_class_behind_one_router_has_its_full_share() {
        let limits = limits(2048, 256);
        let held: Vec<_> =
            (0..4 * 256).map(|n| let_in(&limits, &format!("10.0.0.{}", n % 4)).unwrap()).collect();
        assert_eq!(let_in(&limits, "10.0.0.1").err(), Some(Full::Address(256)));
        drop(held);
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let limits = limits(50, 1);
        let held = let_in(&limits, "2001:db8:1:2:3:4:5:6").unwrap();
        assert_eq!(let_in(&limits, "2001:db8:1:2::1").err(), Some(Full::Address(1)));
        assert!(let_in(&limits, "2001:db8:1:3:3:4:5:6").is_ok());
        assert_eq!(held.network().to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn the_oldest_of_the_greediest_network_makes_room_and_no_other() {
        let limits = limits(2048, 256);
        let (neighbour, of_neighbour) = limits.reserve(ip("10.0.1.1"));
        let mut of_neighbour = Box::pin(of_neighbour.wait());
        let mut held = Vec::new();
        let mut evictions = Vec::new();
        for number in 0..2 * MAX_WAITING {
            let (permit, eviction) = limits.reserve(ip(&format!("10.0.0.{}", number % 64)));
            held.push(permit);
            evictions.push(Box::pin(eviction.wait()));
        }
        assert!(limits.lock().waiting.len() <= MAX_WAITING);
        assert!(evictions.first_mut().unwrap().now_or_never().is_some(), "the oldest has gone");
        assert!(evictions.last_mut().unwrap().now_or_never().is_none());
        assert!(of_neighbour.as_mut().now_or_never().is_none());
        assert_eq!(neighbour.let_in(), Ok(true));
        assert_eq!(neighbour.let_in(), Ok(false));
        drop(held);
        assert!(of_neighbour.as_mut().now_or_never().is_none(), "it was let in and stays");
    }

    #[test]
    fn one_address_waits_with_its_share_and_replaces_its_own() {
        let limits = limits(2048, 256);
        let (other, of_other) = limits.reserve(ip("10.0.0.2"));
        let held: Vec<_> = (0..2 * MAX_WAITING_PER_ADDRESS).map(|_| limits.reserve(ip("10.0.0.1"))).collect();
        assert_eq!(limits.lock().waiting.len(), MAX_WAITING_PER_ADDRESS + 1);
        assert!(Box::pin(of_other.wait()).now_or_never().is_none());
        drop((other, held));
        assert!(limits.lock().networks.is_empty());
    }

    #[test]
    fn unfinished_bytes_are_bounded_in_all_and_for_each_address() {
        let limits = limits(90, 9);
        let take = |permit: &ConnectionPermit, bytes| permit.messages().try_take(bytes);
        let one = let_in(&limits, "10.0.0.1").unwrap();
        let first = take(&one, MAX_UNFINISHED_PER_ADDRESS).unwrap();
        let again = let_in(&limits, "10.0.0.1").unwrap();
        assert!(take(&again, 1).is_none(), "an address has one share for all its connections");
        let others: Vec<_> = (2..5).map(|n| let_in(&limits, &format!("10.0.0.{n}")).unwrap()).collect();
        let all: Vec<_> = others.iter().map(|permit| take(permit, MAX_UNFINISHED_PER_ADDRESS)).collect();
        assert!(all.iter().all(Option::is_some));
        let own = let_in(&limits, "127.0.0.1").unwrap();
        assert!(take(&own, 1).is_none(), "all is in use");
        drop(first);
        assert!(take(&own, MAX_UNFINISHED_PER_ADDRESS).is_some());
    }
}
