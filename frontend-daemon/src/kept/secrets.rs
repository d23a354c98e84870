//! The secrets of clients, and the keys of their programs: kept as hashes.

use further_link_proto::are_same;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// The hash of a secret.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    pub(crate) fn of(secret: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        Self(hash)
    }

    /// Whether both are of the same secret. It takes as long for any two.
    pub(crate) fn is(&self, other: &Self) -> bool {
        are_same(&self.0, &other.0)
    }
}

/// To whom a kept program belongs.
#[derive(Clone)]
pub(crate) enum Owner {
    /// The client with this secret, on any connection.
    Client(Hash),
    /// A connection without such a secret, by its number.
    Connection(u64),
    /// Who owns none: an administrator that watches, or a client of an earlier process of this service.
    Nobody,
}

impl Owner {
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Client(one), Self::Client(other)) => one.is(other),
            (Self::Connection(one), Self::Connection(other)) => one == other,
            (Self::Client(_) | Self::Connection(_) | Self::Nobody, _) => false,
        }
    }

    /// The hash of its secret, if it has one.
    pub(super) fn secret(&self) -> Option<&Hash> {
        match self {
            Self::Client(hash) => Some(hash),
            Self::Connection(_) | Self::Nobody => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_known_by_their_secret_or_else_by_their_connection() {
        let client = |secret: &str| Owner::Client(Hash::of(secret));
        assert!(client("a").is(&client("a")) && !client("a").is(&client("b")));
        assert!(Owner::Connection(1).is(&Owner::Connection(1)));
        assert!(!Owner::Connection(1).is(&Owner::Connection(2)) && !client("1").is(&Owner::Connection(1)));
    }
}
