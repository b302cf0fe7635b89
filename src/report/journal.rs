//! The journals of a run: an appender thread each that writes a JSON line for each entry (a finished request, or what a
//! node told), keeps the entries in memory too, and hands them back at the end, sorted. A failing disk costs the file,
//! never the entries. Deliberately absent: rewriting, compression, and any knowledge of the metrics.

use crate::measure::{Observation, Offset, RequestRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Longest time that written lines wait for an fsync.
const SYNC_EVERY: Duration = Duration::from_secs(2);
/// Lines are handed to the kernel in pieces of about this many bytes, to bound memory on large batches.
const PIECE_BYTES: usize = 1 << 20;

/// What a journal keeps.
pub trait Entry: Serialize + DeserializeOwned + Send + 'static {
    /// By what entries are sorted; those of one key stay in the order in which they came.
    type Key: Ord;

    /// Its key.
    fn key(&self) -> Self::Key;
}

impl Entry for RequestRecord {
    type Key = u32;

    fn key(&self) -> u32 {
        self.i
    }
}

impl Entry for Observation {
    type Key = Offset;

    fn key(&self) -> Offset {
        self.at
    }
}

/// The appender of one file of a run: `records.jsonl` or `observations.jsonl`.
#[derive(Debug)]
pub struct Journal<T = RequestRecord> {
    sink: JournalSink<T>,
    thread: JoinHandle<(Vec<T>, Option<io::Error>)>,
}

/// The end that entries are handed to; cheap to clone, never waits.
#[derive(Clone, Debug)]
pub struct JournalSink<T = RequestRecord>(Sender<Message<T>>);

#[derive(Debug)]
enum Message<T> {
    Batch(Vec<T>),
    /// Entries that the file holds.
    Kept(Vec<T>),
    End,
}

impl<T: Entry> Journal<T> {
    /// Opens `path` for appending (mode 0600, made when it is missing) and starts the thread.
    ///
    /// # Errors
    /// When the file cannot be opened or no thread can be had.
    pub fn start(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let (sender, receiver) = channel();
        let thread = Builder::new().name("journal".to_owned()).spawn(move || append_all(file, &receiver))?;
        Ok(Self { sink: JournalSink(sender), thread })
    }

    /// Opens the journal of a run that is to go on: what it holds is part of the run, and a torn last line, which
    /// would stand in the middle from now on, is taken off.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a line of it is broken.
    pub fn reopen(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let back: ReadBack<T> = read_entries(&bytes).map_err(io::Error::other)?;
        if !bytes.ends_with(b"\n") {
            let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            let lines = bytes[..whole].iter().filter(|&&byte| byte == b'\n').count();
            let file = OpenOptions::new().append(true).open(path)?;
            // A last line that lacks nothing but its end stays.
            match back.records.len() > lines {
                true => (&file).write_all(b"\n")?,
                false => file.set_len(whole as u64)?,
            }
        }
        let journal = Self::start(path)?;
        // They are in the file already.
        let _ = journal.sink.0.send(Message::Kept(back.records));
        Ok(journal)
    }

    /// A further end to hand records to.
    pub fn sink(&self) -> JournalSink<T> {
        JournalSink(self.sink.0.clone())
    }

    /// Hands over a batch of entries.
    pub fn append(&self, batch: Vec<T>) {
        self.sink.append(batch);
    }

    /// Writes what is left, syncs, and gives back every entry handed over so far, sorted,
    /// with the first error that kept a line from the file. Blocks until the disk has answered.
    pub fn finish(self) -> (Vec<T>, Option<io::Error>) {
        // The thread ends only by this message; were it gone, `join` below says so.
        let _ = self.sink.0.send(Message::End);
        match self.thread.join() {
            Ok((mut records, error)) => {
                records.sort_by_key(Entry::key);
                (records, error)
            }
            Err(_) => (Vec::new(), Some(io::Error::other("the journal thread panicked"))),
        }
    }
}

