//! Who starts a kept program, attaches to it or ends it, for the log. Never a secret.

use std::{fmt, net::IpAddr};

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The client of a connection, by its number.
    Client { connection: u64, address: IpAddr },
    /// A process on the administrators' socket. Without an account if it cannot be seen from the user
    /// namespace of the service.
    Administrator { uid: Option<u32>, pid: Option<i32> },
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { connection, address } => {
                write!(f, "connection {connection} from {}", address.to_canonical())
            }
            Self::Administrator { uid, pid } => {
                f.write_str("a local administrator, ")?;
                match uid {
                    Some(uid) => write!(f, "uid {uid}")?,
                    None => f.write_str("of the service's group")?,
                }
                pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_an_address_or_an_account() {
        let address = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(Who::Client { connection: 5, address }.to_string(), "connection 5 from 192.0.2.7");
        let root = Who::Administrator { uid: Some(0), pid: Some(77) };
        assert_eq!(root.to_string(), "a local administrator, uid 0, pid 77");
        let member = Who::Administrator { uid: None, pid: None };
        assert_eq!(member.to_string(), "a local administrator, of the service's group");
    }
}
