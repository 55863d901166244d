//! Finds a text in a stream that may be cut anywhere.

use memchr::memmem;

pub(crate) struct Scanner {
    finder: memmem::Finder<'static>,
    /// So many bytes behind it belong to it.
    behind: usize,
    /// What has not been looked through to its end.
    rest: Vec<u8>,
}

impl Scanner {
    pub(crate) fn of(text: &'static [u8], behind: usize) -> Self {
        Self { finder: memmem::Finder::new(text), behind, rest: Vec::new() }
    }

    /// Takes in a piece; `found` gets what stands behind each text.
    pub(crate) fn feed(&mut self, piece: &[u8], mut found: impl FnMut(&[u8])) {
        let length = self.finder.needle().len();
        self.rest.extend_from_slice(piece);
        let mut done = 0;
        while let Some(at) = self.finder.find(&self.rest[done..]) {
            let behind = done + at + length;
            let Some(bytes) = self.rest.get(behind..behind + self.behind) else {
                // The rest of it is yet to come.
                self.rest.drain(..done + at);
                return;
            };
            found(bytes);
            done = behind;
        }
        // A text may have been cut in two; all that stands before is done with.
        let keep = (self.rest.len() - done).min(length - 1);
        self.rest.drain(..self.rest.len() - keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_text_is_found_once_however_the_stream_is_cut() {
        let stream = br#"[{"id":"1a"},{"id":"id"},{"id":"3c"},{"id"#;
        for size in 1..=stream.len() {
            let (mut scanner, mut found) = (Scanner::of(br#""id":""#, 2), Vec::new());
            for piece in stream.chunks(size) {
                scanner.feed(piece, |bytes| found.push(bytes.to_owned()));
                assert!(scanner.rest.len() < size + 8, "in pieces of {size}");
            }
            assert_eq!(found, [b"1a", b"id", b"3c"], "in pieces of {size}");
        }
    }
}
