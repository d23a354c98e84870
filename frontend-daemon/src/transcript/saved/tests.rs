//! What is saved of a program comes back, wherever the process that saves it is cut off.

use super::*;

use std::os::fd::AsFd;

use further_link_proto::{ExitStatus, Limit, Usage};
use rustix::fs::{Mode, OFlags};

const EXIT: Ended = Ended {
    status: ExitStatus::Signaled(15),
    limit: Some(Limit::Time),
    usage: Usage { cpu: 1 << 40, memory: 7 },
};
const SIZE: WindowSize = WindowSize { rows: 5, cols: 9 };

fn saved(size: Option<WindowSize>) -> Saved {
    Saved::new(&Store::for_tests(), "s", b"known".to_vec(), size).unwrap()
}

/// What another process finds.
fn restored(saved: &Saved) -> Restored {
    let journal = saved.lock().journal.as_fd().try_clone_to_owned().unwrap();
    // A copy, since reading it changes it.
    let bytes = saved_bytes(&journal);
    Saved::restore(&Store::for_tests(), "s", file_of(&bytes)).unwrap()
}

fn saved_bytes(file: &OwnedFd) -> Vec<u8> {
    let length = usize::try_from(rustix::fs::fstat(file).unwrap().st_size).unwrap();
    let mut bytes = vec![0; length];
    assert_eq!(rustix::io::pread(file, &mut bytes, 0).unwrap(), length);
    bytes
}

fn file_of(bytes: &[u8]) -> OwnedFd {
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let file = rustix::fs::open("/dev/shm", flags, Mode::RUSR | Mode::WUSR).unwrap();
    assert_eq!(rustix::io::pwrite(&file, bytes, 0).unwrap(), bytes.len());
    file
}

fn text(said: &[Said]) -> String {
    said.iter().map(|said| if let Said::Text(_, text) = said { text.as_str() } else { "|" }).collect()
}

#[test]
fn everything_comes_back_also_from_behind_a_block() {
    for with_block in [false, true] {
        let saved = saved(Some(SIZE));
        saved.note_read(OutputStream::Stdout, "ä€".as_bytes());
        saved.said(OutputStream::Stdout, 2, "ä");
        saved.said(OutputStream::Stderr, 0, "words");
        saved.resized(WindowSize { rows: 6, cols: 9 });
        saved.note_read(OutputStream::Stderr, b"never said");
        saved.input(Some(7), false, b"typed");
        saved.written(2);
        saved.key("ArrowUp");
        saved.listens(3, "ArrowUp");
        saved.listens(3, "ArrowUp");
        saved.listens(4, "x");
        saved.gone(4);
        saved.note(b"known better".to_vec());
        saved.ending(EndReason::Expired);
        saved.exited(EXIT);
        if with_block {
            let screen = SavedScreen { position: 7, size: SIZE, text: "screen".to_owned() };
            saved.checkpoint(Some(&screen), 7);
        }
        saved.note_read(OutputStream::Stdout, b"!");
        saved.said(OutputStream::Stdout, 4, "€!");
        saved.input(None, true, b"");
        saved.leaves(3, b"{\"ty", b"told");
        saved.picture("/9j/");
        let restored = restored(&saved);
        assert_eq!(restored.kept, b"known better");
        let expected = if with_block { (7, "€!") } else { (0, "äwords|€!") };
        assert_eq!((restored.position, text(&restored.said).as_str()), expected);
        assert_eq!(restored.size.unwrap().rows, if with_block { 6 } else { 5 });
        assert_eq!(restored.screen.is_some(), with_block);
        assert_eq!(restored.unsaid, [Vec::new(), b"never said".to_vec()]);
        assert_eq!((restored.input, restored.input_ended), (7, true));
        assert_eq!(restored.unwritten, b"ped");
        assert_eq!(restored.keys, ["ArrowUp"]);
        let connection = Connection {
            keys: vec!["ArrowUp".to_owned()],
            left: Some((b"{\"ty".to_vec(), b"told".to_vec())),
        };
        assert_eq!(restored.connections, BTreeMap::from([(3, connection)]));
        assert_eq!(restored.picture.as_deref(), Some("/9j/"));
        assert_eq!(restored.exit, Some(EXIT));
        assert_eq!((restored.ending, restored.ended), (Some(EndReason::Expired), None));
        // What was left for this process is not left for the one after it.
        let again = self::restored(&restored.saved);
        assert_eq!((again.picture, again.unsaid, again.unwritten), (None, restored.unsaid, b"ped".to_vec()));
        assert!(again.connections.values().all(|connection| connection.left.is_none()));
    }
}

#[test]
fn a_journal_that_is_cut_anywhere_has_what_was_written_before_the_cut() {
    let saved = saved(None);
    let mut expected = vec![(saved.lock().journal.end(), String::new(), 0)];
    for number in 0_u64..20 {
        let piece = format!("{number} ä€\n");
        saved.note_read(OutputStream::Stdout, piece.as_bytes());
        saved.said(OutputStream::Stdout, piece.len(), &piece);
        saved.input(Some(number), false, b"x");
        if number == 10 {
            saved.checkpoint(None, 0);
        }
        let (_, before, _) = expected.last().unwrap();
        let all = format!("{before}{piece}");
        expected.push((saved.lock().journal.end(), all, number));
    }
    let bytes = saved_bytes(&saved.lock().journal.as_fd().try_clone_to_owned().unwrap());
    let first = usize::try_from(expected.first().unwrap().0).unwrap();
    for cut in first..=bytes.len() {
        let journal = file_of(bytes.get(..cut).unwrap());
        let restored = Saved::restore(&Store::for_tests(), "s", journal).unwrap();
        let offset = u64::try_from(cut).unwrap();
        let before = expected.iter().rfind(|(end, ..)| *end <= offset).unwrap();
        let said = text(&restored.said) + &String::from_utf8_lossy(&restored.unsaid[0]);
        assert!(said.starts_with(&before.1) && said.len() <= before.1.len() + 9, "cut at {cut}: {said}");
        assert!(restored.input == before.2 || restored.input == before.2 + 1, "cut at {cut}");
    }
}

#[test]
fn a_flood_leaves_a_small_file_with_all_that_is_still_needed() {
    let saved = saved(None);
    let (piece, mut position) = ("x".repeat(40_000), 0);
    for _ in 0..200 {
        saved.note_read(OutputStream::Stdout, piece.as_bytes());
        position += u64::try_from(piece.len()).unwrap();
        if saved.said(OutputStream::Stdout, piece.len(), &piece) {
            saved.checkpoint(None, position.saturating_sub(1_000_000));
        }
        saved.input(None, false, b"a key");
        saved.written(5);
    }
    let blocks = rustix::fs::fstat(saved.lock().journal.as_fd()).unwrap().st_blocks * 512;
    assert!((1_000_000..2_000_000).contains(&blocks), "{blocks}");
    let restored = restored(&saved);
    assert!(restored.position <= position - 1_000_000 && restored.position > position - 1_700_000);
    assert_eq!(text(&restored.said).len(), usize::try_from(position - restored.position).unwrap());
    assert!(restored.unwritten.is_empty());
}

#[test]
fn text_that_does_not_follow_from_what_was_read_is_damage() {
    let saved = saved(None);
    saved.note_read(OutputStream::Stdout, b"abc");
    saved.said(OutputStream::Stdout, 3, "abcd");
    let journal = saved.lock().journal.as_fd().try_clone_to_owned().unwrap();
    let found = Saved::restore(&Store::for_tests(), "s", journal);
    assert!(matches!(found, Err(JournalError::Damaged)));
}
