//! The signals that the process listens to. None but SIGKILL ends it undrained.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a process that does not handle them, and that mean nothing to this one.
const IGNORED: [fn() -> SignalKind; 4] =
    [SignalKind::user_defined1, SignalKind::user_defined2, SignalKind::alarm, SignalKind::io];

/// SIGTERM, SIGINT and SIGQUIT, which end the process in order; and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Begins to listen; from now on the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// The system has no file or memory left for it.
    pub fn listen() -> io::Result<Self> {
        for kind in IGNORED {
            // Whoever has listened once has done away with what the signal does by itself.
            drop(signal(kind())?);
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal to end.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP: nothing is read anew; a changed configuration takes effect at a restart");
                }
            }
        }
    }
}
