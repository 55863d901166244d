//! The rule by which a connection's time runs out, and the order in which connections make room: pure.

use crate::limits::{
    ANSWER_TIMEOUT_MS, CONNECTION_TICK_MS, HANDSHAKE_TIMEOUT_MS, HEAD_TIMEOUT_MS, LINGER_MS, STRANGER_MS,
};

/// A moment, in ticks of the worker's clock.
pub(super) type Tick = u32;

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionPhase {
    /// Nothing has come yet.
    Silent,
    Handshake,
    /// A head has begun and is not whole. On HTTP/2: the connection preface.
    Head,
    /// Requests are in flight.
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
    SlowHandshake,
    /// An answer was not read for too long.
    Unread,
    /// The last answer was given, and the peer did not close.
    Ended,
    /// Room was needed for a new connection.
    Crowded,
    /// The server ends.
    Stopping,
    FailedHandshake,
    /// The peer does not keep to HTTP/2.
    ProtocolError,
}

impl Cut {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Idle,
        Self::SlowHead,
        Self::SlowHandshake,
        Self::Unread,
        Self::Ended,
        Self::Crowded,
        Self::Stopping,
        Self::FailedHandshake,
        Self::ProtocolError,
    ];

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
            Self::FailedHandshake => "failed_handshake",
            Self::ProtocolError => "protocol_error",
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

/// Every connection is looked at again within so many ticks. No deadline is nearer that may begin without being filed.
pub(super) const LOOK_WITHIN: Tick = ticks(HEAD_TIMEOUT_MS);
/// The times of a connection: pure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) phase: ConnectionPhase,
    /// When the phase began.
    pub(super) since: Tick,
    /// Since when the peer takes nothing of what waits for it.
    pub(super) blocked_since: Option<Tick>,
    /// Whether all that is under way waits for the peer to read.
    pub(super) waits_for_reader: bool,
    /// Whether a request has ever been answered on it.
    pub(super) is_proven: bool,
}

impl Times {
    /// Why the connection has had its time, if it has.
    pub(super) fn overdue(self, now: Tick, deadlines: Deadlines) -> Option<Cut> {
        let age = now.wrapping_sub(self.since);
        if self.blocked_since.is_some_and(|since| now.wrapping_sub(since) > ticks(ANSWER_TIMEOUT_MS)) {
            return Some(Cut::Unread);
        }
        self.limit(deadlines).and_then(|(limit, cut)| (age > limit).then_some(cut))
    }

    /// In how many ticks it is to be looked at again, having just been found not to be overdue.
    pub(super) fn look_in(self, now: Tick, deadlines: Deadlines) -> Tick {
        let age = now.wrapping_sub(self.since);
        let left = self.limit(deadlines).map_or(LOOK_WITHIN, |(limit, _)| limit.saturating_sub(age) + 1);
        let unread = self
            .blocked_since
            .map_or(LOOK_WITHIN, |since| ticks(ANSWER_TIMEOUT_MS).saturating_sub(now.wrapping_sub(since)) + 1);
        // It may be idle in the next moment, and that may be the shortest of all.
        left.min(unread).min(deadlines.idle + 1).min(LOOK_WITHIN)
    }

    /// How long its phase may take, and why it is cut then.
    fn limit(self, deadlines: Deadlines) -> Option<(Tick, Cut)> {
        Some(match self.phase {
            ConnectionPhase::Silent | ConnectionPhase::Head => (ticks(HEAD_TIMEOUT_MS), Cut::SlowHead),
            ConnectionPhase::Handshake => (ticks(HANDSHAKE_TIMEOUT_MS), Cut::SlowHandshake),
            ConnectionPhase::Busy => return None,
            ConnectionPhase::Idle => (deadlines.idle, Cut::Idle),
            // What is on its way has the time of an answer.
            ConnectionPhase::Closing if self.blocked_since.is_some() => return None,
            ConnectionPhase::Closing => (ticks(LINGER_MS), Cut::Ended),
        })
    }

