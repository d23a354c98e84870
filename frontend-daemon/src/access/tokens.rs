//! The token that lets clients in: its file, and what a wrong guess costs. `access` compares; `listen` and
//! `session` ask here what a wrong guess costs.
//!
//! A wrong token is answered later and later, and then for a while not at all. No client is locked out by a
//! neighbour's mistakes: the device's right token always gets in, since 256 random bits are not found by
//! trying, however fast. A user's token is the helper's to compare, which is not asked for an address that
//! has guessed too often.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use further_link_api::UserFailure;
use further_link_proto::Token;
use nix::unistd::{Group, getegid, geteuid};
use tokio::sync::MutexGuard;

use crate::access::limits::Network;

/// Shorter ones can be guessed. `further-link token` makes 43 characters.
const MIN_TOKEN: usize = 22;
/// Group of the package's service, which reads the token's file.
const SERVICE_GROUP: &str = "further-link";
/// The first wrong token is answered after this, and each further one after twice the time before: a typing
/// mistake costs hardly any time.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// Longest delay: a browser waits that long without asking its person.
const LONGEST_DELAY: Duration = Duration::from_secs(4);
/// Wrong tokens from one address; further ones are refused at once. No person mistypes so often.
const MAX_FAILURES: u32 = 10;
/// This long after the last wrong token that counted all is forgotten.
const MEMORY: Duration = Duration::from_mins(1);
/// Addresses that are remembered: 2048 connections at once cannot come from more. Beyond, the oldest goes.
const MAX_ADDRESSES: usize = 2048;

/// What a wrong token costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Penalty {
    /// Answer after this time.
    Delay(Duration),
    /// Too many: ask again after this time.
    Blocked(Duration),
}

/// The networks that have shown wrong tokens lately.
#[derive(Default)]
pub(crate) struct Failures {
    networks: Mutex<HashMap<Network, Failed>>,
}

struct Failed {
    times: u32,
    last: Instant,
}

impl Failed {
    /// How long it still shuts its network out.
    fn blocks(&self, now: Instant) -> Option<Duration> {
        let left = MEMORY.checked_sub(now.duration_since(self.last))?;
        (self.times >= MAX_FAILURES && !left.is_zero()).then_some(left)
    }
}

impl Failures {
    /// Counts a wrong token.
    pub(crate) fn count(&self, network: Network) -> Penalty {
        self.count_at(network, Instant::now())
    }

    /// If this network is blocked: how long until its tokens are compared again.
    pub(crate) fn blocked(&self, network: Network) -> Option<Duration> {
        self.blocked_at(network, Instant::now())
    }

    fn count_at(&self, network: Network, now: Instant) -> Penalty {
        // Looked at and counted under one lock: of many guesses at once not one more is answered.
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = networks.get(&network).and_then(|failed| failed.blocks(now)) {
            return Penalty::Blocked(left);
        }
        networks.retain(|_, failed| now.duration_since(failed.last) < MEMORY);
        if networks.len() >= MAX_ADDRESSES && !networks.contains_key(&network) {
            let oldest = networks.iter().min_by_key(|(_, failed)| failed.last).map(|(network, _)| *network);
            oldest.map(|oldest| networks.remove(&oldest));
        }
        let failed = networks.entry(network).or_insert(Failed { times: 0, last: now });
        failed.times += 1;
        failed.last = now;
        let doubled = FIRST_DELAY * 2_u32.saturating_pow(failed.times - 1);
        Penalty::Delay(doubled.min(LONGEST_DELAY))
    }

    fn blocked_at(&self, network: Network, now: Instant) -> Option<Duration> {
        let networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        networks.get(&network)?.blocks(now)
    }
}

/// Whole seconds for people and `Retry-After`, never zero.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs() + 1
}

/// What is wrong with the file of `--token-file`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenFileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is not a file")]
    NoFile,
    #[error("others can read or write it: chmod o=,g-w")]
    Open,
    #[error("it belongs to uid {0}, who could change it: chown root")]
    Owner(u32),
    #[error("its group {0} can read it: chgrp further-link, or chmod g=")]
    Group(u32),
    #[error(
        "its first line is not a token of at least {MIN_TOKEN} printable characters: `further-link token` makes one"
    )]
    NoToken,
}

/// Reads the token, from a file that the world cannot have read or written.
pub(crate) fn read(path: &Path) -> Result<Token, TokenFileError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(TokenFileError::NoFile);
    }
    if metadata.mode() & 0o027 != 0 {
        return Err(TokenFileError::Open);
    }
    check_owner(&metadata)?;
    match Token::read_first_line(file) {
        Ok(token) if token.length() >= MIN_TOKEN => Ok(token),
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(error.into()),
        _ => Err(TokenFileError::NoToken),
    }
}

/// The file is root's or this account's own. Only the group of the service, root's or this account's own may
/// read it.
fn check_owner(metadata: &Metadata) -> Result<(), TokenFileError> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    if metadata.uid() != 0 && metadata.uid() != user {
        return Err(TokenFileError::Owner(metadata.uid()));
    }
    let service = || Group::from_name(SERVICE_GROUP).ok().flatten().map(|group| group.gid.as_raw());
    let known = |gid: u32| gid == 0 || gid == group || service() == Some(gid);
    if metadata.mode() & 0o040 != 0 && !known(metadata.gid()) {
        return Err(TokenFileError::Group(metadata.gid()));
    }
    Ok(())
}

