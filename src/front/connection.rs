//! What is known of one connection, and the rule by which its time runs out.
//!
//! All of it belongs to one thread. Times are ticks of the worker's coarse clock, so noting one costs a load and a store.

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::limits::{
    ANSWER_TIMEOUT_MS, CONNECTION_TICK_MS, HANDSHAKE_TIMEOUT_MS, HEAD_TIMEOUT_MS, LINGER_MS, READ_TURN_BYTES,
};

/// A moment, in ticks of the worker's clock.
pub(super) type Tick = u32;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has come yet.
    Silent,
    /// A TLS handshake is under way.
    Handshake,
    /// A head has begun and is not whole. On HTTP/2: the connection preface.
    Head,
    /// Requests are under way.
    Busy,
    /// All that was asked is answered.
    Idle,
    /// The last answer has been given; the peer has a moment to take it.
    Closing,
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing was asked for too long.
    Idle,
    /// A head, or the first byte, took too long.
    SlowHead,
    /// A TLS handshake took too long.
    SlowHandshake,
    /// An answer was not read for too long.
    Unread,
    /// The last answer was given, and the peer did not close.
    Ended,
    /// Room was needed for a new connection.
    Crowded,
    /// The server ends.
    Stopping,
}

impl Cut {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Idle, Self::SlowHead, Self::SlowHandshake, Self::Unread, Self::Ended, Self::Crowded, Self::Stopping];

    /// As a metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::SlowHead => "slow_head",
            Self::SlowHandshake => "slow_handshake",
            Self::Unread => "unread",
            Self::Ended => "ended",
            Self::Crowded => "crowded",
            Self::Stopping => "stopping",
        }
    }
}

/// How many ticks each phase may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) idle: Tick,
}

/// Ticks that are no fewer than these milliseconds.
pub(super) const fn ticks(ms: u64) -> Tick {
    // One more: the tick in which it begins has already begun.
    (ms.div_ceil(CONNECTION_TICK_MS) + 1) as Tick
}

/// The times of a connection: pure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) phase: Phase,
    /// When the phase began.
    pub(super) since: Tick,
    /// Since when the peer takes nothing of what waits for it.
    pub(super) blocked_since: Option<Tick>,
}

impl Times {
    /// Why the connection has had its time, if it has.
    pub(super) fn overdue(self, now: Tick, deadlines: Deadlines) -> Option<Cut> {
        let age = now.wrapping_sub(self.since);
        if self.blocked_since.is_some_and(|since| now.wrapping_sub(since) > ticks(ANSWER_TIMEOUT_MS)) {
            return Some(Cut::Unread);
        }
        let (limit, cut) = match self.phase {
            Phase::Silent | Phase::Head => (ticks(HEAD_TIMEOUT_MS), Cut::SlowHead),
            Phase::Handshake => (ticks(HANDSHAKE_TIMEOUT_MS), Cut::SlowHandshake),
            Phase::Busy => return None,
            Phase::Idle => (deadlines.idle, Cut::Idle),
            // What is on its way has the time of an answer.
            Phase::Closing if self.blocked_since.is_some() => return None,
            Phase::Closing => (ticks(LINGER_MS), Cut::Ended),
        };
        (age > limit).then_some(cut)
    }

    /// Which of several goes first when there is no more room: less is earlier. Whoever is being answered stays.
    pub(super) fn precedence(self, now: Tick) -> Option<(u8, std::cmp::Reverse<Tick>)> {
        let class = match self.phase {
            Phase::Busy => return None,
            Phase::Idle | Phase::Closing => 0,
            Phase::Silent | Phase::Head | Phase::Handshake => 1,
        };
        Some((class, std::cmp::Reverse(now.wrapping_sub(self.since))))
    }
}