    /// Which of several goes first when there is no more room: less is earlier. Strangers that have had a moment and said
    /// nothing whole go before those that have been served, and whoever is being answered stays, unless nobody reads.
    pub(super) fn precedence(self, now: Tick) -> Option<(u8, std::cmp::Reverse<Tick>)> {
        let age = now.wrapping_sub(self.since);
        let class = match self.phase {
            ConnectionPhase::Silent | ConnectionPhase::Head | ConnectionPhase::Handshake
                if !self.is_proven && age > ticks(STRANGER_MS) =>
            {
                0
            }
            ConnectionPhase::Idle | ConnectionPhase::Closing => 1,
            ConnectionPhase::Silent | ConnectionPhase::Head | ConnectionPhase::Handshake => 2,
            ConnectionPhase::Busy if self.waits_for_reader || self.blocked_since.is_some() => 3,
            ConnectionPhase::Busy => return None,
        };
        Some((class, std::cmp::Reverse(age)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(phase: ConnectionPhase, since: Tick) -> Times {
        Times { phase, since, blocked_since: None, waits_for_reader: false, is_proven: true }
    }

    const IDLE: Deadlines = Deadlines { idle: ticks(75_000) };

    #[test]
    fn each_phase_has_its_time_and_no_more() {
        for (phase, ms, cut) in [
            (ConnectionPhase::Silent, HEAD_TIMEOUT_MS, Cut::SlowHead),
            (ConnectionPhase::Head, HEAD_TIMEOUT_MS, Cut::SlowHead),
            (ConnectionPhase::Handshake, HANDSHAKE_TIMEOUT_MS, Cut::SlowHandshake),
            (ConnectionPhase::Idle, 75_000, Cut::Idle),
            (ConnectionPhase::Closing, LINGER_MS, Cut::Ended),
        ] {
            // Also where the clock has gone round.
            for since in [7, Tick::MAX - 1] {
                let times = times(phase, since);
                assert_eq!(times.overdue(since.wrapping_add(ticks(ms)), IDLE), None, "{phase:?}");
                assert_eq!(times.overdue(since.wrapping_add(ticks(ms) + 1), IDLE), Some(cut), "{phase:?}");
            }
        }
        // Looked at when it says, each is cut in the very tick in which it is overdue.
        for (phase, limit) in [
            (ConnectionPhase::Head, ticks(HEAD_TIMEOUT_MS)),
            (ConnectionPhase::Idle, ticks(75_000)),
            (ConnectionPhase::Closing, ticks(LINGER_MS)),
        ] {
            let times = times(phase, Tick::MAX - 3);
            let mut now = times.since;
            while times.overdue(now, IDLE).is_none() {
                now = now.wrapping_add(times.look_in(now, IDLE));
            }
            assert_eq!(now.wrapping_sub(times.since), limit + 1, "{phase:?}");
        }
        let busy = times(ConnectionPhase::Busy, 0);
        assert_eq!(busy.look_in(1_000_000, IDLE), LOOK_WITHIN);
        assert_eq!(busy.overdue(1_000_000, IDLE), None);
        let blocked = Times { blocked_since: Some(5), ..busy };
        assert_eq!(blocked.overdue(5 + ticks(ANSWER_TIMEOUT_MS), IDLE), None);
        assert_eq!(blocked.overdue(6 + ticks(ANSWER_TIMEOUT_MS), IDLE), Some(Cut::Unread));
    }

    #[test]
    fn strangers_go_first_then_the_longest_idle_and_whoever_is_answered_stays() {
        let order = |times: Times| times.precedence(100);
        let known = |phase, since| order(times(phase, since));
        let stranger = |since| order(Times { is_proven: false, ..times(ConnectionPhase::Silent, since) });
        assert_eq!(known(ConnectionPhase::Busy, 0), None);
        assert!(stranger(10) < stranger(20));
        assert!(stranger(20) < known(ConnectionPhase::Idle, 10));
        assert!(known(ConnectionPhase::Idle, 10) < known(ConnectionPhase::Idle, 20));
        assert!(known(ConnectionPhase::Idle, 99) < stranger(99), "one that has just come has a moment");
        assert!(known(ConnectionPhase::Idle, 99) < known(ConnectionPhase::Head, 0));
        let unread = order(Times { waits_for_reader: true, ..times(ConnectionPhase::Busy, 0) });
        assert!(known(ConnectionPhase::Head, 99) < unread && unread.is_some());
    }
}
