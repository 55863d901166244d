//! Counts of what there is at the moment.

use std::cell::Cell;

/// A live count: streams, or connections, of a worker.
#[derive(Default)]
pub(super) struct LiveCount(Cell<usize>);

impl LiveCount {
    pub(super) fn count(&self) -> usize {
        self.0.get()
    }

    /// One more, until the returned guard is dropped.
    pub(super) fn add(&self) -> Counted<'_> {
        self.0.set(self.0.get() + 1);
        Counted(&self.0)
    }
}

/// One of a [`LiveCount`].
pub(super) struct Counted<'a>(&'a Cell<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
