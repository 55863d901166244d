//! The chunked transfer coding, RFC 9112 section 7.1, fed with whatever has arrived.

use super::WireError;

/// A longer line of a chunk's size, or of the trailer, is none.
const MAX_LINE_BYTES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// In the data, with this many bytes to come.
    Data(u64),
    /// Between the data and the next size.
    DataEnd,
    Trailer,
    Done,
}

/// Takes a chunked body apart, piece by piece.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// What has come of the current line.
    line: Vec<u8>,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: State::Size, line: Vec::new() }
    }

    /// Hands the data in `input` to `sink`. `true` once the body is complete.
    pub(super) fn feed(&mut self, mut input: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<bool, WireError> {
        while !input.is_empty() {
            if let State::Data(left) = self.state {
                let here = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                sink(&input[..here]);
                input = &input[here..];
                self.state = if left == here as u64 { State::DataEnd } else { State::Data(left - here as u64) };
                continue;
            }
            if self.state == State::Done {
                return Err(WireError::Protocol("it goes on behind its end"));
            }
            let end = memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1);
            self.line.extend_from_slice(&input[..end]);
            input = &input[end..];
            if self.line.len() > MAX_LINE_BYTES {
                return Err(WireError::Protocol("its chunks cannot be told apart"));
            }
            if self.line.ends_with(b"\n") {
                self.state = self.after_line()?;
                self.line.clear();
            }
        }
        Ok(self.state == State::Done)
    }

    fn after_line(&self) -> Result<State, WireError> {
        let is_empty = matches!(self.line.as_slice(), b"\r\n" | b"\n");
        match (self.state, httparse::parse_chunk_size(&self.line)) {
            // Which would be read as zero.
            (State::Size, _) if is_empty => Err(WireError::Protocol("one of its chunks has no size")),
            (State::Size, Ok(httparse::Status::Complete((_, 0)))) => Ok(State::Trailer),
            (State::Size, Ok(httparse::Status::Complete((_, size)))) => Ok(State::Data(size)),
            (State::DataEnd, _) if is_empty => Ok(State::Size),
            (State::Trailer, _) => Ok(if is_empty { State::Done } else { State::Trailer }),
            (State::Size | State::DataEnd | State::Data(_) | State::Done, _) => {
                Err(WireError::Protocol("its chunks cannot be told apart"))
            }
        }
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
        for body in [
            b"\r\n".as_slice(),
            b"x\r\n",
            b"4\r\nWikiX\r\n",
            b"fffffffffffffffff\r\n",
            b"0\r\n\r\nmore",
            &[b'1'; 2_000],
        ] {
            assert!(decode(&[body]).is_err(), "{body:?}");
        }
    }
}
