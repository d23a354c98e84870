//! The file that says what to execute: one of the service's folders, or, if the client asked for it, of the
//! user's own. Read as the user.

use std::io;

use further_link_proto::RunnerId;
use further_link_runners::{Folder, ReadError, Runner, Trust};
use nix::errno::Errno;
use tracing::warn;

use crate::{account::Account, identity::IsUser};

/// Where a user's own files are, below the home.
const OWN_FOLDER: &str = ".config/further-link/runners.d";

/// The runner of this id. The reason is "no such file", "not permitted" or "invalid".
pub(crate) fn read(
    _: IsUser,
    id: &RunnerId,
    account: &Account,
    folders: &[Folder],
    trust: Trust,
) -> io::Result<Runner> {
    let read = match id.own() {
        Some(own) => {
            let folder = account.home.join(OWN_FOLDER);
            further_link_runners::read(&[Folder::new(folder)], own, Trust::also(account.uid.as_raw()))
        }
        None => further_link_runners::read(folders, id.as_str(), trust),
    };
    match read {
        Ok(found) => found.ok_or_else(|| Errno::ENOENT.into()),
        Err(error) => {
            warn!("runner {id}: {error}");
            Err(match error {
                ReadError::NotTrusted(_) => Errno::EPERM.into(),
                ReadError::Format(..) | ReadError::NoText(_) => Errno::EINVAL.into(),
                ReadError::Io(_, error) => error,
            })
        }
    }
}