impl<T> JournalSink<T> {
    /// Hands over a batch of entries. After [`Journal::finish`] it goes nowhere.
    pub fn append(&self, batch: Vec<T>) {
        // Fails only after the end of the run, when nobody asks for the entries any more.
        let _ = self.0.send(Message::Batch(batch));
    }
}

fn append_all<T: Entry>(file: File, inbox: &Receiver<Message<T>>) -> (Vec<T>, Option<io::Error>) {
    let mut book = Book { file, error: None, unsynced_since: None };
    let mut kept = Vec::new();
    let mut ending = false;
    loop {
        let message = if ending { inbox.try_recv().ok() } else { book.next(inbox) };
        match message {
            Some(Message::Batch(batch)) => {
                book.write(&batch);
                kept.extend(batch);
            }
            Some(Message::Kept(records)) => kept.extend(records),
            // What was sent before the end by another thread may still stand behind it.
            Some(Message::End) => ending = true,
            None => break,
        }
    }
    book.sync();
    (kept, book.error)
}

/// The file side: after the first error nothing more is written, so that a torn line stays the last one.
struct Book {
    file: File,
    error: Option<io::Error>,
    unsynced_since: Option<Instant>,
}

impl Book {
    /// Waits for a message, syncing whenever written lines have waited long enough. `None` when all senders are gone.
    fn next<T>(&mut self, inbox: &Receiver<Message<T>>) -> Option<Message<T>> {
        loop {
            let Some(since) = self.unsynced_since else { return inbox.recv().ok() };
            match inbox.recv_timeout(SYNC_EVERY.saturating_sub(since.elapsed())) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.sync(),
            }
        }
    }

    fn write<T: Entry>(&mut self, batch: &[T]) {
        if self.error.is_some() {
            return;
        }
        match self.try_write(batch) {
            Ok(()) => {
                let since = *self.unsynced_since.get_or_insert_with(Instant::now);
                if SYNC_EVERY <= since.elapsed() {
                    self.sync();
                }
            }
            Err(error) => self.error = Some(error),
        }
    }

    fn try_write<T: Entry>(&mut self, batch: &[T]) -> io::Result<()> {
        let mut lines = Vec::new();
        for entry in batch {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
            if PIECE_BYTES <= lines.len() {
                self.file.write_all(&lines)?;
                lines.clear();
            }
        }
        self.file.write_all(&lines)
    }

    fn sync(&mut self) {
        if self.unsynced_since.take().is_some()
            && let Err(error) = self.file.sync_data()
        {
            self.error.get_or_insert(error);
        }
    }
}

/// What a journal file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadBack<T = RequestRecord> {
    /// The entries of all whole lines, sorted.
    pub records: Vec<T>,
    /// Torn last lines that were ignored: 0 or 1.
    pub torn: usize,
}

/// A whole line of a journal that is none of its entries.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the journal is not a record")]
pub struct BrokenLine {
    /// Its number, from 1.
    pub line: usize,
    /// What was wrong with it.
    pub source: serde_json::Error,
}

/// Reads a journal of records back, see [`read_entries`].
///
/// # Errors
/// When a line that has its line end is not a record.
pub fn read_journal(bytes: &[u8]) -> Result<ReadBack, BrokenLine> {
    read_entries(bytes)
}

