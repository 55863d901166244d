//! Reading a journal of fjall without fjall, which cuts off whatever it cannot read.
//!
//! A journal is a row of batches, then zeros or nothing. A batch is a start (tag 1, the number of items, a sequence number),
//! its items (tag 2: type, compression, keyspace, lengths, key, value; or tag 4: a keyspace that is cleared), and an end
//! (tag 3, the XXH3 checksum of the items, `FJL` and 3). Numbers are little-endian.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

use super::ledger::{LEDGER, Ledger};

/// What ends each batch; the file `version` of a database consists of it.
pub(super) const MAGIC: &[u8; 4] = b"FJL\x03";

/// What a journal holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Journal {
    /// Where the last batch ends up to which all can be read.
    pub(super) end: usize,
    /// The keyspaces that are written to.
    pub(super) keyspaces: BTreeSet<u64>,
    /// The latest ledger in it.
    pub(super) ledger: Option<Ledger>,
    /// What stands behind its last batch.
    pub(super) tail: Tail,
}

/// What stands behind the batches that can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing, or zeros.
    #[default]
    Clean,
    /// Part of a batch, as the end of a process or of the power supply leaves one; or the last batch, damaged.
    Torn,
    /// Something that cannot be read, and batches behind it.
    Damaged,
}

impl Journal {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let bytes = &bytes[..filled(bytes)];
        let mut journal = Self::default();
        let (mut rest, mut latest) = (bytes, None);
        while let Some((batch, behind)) = batch(rest) {
            // It has no checksum, and fjall passes over what seems to be in a table already.
            if latest.is_some_and(|latest| batch.sequence <= latest) {
                break;
            }
            latest = Some(batch.sequence);
            for item in batch.items {
                journal.keyspaces.insert(item.keyspace);
                if item.key == LEDGER.as_bytes() {
                    journal.ledger = item.value.and_then(Ledger::decode).or(journal.ledger);
                }
            }
            rest = behind;
        }
        journal.end = bytes.len() - rest.len();
        journal.tail = match rest {
            [] => Tail::Clean,
            rest if batches(rest).next().is_some() => Tail::Damaged,
            _ => Tail::Torn,
        };
        journal
    }
}

/// All batches that can be read, whatever stands between them.
pub(super) fn batches(mut rest: &[u8]) -> impl Iterator<Item = Batch<'_>> {
    std::iter::from_fn(move || {
        let begins = |at: usize| batch(&rest[at..]);
        let (batch, behind) = memchr::memchr_iter(BEGINS, rest).find_map(begins)?;
        rest = behind;
        Some(batch)
    })
}

/// How many bytes there are without the zeros at the end: files are made larger than they need to be.
pub(super) fn filled(bytes: &[u8]) -> usize {
    const PAGE: usize = 4_096;
    let mut end = bytes.len();
    while end > 0 {
        let start = (end - 1) / PAGE * PAGE;
        if bytes[start..end] != [0; PAGE][..end - start] {
            return start + bytes[start..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        }
        end = start;
    }
    0
}

/// What is written in one transaction.
pub(super) struct Batch<'a> {
    pub(super) sequence: u64,
    pub(super) items: Vec<Item<'a>>,
}

/// A change of one record.
pub(super) struct Item<'a> {
    pub(super) keyspace: u64,
    pub(super) key: &'a [u8],
    /// None: it is removed.
    pub(super) value: Option<&'a [u8]>,
}

/// The tag that a batch begins with.
const BEGINS: u8 = 1;

/// The batch that `bytes` begin with, and what is behind it; none if they do not begin with a whole one.
fn batch(bytes: &[u8]) -> Option<(Batch<'_>, &[u8])> {
    let (count, sequence, body) = match bytes.split_first()? {
        (&BEGINS, rest) => {
            let (count, rest) = rest.split_first_chunk()?;
            let (sequence, rest) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*count), u64::from_le_bytes(*sequence), rest)
        }
        _ => return None,
    };
    let mut items = Vec::new();
    let mut rest = body;
    for _ in 0..count {
        rest = match rest.split_first()? {
            (2, behind) => {
                let (item, behind) = item(behind)?;
                items.push(item);
                behind
            }
            (4, behind) => behind.split_first_chunk::<8>()?.1,
            _ => return None,
        };
    }
    let written = &body[..body.len() - rest.len()];
    let (tag, rest) = rest.split_first()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let (magic, rest) = rest.split_first_chunk()?;
    let is_whole = *tag == 3 && magic == MAGIC && u64::from_le_bytes(*checksum) == xxh3_64(written);
    is_whole.then_some((Batch { sequence, items }, rest))
}

