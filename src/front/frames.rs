//! Where HTTP/2 frames end: a frame, or a block of headers, that has begun must be whole in time, like the head of an HTTP/1
//! request. What frames mean is for the `h2` crate.

use super::first_bytes::PREFACE;

/// Of each frame: its length (3 bytes), type, flags, and stream (4 bytes); RFC 9113, 4.1.
const HEADER: usize = 9;
/// Types of frames that carry a block of headers: HEADERS and CONTINUATION.
const OF_HEADERS: [u8; 2] = [1, 9];
/// The flag that ends a block of headers.
const END_HEADERS: u8 = 4;

/// Follows the frames of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER],
    /// How much of the header is there.
    has: usize,
    /// How much of the preface or of a frame's payload is still to come.
    left: usize,
    is_block_open: bool,
}

impl Frames {
    /// Those after the preface, which is to come.
    pub(super) fn new() -> Self {
        Self { header: [0; HEADER], has: 0, left: PREFACE.len(), is_block_open: false }
    }

    /// Whether all that has begun is whole with these bytes.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = if self.left > 0 { 0 } else { (HEADER - self.has).min(bytes.len()) };
            self.header[self.has..self.has + taken].copy_from_slice(&bytes[..taken]);
            self.has += taken;
            bytes = &bytes[taken..];
            if self.has == HEADER {
                let [high, middle, low, kind, flags, ..] = self.header;
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.has = 0;
                if OF_HEADERS.contains(&kind) {
                    self.is_block_open = flags & END_HEADERS == 0;
                }
            }
        }
        self.left == 0 && self.has == 0 && !self.is_block_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn what_has_begun_is_whole_at_the_end_of_its_last_frame_alone() {
        let pieces = [
            (PREFACE.to_vec(), true),
            (frame(4, 0, b"settings"), true),
            (frame(6, 0, b"12345678"), true),
            (frame(1, 0, b"some"), false),
            (frame(9, 0, b"more"), false),
            (frame(9, END_HEADERS, b"end"), true),
            (frame(1, END_HEADERS, b""), true),
            (frame(0, 0, &[7; 200]), true),
        ];
        let (mut whole, mut by_byte) = (Frames::new(), Frames::new());
        for (piece, is_whole) in pieces {
            assert_eq!(whole.advance(&piece), is_whole, "{piece:?}");
            let (last, others) = piece.split_last().unwrap();
            for byte in others {
                assert!(!by_byte.advance(&[*byte]), "{piece:?}");
            }
            assert_eq!(by_byte.advance(&[*last]), is_whole, "{piece:?}");
        }
    }
}
