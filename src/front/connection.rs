//! The state of one connection.
//!
//! All of it belongs to one thread. Times are ticks of the worker's coarse clock, so noting one costs a load and a store.

#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::{
    times::{ConnectionPhase, Cut, Tick, Times, ticks},
    wheel::Wheel,
};
use crate::limits::{LINGER_MS, READ_TURN_BYTES};

/// State shared by the connections of a worker.
#[derive(Default)]
pub(super) struct Common {
    /// The coarse clock.
    pub(super) now: Cell<Tick>,
    /// Connections that have been cut and are not gone yet.
    pub(super) cut: Cell<usize>,
    /// When each connection is looked at next.
    wheel: RefCell<Wheel>,
}

impl Common {
    /// The keys of the connections that are filed under this tick.
    pub(super) fn due(&self, at: Tick) -> Vec<u32> {
        self.wheel.borrow_mut().take(at)
    }
}

/// A connection, as its stream, its requests and the sweep of its worker see it.
pub struct Connection {
    common: Rc<Common>,
    /// Among those of its worker.
    key: u32,
    /// When it is looked at next. Under other ticks it may be filed still, which means nothing.
    look_at: Cell<Tick>,
    phase: Cell<ConnectionPhase>,
    since: Cell<Tick>,
    /// Of HTTP/2, since when there was no request when a frame began.
    idle_since: Cell<Tick>,
    blocked_since: Cell<Option<Tick>>,
    under_way: Cell<u32>,
    /// Whether a request that is under way has a body, for which bytes must be read.
    wants_body: Cell<bool>,
    /// Whether the next answer to end is the last one.
    closing: Cell<bool>,
    /// Answers that wait for the peer to read.
    unread: Cell<u32>,
    /// Requests whose answers have been given.
    answered: Cell<u64>,
    /// Whether reading waits for something other than bytes.
    held: Cell<bool>,
    /// Bytes that may still be read before others have their turn.
    turn: Cell<usize>,
    /// Whether its peer can be notified of the end (GOAWAY).
    takes_notice: Cell<bool>,
    /// Why its peer is notified.
    notice: Cell<Option<Cut>>,
    cut: Cell<Option<Cut>>,
    waker: Cell<Option<Waker>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.times()).finish()
    }
}

impl Connection {
    pub(super) fn new(common: Rc<Common>, key: u32) -> Self {
        let since = common.now.clone();
        Self {
            common,
            key,
            look_at: since.clone(),
            phase: Cell::new(ConnectionPhase::Silent),
            idle_since: since.clone(),
            since,
            blocked_since: Cell::default(),
            under_way: Cell::default(),
            wants_body: Cell::default(),
            closing: Cell::default(),
            unread: Cell::default(),
            answered: Cell::default(),
            held: Cell::default(),
            turn: Cell::default(),
            takes_notice: Cell::default(),
            notice: Cell::default(),
            cut: Cell::default(),
            waker: Cell::default(),
        }
    }

    pub(super) fn times(&self) -> Times {
        Times {
            phase: self.phase.get(),
            since: self.since.get(),
            blocked_since: self.blocked_since.get(),
            waits_for_reader: self.unread.get() > 0 && self.unread.get() >= self.under_way.get(),
            is_proven: self.answered.get() > 0,
        }
    }

    pub(super) fn enter(&self, phase: ConnectionPhase) {
        self.phase.set(phase);
        self.since.set(self.now());
        if phase == ConnectionPhase::Closing {
            // Shorter than any other: it may be over before it is looked at.
            self.look_again(ticks(LINGER_MS) + 1);
        }
    }

    /// It is to be looked at in so many ticks.
    pub(super) fn look_again(&self, ticks: Tick) {
        let at = self.now().wrapping_add(ticks);
        self.look_at.set(at);
        self.common.wheel.borrow_mut().file(self.key, at);
    }

    /// Whether it is to be looked at now.
    pub(super) fn is_due(&self) -> bool {
        self.look_at.get() == self.now()
    }

    /// Bytes have come.
    pub(super) fn note_bytes(&self) {
        match self.phase.get() {
            ConnectionPhase::Silent | ConnectionPhase::Idle => self.enter(ConnectionPhase::Head),
            ConnectionPhase::Handshake | ConnectionPhase::Head | ConnectionPhase::Busy | ConnectionPhase::Closing => {}
        }
    }

