//! A timer of microseconds.
//!
//! tokio's timers have a resolution of a millisecond: latencies that count from due times would be
//! half a millisecond too long, on servers that answer in a fifth of that.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(super) struct Sleeper {
    timer: AsyncFd<OwnedFd>,
}

impl Sleeper {
    /// Needs a tokio runtime with I/O.
    #[expect(
        deprecated,
        reason = "its successor is an unsafe fn that asks for a descriptor that stays open; an OwnedFd does"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { timer: AsyncFd::with_interest(timer, Interest::READABLE)? })
    }

    /// Sleeps for at least `nap`.
    pub(super) async fn sleep(&mut self, nap: Duration) -> io::Result<()> {
        // A value of zero would disarm the timer.
        let nap = nap.max(Duration::from_nanos(1));
        let never_again = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec {
            it_interval: never_again,
            it_value: Timespec {
                tv_sec: i64::try_from(nap.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(nap.subsec_nanos()),
            },
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.timer
            .async_io(Interest::READABLE, |timer| {
                let mut expirations = [0; 8];
                rustix::io::read(timer, &mut expirations).map_err(io::Error::from)
            })
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_nap_lasts_no_less_than_it_should() {
        let mut sleeper = Sleeper::new().expect("a timer");
        for nap_us in [0, 1, 300, 1_500] {
            let nap = Duration::from_micros(nap_us);
            let begun = Instant::now();
            sleeper.sleep(nap).await.expect("a nap");
            assert!(begun.elapsed() >= nap);
        }
    }
}