/// Slows down a client that guesses the token of a user. The helper compares; this counts. One for each
/// connection.
#[derive(Clone)]
pub(crate) struct TokenAttempts {
    failures: Arc<Failures>,
    network: Network,
    /// Attempts of one connection wait for each other: many at once would all come before the first failure
    /// counts.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Held during an attempt.
pub(crate) struct Turn<'a>(#[expect(dead_code, reason = "held until it is dropped")] MutexGuard<'a, ()>);

impl TokenAttempts {
    /// For a client at this address.
    pub(crate) fn new(failures: Arc<Failures>, network: Network) -> Self {
        Self { failures, network, turn: Arc::default() }
    }

    /// Waits for the connection's other attempts. Once too many tokens were wrong it fails, and the helper is
    /// not asked.
    pub(crate) async fn begin(&self) -> Result<Turn<'_>, UserFailure> {
        let turn = Turn(self.turn.lock().await);
        match self.failures.blocked(self.network) {
            None => Ok(turn),
            Some(time) => Err(UserFailure::Blocked { seconds: seconds(time) }),
        }
    }

    /// Counts a wrong token, and delays its answer.
    pub(crate) async fn wrong(&self) {
        if let Penalty::Delay(time) = self.failures.count(self.network) {
            tokio::time::sleep(time).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    fn network(number: u32) -> Network {
        Network::of(std::net::Ipv4Addr::from(number).into())
    }

    #[test]
    fn wrong_tokens_are_answered_later_and_later_and_then_refused_until_all_is_forgotten() {
        let failures = Failures::default();
        let start = Instant::now();
        let delays: Vec<_> = (0..MAX_FAILURES).map(|_| failures.count_at(network(1), start)).collect();
        let expected = [500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000];
        assert_eq!(delays, expected.map(|millis| Penalty::Delay(Duration::from_millis(millis))));
        let later = start + Duration::from_secs(59);
        assert_eq!(failures.count_at(network(1), later), Penalty::Blocked(Duration::from_secs(1)));
        assert_eq!(failures.blocked_at(network(1), later), Some(Duration::from_secs(1)));
        assert_eq!(failures.blocked_at(network(2), later), None, "another address");
        assert_eq!(failures.blocked_at(network(1), start + MEMORY), None);
        assert_eq!(failures.count_at(network(1), start + MEMORY), Penalty::Delay(FIRST_DELAY));
    }

    #[test]
    fn of_many_guesses_at_once_ten_are_answered() {
        for round in 0..200 {
            let failures = Failures::default();
            let start = std::sync::Barrier::new(16);
            let guess = || {
                start.wait();
                matches!(failures.count(network(round)), Penalty::Delay(_))
            };
            let answered: usize = std::thread::scope(|scope| {
                let guesses: Vec<_> = (0..16).map(|_| scope.spawn(guess)).collect();
                guesses.into_iter().map(|guess| usize::from(guess.join().unwrap())).sum()
            });
            assert_eq!(answered, 10, "round {round}");
        }
    }

    #[test]
    fn the_table_does_not_grow_beyond_its_limit() {
        let failures = Failures::default();
        let start = Instant::now();
        for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() + 100 {
            failures.count_at(network(number), start + Duration::from_millis(u64::from(number)));
        }
        let networks = failures.networks.lock().unwrap();
        assert_eq!(networks.len(), MAX_ADDRESSES);
        assert!(!networks.contains_key(&network(99)) && networks.contains_key(&network(100)));
    }

    #[expect(clippy::disallowed_methods, reason = "a file of another account is what is tested")]
    #[test]
    fn a_token_file_must_be_private_and_long_enough() {
        let path = std::env::temp_dir().join(format!("further-link-tokens.{}", std::process::id()));
        let with = |content: &str, mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            read(&path)
        };
        let token = "x".repeat(MIN_TOKEN);
        for (content, mode) in [(token.clone(), 0o600), (format!("{token}\r\n\n"), 0o640)] {
            assert!(with(&content, mode).is_ok_and(|read| read.is(&Token::new(token.as_str()).unwrap())));
        }
        for mode in [0o644, 0o604, 0o602, 0o620, 0o666] {
            assert!(matches!(with(&token, mode), Err(TokenFileError::Open)), "{mode:o}");
        }
        for content in ["", "\n", &format!("\n{token}"), &token[1..], &token.replacen('x', " ", 2)] {
            assert!(matches!(with(content, 0o600), Err(TokenFileError::NoToken)), "{content:?}");
        }
        if geteuid().is_root() {
            with(&token, 0o640).unwrap();
            std::os::unix::fs::chown(&path, None, Some(29)).unwrap();
            assert!(matches!(read(&path), Err(TokenFileError::Group(29))));
            std::os::unix::fs::chown(&path, Some(1), None).unwrap();
            assert!(matches!(read(&path), Err(TokenFileError::Owner(1))));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(TokenFileError::Io(_))));
        assert!(matches!(read(Path::new("/dev")), Err(TokenFileError::NoFile)));
    }
}