fn item(bytes: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let ([kind, compression], rest) = bytes.split_first_chunk()?;
    let (keyspace, rest) = rest.split_first_chunk()?;
    let (key_length, rest) = rest.split_first_chunk()?;
    let (_length, rest) = rest.split_first_chunk::<4>()?;
    let (stored_length, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*key_length).into())?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*stored_length) as usize)?;
    let value = (*kind == 0).then_some(value);
    // fjall is built without compression.
    (*compression == 0).then_some((Item { keyspace: u64::from_le_bytes(*keyspace), key, value }, rest))
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions, PersistMode};

    use super::*;

    /// A journal of three batches as fjall writes it, and where each ends.
    fn written() -> (Vec<u8>, Vec<usize>) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(folder.path()).open().unwrap();
        let keyspace = database.keyspace("k", KeyspaceCreateOptions::default).unwrap();
        let read = || std::fs::read(folder.path().join("0.jnl")).unwrap();
        let ends = [1_u64, 2, 3].map(|commit| {
            let mut batch = database.batch().durability(Some(PersistMode::Buffer));
            batch.insert(&keyspace, "key", vec![7; 100]);
            batch.insert(&keyspace, LEDGER, Ledger { commit, ..Ledger::default() }.encode());
            batch.remove(&keyspace, "other");
            batch.commit().unwrap();
            filled(&read())
        });
        let mut bytes = read();
        bytes.truncate(ends[2] + 64);
        (bytes, ends.to_vec())
    }

    #[test]
    fn what_fjall_has_written_can_be_read_to_its_end() {
        let (bytes, ends) = written();
        let journal = Journal::of(&bytes);
        assert_eq!((journal.end, journal.tail, journal.keyspaces.len()), (ends[2], Tail::Clean, 1));
        assert_eq!(journal.ledger.unwrap().commit, 3);
        assert_eq!(Journal::of(&bytes[..ends[2]]), journal, "zeros at the end are nothing");
        assert_eq!(Journal::of(&[]), Journal::default());
    }

    #[test]
    fn a_journal_that_ends_within_a_batch_is_torn_and_one_that_goes_on_behind_it_is_damaged() {
        let (bytes, ends) = written();
        for cut in ends[1] + 1..ends[2] {
            let journal = Journal::of(&bytes[..cut]);
            assert_eq!((journal.end, journal.tail), (ends[1], Tail::Torn), "cut at {cut}");
            assert_eq!(journal.ledger.unwrap().commit, 2);
        }
        for at in 0..ends[2] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let journal = Journal::of(&flipped);
            let number = ends.iter().filter(|end| **end <= at).count();
            let begins = if number == 0 { 0 } else { ends[number - 1] };
            if (begins + 5..begins + 13).contains(&at) {
                // The sequence number has no checksum. One that is too great makes the next one too small.
                assert!(journal.tail != Tail::Clean || number == 2, "flipped at {at}");
                continue;
            }
            assert_eq!(journal.end, begins, "flipped at {at}");
            assert_eq!(journal.tail, if number < 2 { Tail::Damaged } else { Tail::Torn }, "flipped at {at}");
            // The others can still be read.
            let left: Vec<_> = batches(&flipped).map(|batch| batch.items.len()).collect();
            assert_eq!(left, [3, 3], "flipped at {at}");
        }
    }

    #[test]
    fn a_batch_says_what_is_written_and_what_is_removed() {
        let (bytes, _) = written();
        let items: Vec<_> = batches(&bytes).flat_map(|batch| batch.items).collect();
        assert_eq!((items[0].key, items[0].value), (&b"key"[..], Some(&[7; 100][..])));
        assert_eq!((items[2].key, items[2].value), (&b"other"[..], None));
    }
}
