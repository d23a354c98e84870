//! What holds of a kept program at one place of its journal.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use further_link_api::{EndReason, Outcome, OutputStream};
use further_link_proto::{Ended, WindowSize};

/// A connection of a program to its user channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The keys that it listens for.
    pub(crate) keys: Vec<String>,
    /// The beginning of a line that was read, and what it was to be told. `None` if this is not known.
    pub(crate) left: Option<(Vec<u8>, Vec<u8>)>,
}

/// What holds now. Large things are named by their places in the journal.
#[derive(Default)]
pub(super) struct Now {
    pub(super) kept: Vec<u8>,
    pub(super) position: u64,
    pub(super) size: Option<WindowSize>,
    /// Bytes of each stream that were read and not said.
    pub(super) unsaid: [VecDeque<Range<u64>>; 2],
    /// The highest number of an input that was taken.
    pub(super) input: u64,
    pub(super) input_ended: bool,
    pub(super) unwritten: VecDeque<Range<u64>>,
    pub(super) screen: Option<Range<u64>>,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) picture: Option<Vec<u8>>,
    pub(super) exit: Option<Ended>,
    pub(super) ending: Option<EndReason>,
    pub(super) ended: Option<Outcome>,
}

impl Now {
    pub(super) fn input(&mut self, number: u64, is_last: bool, place: Range<u64>) {
        self.input = number;
        self.input_ended |= is_last;
        if !place.is_empty() {
            self.unwritten.push_back(place);
        }
    }
}

pub(super) fn of<T>(stream: OutputStream, [stdout, stderr]: &[T; 2]) -> &T {
    if stream == OutputStream::Stdout { stdout } else { stderr }
}

pub(super) fn of_mut<T>(stream: OutputStream, [stdout, stderr]: &mut [T; 2]) -> &mut T {
    if stream == OutputStream::Stdout { stdout } else { stderr }
}

/// Takes so many bytes from the front.
pub(super) fn consume(places: &mut VecDeque<Range<u64>>, mut bytes: u64) {
    while let Some(place) = places.front_mut() {
        let taken = bytes.min(place.end - place.start);
        place.start += taken;
        bytes -= taken;
        if !place.is_empty() {
            return;
        }
        places.pop_front();
    }
}
