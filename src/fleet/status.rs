//! When an agent counts as silent: pure functions of the last heartbeat and the time.

use std::{fmt, str::FromStr, time::Duration};

use serde::Serialize;

/// A moment in *active time*: microseconds in which the engine could receive heartbeats, counted over all its runs.
///
/// It stands still while the process is paused, starved or not running, so time in which a heartbeat could not have
/// been received is never mistaken for silence. See [`crate::clock`], its only source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActiveTime(i64);

impl ActiveTime {
    /// The moment after this many microseconds of active time.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds of active time before this moment.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment `span` later.
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }

    /// The moment `span` earlier.
    pub const fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }

    /// The span from `earlier` to this moment; nothing if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        let span = self.0.saturating_sub(earlier.0);
        Duration::from_micros(if span < 0 { 0 } else { span as u64 })
    }
}

/// Microseconds of a span, at most `i64::MAX` of them (292,000 years).
const fn micros(span: Duration) -> i64 {
    let micros = span.as_micros();
    if micros > i64::MAX as u128 { i64::MAX } else { micros as i64 }
}

/// Whether an agent is alive, judged by how long ago it last beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Silent for less than timeout + grace.
    Online,
    /// Silent for timeout + grace or longer.
    Stale,
    /// Silent for `offline_after` or longer.
    Offline,
}

impl Status {
    /// Every status, in the order of growing silence.
    pub const ALL: [Self; 3] = [Self::Online, Self::Stale, Self::Offline];

    /// The name in the API and in metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Offline => "offline",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.name() == text).ok_or(())
    }
}

/// How much silence makes an agent stale, and how much makes it offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Timeout + grace.
    pub stale_after: Duration,
    /// More than `stale_after`: the configuration sees to it.
    pub offline_after: Duration,
}

/// A change of status, to be emitted and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The status until now.
    pub from: Status,
    /// The status from now on; never the same as `from`.
    pub to: Status,
}

impl Transition {
    /// The transition between two statuses, if they differ.
    pub fn between(from: Status, to: Status) -> Option<Self> {
        (from != to).then_some(Self { from, to })
    }
}

/// All that decides an agent's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// The last sign of life: a heartbeat or the registration.
    pub last_active: ActiveTime,
}

impl Liveness {
    /// The status at `now`: the one function that decides it.
    pub fn status(self, now: ActiveTime, thresholds: &Thresholds) -> Status {
        let silence = now.since(self.last_active);
        if silence >= thresholds.offline_after {
            Status::Offline
        } else if silence >= thresholds.stale_after {
            Status::Stale
        } else {
            Status::Online
        }
    }

    /// When an agent that stays silent enters `status`.
    pub fn enters(self, status: Status, thresholds: &Thresholds) -> ActiveTime {
        match status {
            Status::Online => self.last_active,
            Status::Stale => self.last_active.after(thresholds.stale_after),
            Status::Offline => self.last_active.after(thresholds.offline_after),
        }
    }

    /// The earliest moment after `now` at which silence changes the status; none once it is offline.
    pub fn next_change(self, now: ActiveTime, thresholds: &Thresholds) -> Option<ActiveTime> {
        match self.status(now, thresholds) {
            Status::Online => Some(self.enters(Status::Stale, thresholds)),
            Status::Stale => Some(self.enters(Status::Offline, thresholds)),
            Status::Offline => None,
        }
    }