/// A connection, as its stream, its requests and the sweep of its worker see it.
pub struct Connection {
    clock: Rc<Cell<Tick>>,
    phase: Cell<Phase>,
    since: Cell<Tick>,
    blocked_since: Cell<Option<Tick>>,
    under_way: Cell<u32>,
    /// Whether a request that is under way has a body, for which bytes must be read.
    wants_body: Cell<bool>,
    /// Whether the next answer to end is the last one.
    closing: Cell<bool>,
    /// Requests whose answers have been given.
    answered: Cell<u64>,
    /// Whether reading waits for something other than bytes.
    held: Cell<bool>,
    /// Bytes that may still be read before others have their turn.
    turn: Cell<usize>,
    cut: Cell<Option<Cut>>,
    waker: Cell<Option<Waker>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.times()).finish()
    }
}

impl Connection {
    pub(super) fn new(clock: Rc<Cell<Tick>>) -> Self {
        let since = Cell::new(clock.get());
        Self {
            clock,
            phase: Cell::new(Phase::Silent),
            since,
            blocked_since: Cell::default(),
            under_way: Cell::default(),
            wants_body: Cell::default(),
            closing: Cell::default(),
            answered: Cell::default(),
            held: Cell::default(),
            turn: Cell::default(),
            cut: Cell::default(),
            waker: Cell::default(),
        }
    }

    pub(super) fn times(&self) -> Times {
        Times { phase: self.phase.get(), since: self.since.get(), blocked_since: self.blocked_since.get() }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.get());
    }

    /// Bytes have come.
    pub(super) fn heard(&self) {
        match self.phase.get() {
            Phase::Silent | Phase::Idle => self.enter(Phase::Head),
            Phase::Handshake | Phase::Head | Phase::Busy | Phase::Closing => {}
        }
    }

    /// Counts a request until what is returned is dropped. `wants_body`: the request has one.
    pub fn begin(self: &Rc<Self>, wants_body: bool) -> UnderWay {
        self.under_way.set(self.under_way.get() + 1);
        self.wants_body.set(wants_body);
        self.enter(Phase::Busy);
        UnderWay(self.clone())
    }

    /// The answer that is about to be given is the last one. What was asked after it is not answered any more.
    pub fn close_after_answer(&self) {
        self.closing.set(true);
    }

    /// Whether the last answer has been given, if not sent.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    pub(super) fn is_answering(&self) -> bool {
        self.under_way.get() > 0
    }

    fn end(&self) {
        self.answered.set(self.answered.get() + 1);
        self.under_way.set(self.under_way.get() - 1);
        if self.under_way.get() == 0 {
            self.enter(if self.closing.get() { Phase::Closing } else { Phase::Idle });
            self.release();
        }
    }

    /// Requests that have been answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered.get()
    }

    /// Whether a request is under way that has no body to be read.
    pub(super) fn needs_no_body(&self) -> bool {
        self.is_answering() && !self.wants_body.get()
    }

    /// Whether the peer takes nothing of what waits for it.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.get().is_some()
    }

    /// Reading is for later: whoever wants to is woken when an answer has been given.
    pub(super) fn hold(&self) {
        self.held.set(true);
    }

    /// Nothing more is answered; the peer has a moment to take what it was sent.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.enter(Phase::Closing);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase.get() == Phase::Closing
    }

    /// Whether more may be read before it is the turn of others; if not, this one comes again after them.
    pub(super) fn has_turn(&self, cx: &Context<'_>) -> bool {
        let has_turn = self.turn.get() > 0;
        if !has_turn {
            cx.waker().wake_by_ref();
        }
        has_turn
    }

    pub(super) fn took(&self, bytes: usize) {
        self.turn.set(self.turn.get().saturating_sub(bytes));
    }

    /// The peer takes nothing more for now.
    pub(super) fn blocked(&self) {
        if self.blocked_since.get().is_none() {
            self.blocked_since.set(Some(self.clock.get()));
        }
    }

    /// The peer has taken something.
    pub(super) fn unblocked(&self) {
        if self.blocked_since.take().is_some() {
            if self.phase.get() == Phase::Closing {
                self.enter(Phase::Closing);
            }
            self.release();
        }
    }

    fn release(&self) {
        if self.held.take() {
            self.wake();
        }
    }

    /// The coarse clock.
    pub(super) fn now(&self) -> Tick {
        self.clock.get()
    }

    /// Ends it.
    pub(super) fn cut(&self, why: Cut) {
        self.cut.set(Some(why));
        self.wake();
    }

    /// Why it was ended.
    pub(super) fn was_cut(&self) -> Option<Cut> {
        self.cut.get()
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }

    /// Serves it, until that ends or the connection is cut.
    pub(super) async fn until_cut<T>(&self, serving: impl Future<Output = Option<T>>) -> Option<T> {
        let mut serving = pin!(serving);
        poll_fn(|cx| {
            if self.cut.get().is_some() {
                return Poll::Ready(None);
            }
            let waker = self.waker.take().filter(|waker| waker.will_wake(cx.waker()));
            self.waker.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
            self.turn.set(READ_TURN_BYTES);
            serving.as_mut().poll(cx)
        })
        .await
    }
}

