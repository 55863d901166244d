//! Receipts for heartbeats that are passed on: those that are not signed are lost.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What became of the heartbeats that a shard passes on. Reported when the last receipt is gone.
#[derive(Debug)]
struct Roll {
    lost: Mutex<Vec<u32>>,
    done: Option<oneshot::Sender<Vec<u32>>>,
}

impl Drop for Roll {
    fn drop(&mut self) {
        let lost = std::mem::take(self.lost.get_mut());
        if let Some(done) = self.done.take() {
            // Who hung up needs no answer.
            let _ = done.send(lost);
        }
    }
}

/// Goes with a heartbeat to its agent. One that is dropped unsigned means that the heartbeat was not taken over: there is
/// no such agent, or its actor panicked.
#[derive(Debug)]
pub struct Receipt {
    roll: Arc<Roll>,
    position: u32,
    signed: bool,
}

/// Receipts for the heartbeats of one message.
#[derive(Debug)]
pub struct Receipts(Arc<Roll>);

impl Receipts {
    /// No receipts yet; and what receives the positions of those that went unsigned, when these and all of them are gone.
    pub fn new() -> (Self, oneshot::Receiver<Vec<u32>>) {
        let (done, lost) = oneshot::channel();
        (Self(Arc::new(Roll { lost: Mutex::default(), done: Some(done) })), lost)
    }

    /// The receipt for the heartbeat at this position.
    pub fn next(&self, position: u32) -> Receipt {
        Receipt { roll: self.0.clone(), position, signed: false }
    }
}

impl Receipt {
    /// The heartbeat has been taken over.
    pub fn sign(mut self) {
        self.signed = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.signed {
            self.roll.lost.lock().push(self.position);
        }
    }
}
