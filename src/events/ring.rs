//! The events that are kept, for all readers alike.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::limits::{EVENTS_BACKLOG_BYTES, EVENTS_CHUNK_BYTES};

/// The latest events, encoded; the oldest go when there are too many or they are too large. Events are numbered from 1, and
/// a reader is no more than the number of the last one it has.
#[derive(Debug)]
pub(super) struct Ring {
    frames: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Number of the latest event; 0 before the first.
    last: u64,
    most: usize,
}

/// What comes next for a reader is not in the ring any more, or never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl Ring {
    pub(super) fn new(most: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, last: 0, most }
    }

    /// The number of the latest event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn push(&mut self, frame: Box<[u8]>) {
        self.last += 1;
        self.bytes += frame.len();
        self.frames.push_back(frame);
        while self.frames.len() > self.most || self.bytes > EVENTS_BACKLOG_BYTES {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// Where in the ring goes on who has all events up to `number`.
    pub(super) fn index_after(&self, number: u64) -> Result<usize, Lost> {
        let missing = self.last.checked_sub(number).and_then(|missing| usize::try_from(missing).ok()).ok_or(Lost)?;
        self.frames.len().checked_sub(missing).ok_or(Lost)
    }

    /// The next events for who has all up to `number`, which moves on: as many as fit into [`EVENTS_CHUNK_BYTES`], but at
    /// least one if there is one.
    pub(super) fn read(&self, number: &mut u64) -> Result<Bytes, Lost> {
        let index = self.index_after(*number)?;
        let (mut size, mut count) = (0, 0);
        for frame in self.frames.range(index..) {
            if count > 0 && size + frame.len() > EVENTS_CHUNK_BYTES {
                break;
            }
            size += frame.len();
            count += 1;
        }
        let mut chunk = BytesMut::with_capacity(size);
        self.frames.range(index..index + count).for_each(|frame| chunk.extend_from_slice(frame));
        *number += count as u64;
        Ok(chunk.freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(most: usize, frames: impl IntoIterator<Item = usize>) -> Ring {
        let mut ring = Ring::new(most);
        frames.into_iter().for_each(|size| ring.push(vec![b'x'; size].into()));
        ring
    }

    #[test]
    fn who_has_all_reads_nothing_and_whose_next_event_is_gone_is_told_so() {
        let ring = ring(3, [1, 2, 4, 8]);
        let read = |mut number| ring.read(&mut number).map(|chunk| (chunk.len(), number));
        assert_eq!(read(4), Ok((0, 4)));
        assert_eq!(read(3), Ok((8, 4)));
        assert_eq!(read(1), Ok((14, 4)));
        assert_eq!(read(0), Err(Lost));
        assert_eq!(read(5), Err(Lost), "it has not happened yet");
        assert_eq!(read(u64::MAX), Err(Lost));
    }

    #[test]
    fn a_chunk_is_bounded_but_an_event_is_never_torn() {
        let ring = ring(10, [EVENTS_CHUNK_BYTES / 2, EVENTS_CHUNK_BYTES / 2, 1, 2 * EVENTS_CHUNK_BYTES, 1]);
        let mut number = 0;
        let sizes: Vec<_> = (0..5).map(|_| ring.read(&mut number).unwrap().len()).collect();
        assert_eq!(sizes, [EVENTS_CHUNK_BYTES, 1, 2 * EVENTS_CHUNK_BYTES, 1, 0]);
    }

    #[test]
    fn the_ring_is_bounded_in_bytes_too() {
        let ring = ring(1_000, [EVENTS_BACKLOG_BYTES / 10; 25]);
        assert_eq!(ring.frames.len(), 10);
        assert!(ring.bytes <= EVENTS_BACKLOG_BYTES);
        assert_eq!(ring.last(), 25);
    }

    proptest! {
        #[test]
        fn a_reader_in_time_reads_everything_once_and_in_order(
            most in 1_usize..50,
            steps in proptest::collection::vec((0_usize..60, 0_usize..4), 1..30),
        ) {
            let (mut ring, mut cursor, mut expected) = (Ring::new(most), 0, 1);
            for (pushes, reads) in steps {
                for _ in 0..pushes {
                    let number = ring.last() + 1;
                    ring.push(format!("{number},").into_bytes().into());
                }
                for _ in 0..reads {
                    let is_lost = ring.last() - cursor > most as u64;
                    match ring.read(&mut cursor) {
                        Ok(chunk) => {
                            prop_assert!(!is_lost);
                            for number in std::str::from_utf8(&chunk).unwrap().split_terminator(',') {
                                prop_assert_eq!(number, expected.to_string());
                                expected += 1;
                            }
                            prop_assert_eq!(cursor, expected - 1);
                        }
                        Err(Lost) => {
                            prop_assert!(is_lost);
                            cursor = ring.last();
                            expected = cursor + 1;
                        }
                    }
                }
            }
        }
    }
}