/// A request under way on a connection.
#[derive(Debug)]
pub struct UnderWay(Rc<Connection>);

impl UnderWay {
    /// Its connection.
    pub fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Deadlines = Deadlines { idle: ticks(75_000) };

    #[test]
    fn each_phase_has_its_time_and_no_more() {
        for (phase, ms, cut) in [
            (Phase::Silent, HEAD_TIMEOUT_MS, Cut::SlowHead),
            (Phase::Head, HEAD_TIMEOUT_MS, Cut::SlowHead),
            (Phase::Handshake, HANDSHAKE_TIMEOUT_MS, Cut::SlowHandshake),
            (Phase::Idle, 75_000, Cut::Idle),
            (Phase::Closing, LINGER_MS, Cut::Ended),
        ] {
            // Also where the clock has gone round.
            for since in [7, Tick::MAX - 1] {
                let times = Times { phase, since, blocked_since: None };
                assert_eq!(times.overdue(since.wrapping_add(ticks(ms)), IDLE), None, "{phase:?}");
                assert_eq!(times.overdue(since.wrapping_add(ticks(ms) + 1), IDLE), Some(cut), "{phase:?}");
            }
        }
        let busy = Times { phase: Phase::Busy, since: 0, blocked_since: None };
        assert_eq!(busy.overdue(1_000_000, IDLE), None);
        let blocked = Times { blocked_since: Some(5), ..busy };
        assert_eq!(blocked.overdue(5 + ticks(ANSWER_TIMEOUT_MS), IDLE), None);
        assert_eq!(blocked.overdue(6 + ticks(ANSWER_TIMEOUT_MS), IDLE), Some(Cut::Unread));
    }

    #[test]
    fn the_longest_idle_go_first_and_whoever_is_answered_stays() {
        let order = |phase, since| Times { phase, since, blocked_since: None }.precedence(100);
        assert_eq!(order(Phase::Busy, 0), None);
        assert!(order(Phase::Idle, 10) < order(Phase::Idle, 20));
        assert!(order(Phase::Idle, 99) < order(Phase::Head, 0));
        assert!(order(Phase::Silent, 10) < order(Phase::Handshake, 20));
    }

    #[test]
    fn a_byte_after_an_answer_begins_a_head() {
        let clock = Rc::new(Cell::new(3));
        let connection = Rc::new(Connection::new(clock.clone()));
        connection.heard();
        let request = connection.begin(true);
        assert_eq!(connection.times().phase, Phase::Busy);
        drop(request);
        assert_eq!(connection.times().phase, Phase::Idle);
        clock.set(9);
        connection.heard();
        clock.set(12);
        connection.heard();
        assert_eq!((connection.times().phase, connection.times().since), (Phase::Head, 9));
    }
}