/// Reads a journal back. A last line without its line end, as a crash leaves it, is ignored and counted.
///
/// # Errors
/// When a line that has its line end is none of its entries.
pub fn read_entries<T: Entry>(bytes: &[u8]) -> Result<ReadBack<T>, BrokenLine> {
    let mut back = ReadBack { records: Vec::new(), torn: 0 };
    for (at, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(record) => back.records.push(record),
            Err(_) if line.last() != Some(&b'\n') => back.torn += 1,
            Err(source) => return Err(BrokenLine { line: at + 1, source }),
        }
    }
    back.records.sort_by_key(Entry::key);
    Ok(back)
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;
    use crate::measure::{Flag, Offset, Outcome};
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn any_record() -> impl Strategy<Value = RequestRecord> {
        let times = proptest::collection::vec(0_u64..1 << 30, 0..8);
        (times, 0..Outcome::ALL.len(), ".*", proptest::option::of(0_u64..1 << 40), 0_u32..5).prop_map(
            |(gaps, outcome, text, sent, coalesced)| {
                let mut record = record(0);
                record.events = gaps
                    .iter()
                    .scan(0, |at, gap| {
                        *at += gap;
                        Some(Offset::from_tenths(*at))
                    })
                    .collect();
                record.outcome = Outcome::ALL[outcome];
                record.sent = sent.map(Offset::from_tenths);
                record.error = (!text.is_empty()).then(|| text.clone());
                record.id = text;
                if 0 < coalesced {
                    record.flags.insert(Flag::Coalesced, coalesced);
                }
                record
            },
        )
    }

    fn journalled(records: &[RequestRecord]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.jsonl");
        let journal = Journal::start(&path).unwrap();
        records.chunks(3).for_each(|batch| journal.append(batch.to_vec()));
        let (kept, error) = journal.finish();
        assert_eq!((kept.as_slice(), error.map(|e| e.to_string())), (records, None));
        std::fs::read(path).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..Default::default() })]
        #[test]
        fn records_survive_the_journal_and_every_cut_keeps_the_whole_lines(
            records in proptest::collection::vec(any_record(), 0..7), cut in 0.0..1.0_f64,
        ) {
            let records: Vec<_> = records.into_iter().enumerate()
                .map(|(i, record)| RequestRecord { i: i as u32, ..record }).collect();
            let bytes = journalled(&records);
            prop_assert_eq!(read_journal(&bytes).unwrap(), ReadBack { records: records.clone(), torn: 0 });

            let cut = (cut * bytes.len() as f64) as usize;
            let back = read_journal(&bytes[..cut]).unwrap();
            let whole = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count();
            prop_assert!(whole <= back.records.len() && back.records.len() <= whole + 1);
            prop_assert_eq!(&back.records[..], &records[..back.records.len()]);
            prop_assert!(back.torn <= 1);
        }
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named_by_its_number() {
        let mut bytes = journalled(&[record(0)]);
        bytes.extend_from_slice(b"{\"i\":1,\n");
        bytes.extend(journalled(&[record(2)]));
        let broken = read_journal(&bytes).unwrap_err();
        assert_eq!((broken.line, broken.to_string().as_str()), (2, "line 2 of the journal is not a record"));
    }

    #[test]
    fn batches_in_any_order_come_back_sorted() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::start(&directory.path().join("records.jsonl")).unwrap();
        let sink = journal.sink();
        sink.append(vec![record(3), record(1)]);
        journal.append(vec![record(2)]);
        let (records, _) = journal.finish();
        assert_eq!(records.iter().map(|r| r.i).collect::<Vec<_>>(), [1, 2, 3]);
        sink.append(vec![record(4)]); // after the end: no panic
    }

    #[test]
    fn the_journal_is_private_and_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.jsonl");
        for i in 0..2 {
            let journal = Journal::start(&path).unwrap();
            journal.append(vec![record(i)]);
            journal.finish();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_journal(&std::fs::read(&path).unwrap()).unwrap().records.len(), 2);
    }

    #[test]
    fn a_journal_goes_on_without_its_torn_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.jsonl");
        let whole = journalled(&[record(0), record(1)]);
        for (cut, kept) in [(whole.len(), 2), (whole.len() - 1, 2), (whole.len() - 9, 1)] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let journal = Journal::reopen(&path).unwrap();
            journal.append(vec![record(7)]);
            let (records, error) = journal.finish();
            assert_eq!((records.len(), error.map(|error| error.to_string())), (kept + 1, None));
            let back = read_journal(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(back, ReadBack { records, torn: 0 });
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_loses_no_record_in_memory() {
        let journal = Journal::start(Path::new("/dev/full")).unwrap();
        (0..3).for_each(|i| journal.append(vec![record(i)]));
        let (records, error) = journal.finish();
        assert_eq!(records.len(), 3);
        assert_eq!(error.unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