    /// What an agent's liveness becomes when the engine starts again at `now`.
    ///
    /// An agent that was silent for long enough before the engine stopped stays stale or offline. Every other one may
    /// have beaten while the server was down, so its silence starts anew: it turns stale no earlier than `grace` after
    /// `now`.
    pub fn after_restart(self, now: ActiveTime, grace: Duration, thresholds: &Thresholds) -> Self {
        match self.status(now, thresholds) {
            Status::Online => {
                Self { last_active: self.last_active.min(now).max(now.after(grace).before(thresholds.stale_after)) }
            }
            Status::Stale | Status::Offline => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THRESHOLDS: Thresholds =
        Thresholds { stale_after: Duration::from_millis(90_000), offline_after: Duration::from_millis(300_000) };

    fn last_active_at(micros: i64) -> Liveness {
        Liveness { last_active: ActiveTime::from_micros(micros) }
    }

    #[test]
    fn the_thresholds_themselves_belong_to_the_later_status() {
        let agent = last_active_at(0);
        for (micros, status) in [
            (0, Status::Online),
            (89_999_999, Status::Online),
            (90_000_000, Status::Stale),
            (299_999_999, Status::Stale),
            (300_000_000, Status::Offline),
            (i64::MAX, Status::Offline),
        ] {
            assert_eq!(agent.status(ActiveTime::from_micros(micros), &THRESHOLDS), status, "after {micros} µs");
        }
    }

    #[test]
    fn an_agent_heard_in_the_future_is_online() {
        assert_eq!(last_active_at(10).status(ActiveTime::from_micros(0), &THRESHOLDS), Status::Online);
    }

    #[test]
    fn a_restart_forgives_the_online_and_remembers_the_silent() {
        let grace = THRESHOLDS.stale_after;
        let now = ActiveTime::from_micros(1_000_000_000);
        let online =
            Liveness { last_active: now.before(Duration::from_secs(89)) }.after_restart(now, grace, &THRESHOLDS);
        assert_eq!(online.enters(Status::Stale, &THRESHOLDS), now.after(grace));
        let stale = Liveness { last_active: now.before(Duration::from_secs(90)) };
        assert_eq!(stale.after_restart(now, grace, &THRESHOLDS), stale);
        let longer = Liveness { last_active: now }.after_restart(now, grace * 2, &THRESHOLDS);
        assert_eq!(longer.enters(Status::Stale, &THRESHOLDS), now.after(grace * 2));
    }

    fn thresholds() -> impl Strategy<Value = Thresholds> {
        (1_u64..10_000_000_000, 1_u64..10_000_000_000).prop_map(|(stale, more)| Thresholds {
            stale_after: Duration::from_micros(stale),
            offline_after: Duration::from_micros(stale + more),
        })
    }

    proptest! {
        #[test]
        fn silence_only_ever_moves_towards_offline(t in thresholds(), since: i32, a in 0_u64..1 << 40, b in 0_u64..1 << 40) {
            let agent = last_active_at(since.into());
            let order = |status| Status::ALL.iter().position(|s| *s == status);
            let at = |span| agent.status(agent.last_active.after(Duration::from_micros(span)), &t);
            prop_assert!(order(at(a.min(b))) <= order(at(a.max(b))));
        }

        #[test]
        fn nothing_changes_before_the_next_change_and_it_changes_there(t in thresholds(), since: i32, silence in 0_u64..1 << 36) {
            let agent = last_active_at(since.into());
            let now = agent.last_active.after(Duration::from_micros(silence));
            let status = agent.status(now, &t);
            match agent.next_change(now, &t) {
                Some(change) => {
                    prop_assert!(change > now);
                    prop_assert_eq!(agent.status(change.before(Duration::from_micros(1)), &t), status);
                    prop_assert_ne!(agent.status(change, &t), status);
                }
                None => prop_assert_eq!(status, Status::Offline),
            }
        }

        #[test]
        fn an_agent_that_beats_within_the_threshold_is_never_stale(
            t in thresholds(),
            gaps in proptest::collection::vec(0.0_f64..1.0, 1..50),
        ) {
            let mut now = ActiveTime::from_micros(0);
            let mut agent = Liveness { last_active: now };
            for gap in gaps {
                let longest = t.stale_after - Duration::from_micros(1);
                now = now.after(longest.mul_f64(gap).min(longest));
                prop_assert_eq!(agent.status(now, &t), Status::Online);
                agent.last_active = now;
            }
        }

        #[test]
        fn no_restart_makes_an_online_agent_stale_within_the_grace(
            t in thresholds(),
            now in 0_i64..1 << 50,
            silence in 0_u64..1 << 36,
            grace in 1_u64..1 << 36,
        ) {
            let now = ActiveTime::from_micros(now);
            let before = Liveness { last_active: now.before(Duration::from_micros(silence)) };
            let grace = Duration::from_micros(grace);
            let after = before.after_restart(now, grace, &t);
            if before.status(now, &t) == Status::Online {
                let last_moment = now.after(grace).before(Duration::from_micros(1));
                prop_assert_eq!(after.status(last_moment.max(now), &t), Status::Online);
            } else {
                prop_assert_eq!(after, before);
            }
        }
    }
}