    /// Frames of HTTP/2 have come; `whole`, if none has begun that has yet to end. They alone do not make a connection less
    /// idle: requests do.
    pub(super) fn heard_frames(&self, whole: bool) {
        match (self.phase.get(), whole) {
            (ConnectionPhase::Idle, false) => {
                self.idle_since.set(self.since.get());
                self.enter(ConnectionPhase::Head);
            }
            (ConnectionPhase::Head, true) => {
                self.phase.set(ConnectionPhase::Idle);
                self.since.set(self.idle_since.get());
            }
            (
                ConnectionPhase::Silent
                | ConnectionPhase::Handshake
                | ConnectionPhase::Head
                | ConnectionPhase::Busy
                | ConnectionPhase::Idle
                | ConnectionPhase::Closing,
                _,
            ) => {}
        }
    }

    /// Counts a request until the returned guard is dropped. `wants_body`: the request has one.
    pub fn begin(self: &Rc<Self>, wants_body: bool) -> InFlightRequest {
        self.under_way.set(self.under_way.get() + 1);
        self.wants_body.set(wants_body);
        self.enter(ConnectionPhase::Busy);
        InFlightRequest(self.clone())
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
            self.enter(if self.closing.get() { ConnectionPhase::Closing } else { ConnectionPhase::Idle });
            self.release();
        }
    }

    pub(super) fn under_way(&self) -> u32 {
        self.under_way.get()
    }

    /// Waits for the peer to read of an answer; meanwhile the connection may have to make room.
    pub(super) async fn while_unread<T>(&self, waiting: impl Future<Output = T>) -> T {
        struct Unread<'a>(&'a Cell<u32>);
        impl Drop for Unread<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.unread.set(self.unread.get() + 1);
        let _unread = Unread(&self.unread);
        waiting.await
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.get()
    }

    /// Whether a request is in flight that has no body to be read.
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

    /// Nothing more is answered; the peer has a moment, from the first call on, to take what it was sent.
    pub(super) fn close(&self) {
        self.closing.set(true);
        match self.phase.get() {
            ConnectionPhase::Closing => {}
            ConnectionPhase::Silent
            | ConnectionPhase::Handshake
            | ConnectionPhase::Head
            | ConnectionPhase::Busy
            | ConnectionPhase::Idle => self.enter(ConnectionPhase::Closing),
        }
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
    fn blocked(&self) {
        if self.blocked_since.get().is_none() {
            self.blocked_since.set(Some(self.now()));
        }
    }

    /// Notes whether the peer has taken something.
    pub(super) fn noting<T>(&self, sent: Poll<T>) -> Poll<T> {
        match sent {
            Poll::Pending => self.blocked(),
            Poll::Ready(_) => self.unblocked(),
        }
        sent
    }

    /// The peer has taken something.
    fn unblocked(&self) {
        if self.blocked_since.take().is_some() {
            if self.phase.get() == ConnectionPhase::Closing {
                self.enter(ConnectionPhase::Closing);
            }
            self.release();
        }
    }

    fn release(&self) {
        if self.held.take() {
            self.wake();
        }
    }

    pub(super) fn now(&self) -> Tick {
        self.common.now.get()
    }

    /// Ends it.
    pub(super) fn cut(&self, why: Cut) {
        if self.cut.replace(Some(why)).is_none() {
            self.common.cut.set(self.common.cut.get() + 1);
        }
        self.wake();
    }

    /// Whether it was ended.
    pub(super) fn was_cut(&self) -> Option<Cut> {
        self.cut.get()
    }

    /// From now on its peer can be notified of the end (GOAWAY).
    pub(super) fn takes_notice(&self) {
        self.takes_notice.set(true);
    }

    /// Ends it; if its peer can be notified, only after that and a moment more.
    pub(super) fn dismiss(&self, why: Cut) {
        if !self.takes_notice.get() {
            return self.cut(why);
        }
        if self.notice.get().is_none() {
            self.notice.set(Some(why));
            self.close();
            self.wake();
        }
    }

    /// Waits until its peer is to be notified; polled whenever the connection is.
    pub(super) async fn until_dismissed(&self) {
        poll_fn(|_| if self.notice.get().is_some() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Why it was ended, or is about to end.
    pub(super) fn why_ended(&self) -> Option<Cut> {
        self.notice.get().or(self.cut.get())
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

/// A request in flight on a connection.
#[derive(Debug)]
pub struct InFlightRequest(Rc<Connection>);

impl InFlightRequest {
    pub fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.0.end();
    }
}
