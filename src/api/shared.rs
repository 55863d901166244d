//! Answers of which the greater part is shared by all who get it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::limits::POLICY_CHUNK_BYTES;

/// A body with a beginning and an end of its own. The connection asks for the next slice of what is shared only when it
/// has sent most of the last, so who does not read holds no more than one or two.
#[derive(Debug)]
pub(super) struct Shared {
    size: u64,
    /// What is left of the beginning, of what is shared, and of the end.
    parts: [Bytes; 3],
}

impl Shared {
    pub(super) fn new(head: impl Into<Bytes>, shared: Bytes, tail: impl Into<Bytes>) -> Self {
        let parts = [head.into(), shared, tail.into()];
        Self { size: parts.iter().map(|part| part.len() as u64).sum(), parts }
    }
}

impl MessageBody for Shared {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let part = self.parts.iter_mut().find(|part| !part.is_empty());
        Poll::Ready(part.map(|part| Ok(part.split_to(part.len().min(POLICY_CHUNK_BYTES)))))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    fn next(body: &mut Shared) -> Option<Bytes> {
        let chunk = poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).now_or_never();
        chunk.expect("all of it is there").map(|chunk| chunk.expect("nothing fails"))
    }

    #[test]
    fn what_is_shared_is_handed_over_in_slices_and_not_copied() {
        let shared = Bytes::from(vec![b'x'; 3 * POLICY_CHUNK_BYTES + 1]);
        let mut body = Shared::new("head", shared.clone(), "tail");
        assert_eq!(body.size(), BodySize::Sized(shared.len() as u64 + 8));
        assert_eq!(next(&mut body).unwrap(), "head");
        for slice in shared.chunks(POLICY_CHUNK_BYTES) {
            let chunk = next(&mut body).unwrap();
            assert_eq!((chunk.as_ptr(), chunk.len()), (slice.as_ptr(), slice.len()));
        }
        assert_eq!((next(&mut body).unwrap(), next(&mut body)), ("tail".into(), None));
    }
}
