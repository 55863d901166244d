//! The chunked transfer coding, RFC 9112 section 7.1, as a machine fed with whatever has arrived.

use super::WireError;

/// Chunk sizes are read up to this many hexadecimal digits.
const MAX_SIZE_DIGITS: u32 = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the size, with this many digits read.
    Size(u32),
    /// Behind the size, up to the end of its line.
    Extension,
    /// In the data, with this many bytes to come.
    Data(u64),
    /// Between the data and the next size.
    DataEnd,
    /// In the trailer; `true` while its current line is empty.
    Trailer(bool),
    /// Behind it all.
    Done,
}

/// Takes a chunked body apart, piece by piece.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    size: u64,
}

impl Chunked {
    /// At the beginning of a body.
    pub(super) fn new() -> Self {
        Self { state: State::Size(0), size: 0 }
    }

    /// Hands the data in `input` to `sink`. `true` once the body is complete.
    pub(super) fn feed(&mut self, mut input: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<bool, WireError> {
        while let Some((&byte, rest)) = input.split_first() {
            if let State::Data(left) = self.state {
                let here = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                let (data, behind) = input.split_at(here);
                sink(data);
                input = behind;
                self.state = match left - here as u64 {
                    0 => State::DataEnd,
                    left => State::Data(left),
                };
                continue;
            }
            if self.state == State::Done {
                return Err(WireError::Protocol("it goes on behind its end"));
            }
            self.state = self.step(byte)?;
            input = rest;
        }
        Ok(self.state == State::Done)
    }

    /// The state after a byte that is not data.
    fn step(&mut self, byte: u8) -> Result<State, WireError> {
        let next = match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(WireError::Protocol("one of its chunks is too large"));
                }
                let value = char::from(byte).to_digit(16).unwrap_or(0);
                self.size = self.size * 16 + u64::from(value);
                State::Size(digits + 1)
            }
            (State::Size(0), _) => {
                return Err(WireError::Protocol("one of its chunks has no size"));
            }
            (State::Size(_) | State::Extension, b'\n') => match std::mem::take(&mut self.size) {
                0 => State::Trailer(true),
                size => State::Data(size),
            },
            (State::Size(_), b'\r' | b';' | b' ' | b'\t') | (State::Extension, _) => State::Extension,
            (State::DataEnd, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size(0),
            (State::Trailer(true), b'\n') => State::Done,
            (State::Trailer(_), b'\n') => State::Trailer(true),
            (State::Trailer(empty), b'\r') => State::Trailer(empty),
            (State::Trailer(_), _) => State::Trailer(false),
            (State::Size(_) | State::DataEnd | State::Data(_) | State::Done, _) => {
                return Err(WireError::Protocol("its chunks cannot be told apart"));
            }
        };
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(bool, Vec<u8>), WireError> {
        let (mut chunked, mut out, mut done) = (Chunked::new(), Vec::new(), false);
        for piece in pieces {
            done = chunked.feed(piece, &mut |data| out.extend_from_slice(data))?;
        }
        Ok((done, out))
    }

    const BODY: &[u8] = b"4\r\nWiki\r\n6;x=y\r\npedia \r\nA\r\nin chunks.\r\n0\r\nx: y\r\n\r\n";

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        for cut in 0..BODY.len() {
            let (left, right) = BODY.split_at(cut);
            let (done, data) = decode(&[left, right]).expect("well-formed");
            assert!(done, "cut at {cut}");
            assert_eq!(data, b"Wikipedia in chunks.", "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = BODY.chunks(1).collect();
        assert_eq!(decode(&bytes).expect("well-formed").1.len(), 20);
    }

    #[test]
    fn a_body_without_its_last_chunk_is_not_done() {
        assert!(!decode(&[b"4\r\nWiki\r\n"]).expect("well-formed").0);
        assert!(!decode(&[b"4\r\nWi"]).expect("well-formed").0);
        assert!(!decode(&[b"0\r\n"]).expect("well-formed").0);
    }

    #[test]
    fn nonsense_is_an_error() {
        for body in [b"\r\n".as_slice(), b"x\r\n", b"4\r\nWikiX", b"fffffffffffff\r\n", b"0\r\n\r\nmore"] {
            assert!(decode(&[body]).is_err(), "{body:?}");
        }
    }
}
