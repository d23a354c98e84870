//! The messages of the files service: what is asked of the user's files, and what is said of them. The list
//! of a directory does not fit a message: it comes through a pipe, as [`Listing`].

use bincode::{Decode, Encode, config};

use crate::{
    codec::CodecError,
    message::Identity,
    value::{RelativePath, UploadId},
};

/// One thing to do with the files below a user's work dir.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Files {
    /// The user to become.
    pub identity: Identity,
    /// What to do.
    pub act: FilesAct,
}

/// What can be done with files.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FilesAct {
    /// Say what the directory has.
    List {
        /// Which one; none means the work dir.
        path: Option<RelativePath>,
    },
    /// Open a file, or put a directory into an archive.
    Read {
        /// Which one. Links are followed as far as they stay below the work dir.
        path: RelativePath,
    },
    /// Put a file into its place, as a whole or not at all. Its content follows through the pipe of
    /// [`crate::Event::Data`], and [`crate::Request::Commit`] says that it is complete.
    Write(Write),
    /// Say how much of a resumable upload has come.
    Progress {
        /// Which one.
        upload: UploadId,
    },
    /// Give another name to what has this one, and never to something else as well.
    Rename {
        /// The name now.
        from: RelativePath,
        /// The name then; nothing may have it.
        to: RelativePath,
    },
    /// Make a directory.
    MakeDirectory {
        /// Where.
        path: RelativePath,
    },
    /// Remove a file, a link, or a directory with all that it has.
    Remove {
        /// Which one.
        path: RelativePath,
    },
}

/// A file to put into its place.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Write {
    /// The place.
    pub path: RelativePath,
    /// Make the directories that it needs.
    pub parents: bool,
    /// What must be there now.
    pub condition: Condition,
    /// Which part this is, if the upload comes in parts.
    pub part: Option<Part>,
}

/// A part of a resumable upload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// Which upload.
    pub upload: UploadId,
    /// How many bytes have come before.
    pub offset: u64,
    /// How many bytes the file will have.
    pub total: u64,
}

/// What must be in a place for a file to go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Condition {
    /// Nothing, or a file.
    Any,
    /// Nothing.
    Absent,
    /// A file.
    Present,
    /// This version of a file.
    Same(FileVersion),
}

/// What tells versions of files apart: a file that was replaced is another inode, and one that was written to
/// has another size or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FileVersion {
    /// The number of its file system.
    pub device: u64,
    /// The number of the inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970 of the last change of its content.
    pub seconds: i64,
    /// Nanoseconds behind these.
    pub nanoseconds: u32,
}

/// What a descriptor of [`crate::Event::Opened`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Opened {
    /// The reading end of a pipe with a [`Listing`].
    Listing,
    /// A regular file, open for reading.
    File,
    /// The reading end of a pipe with an archive, as tar(5) has it.
    Archive,
}

/// Most entries of a listing: ten times what a person scrolls through.
pub const MAX_ENTRIES: usize = 10_000;
/// Most bytes of a listing: the longest name, a kind, and three numbers for each entry, rounded up.
pub const MAX_LISTING: usize = 4 * 1024 * 1024;

/// What a directory has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Listing {
    /// By name, at most [`MAX_ENTRIES`].
    pub entries: Vec<Entry>,
    /// There are more.
    pub truncated: bool,
    /// Entries whose names are not UTF-8.
    pub unreadable: u64,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modified: i64,
}

/// What a name leads to. Links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

const CONFIG: config::Configuration<config::LittleEndian, config::Varint, config::Limit<MAX_LISTING>> =
    config::standard().with_limit::<MAX_LISTING>();

impl Listing {
    /// The bytes for the pipe.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        Ok(bincode::encode_to_vec(self, CONFIG)?)
    }

    /// The listing in these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let (listing, read): (Self, usize) = bincode::decode_from_slice(bytes, CONFIG)?;
        match bytes.len() - read {
            0 => Ok(listing),
            left => Err(CodecError::Trailing(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_listing_fits_and_nothing_is_cut_off() {
        let entry = |number: usize| Entry {
            name: format!("{number:0255}"),
            kind: EntryKind::Other,
            size: u64::MAX,
            modified: i64::MIN,
        };
        let entries = (0..MAX_ENTRIES).map(entry).collect();
        let listing = Listing { entries, truncated: true, unreadable: u64::MAX };
        let bytes = listing.to_bytes().unwrap();
        assert!(bytes.len() <= MAX_LISTING, "{}", bytes.len());
        assert_eq!(Listing::from_bytes(&bytes).unwrap(), listing);
        assert!(Listing::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Listing::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn a_number_of_entries_that_are_not_there_is_refused_without_allocating_them() {
        assert!(Listing::from_bytes(&[253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
        assert!(Listing::from_bytes(&[252, 0, 0, 1, 0]).is_err());
    }
}
