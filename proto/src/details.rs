//! What a client chose for its program, and the helper has no use for: arguments and variables. It travels
//! by the pipe of [`crate::Event::Data`], before the program text, and is read by the launcher when that is
//! the user.

use bincode::{Decode, Encode, config};

use crate::{codec::CodecError, value::MAX_DETAILS};

/// The choices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Details {
    /// Arguments, in the place of `{args}` in the runner's command line.
    pub args: Vec<String>,
    /// Variables, by name and value, that win over those of the account.
    pub env: Vec<(String, String)>,
    /// The folder of an environment of packages, as the client wrote it.
    pub venv: Option<String>,
    /// Install the packages that `args` names into the project's environment, and run nothing else.
    pub install: bool,
}

const CONFIG: config::Configuration<config::LittleEndian, config::Varint, config::Limit<MAX_DETAILS>> =
    config::standard().with_limit::<MAX_DETAILS>();

impl Details {
    /// Whether the client chose nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The bytes for the pipe.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        Ok(bincode::encode_to_vec(self, CONFIG)?)
    }

    /// The choices in these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let (details, read) = bincode::decode_from_slice(bytes, CONFIG)?;
        match bytes.len() - read {
            0 => Ok(details),
            left => Err(CodecError::Trailing(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_what_was_chosen() {
        let args = ["", "a b", "'\"\n", "ü☃", "{file}"].map(str::to_owned).into();
        let details = Details {
            args,
            env: vec![("NAME".to_owned(), "a=b".to_owned())],
            venv: Some("v".to_owned()),
            install: true,
        };
        assert_eq!(Details::from_bytes(&details.to_bytes().unwrap()).unwrap(), details);
        assert!(Details::default().is_empty() && !details.is_empty());
    }

    #[test]
    fn broken_bytes_are_an_error() {
        let bytes = Details { args: vec!["x".to_owned()], ..Details::default() }.to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(Details::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        assert!(matches!(Details::from_bytes(&[bytes, vec![0]].concat()), Err(CodecError::Trailing(1))));
        assert!(Details::from_bytes(&[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
