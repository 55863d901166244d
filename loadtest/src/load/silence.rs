//! Who falls silent, and from when on. Pure: numbers in, numbers out.

use std::ops::Range;

/// Some agents of a fleet that no longer beat, from one beat of the schedule on.
///
/// They are spread evenly over the fleet, and therefore over the interval; all others keep their due times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silence {
    agents: u64,
    silent: u64,
    from_beat: u64,
}

impl Silence {
    /// `silent` of `agents`, of which there is at least one, are silent from beat `from_beat` on.
    pub(crate) fn of(silent: u64, agents: u64, from_beat: u64) -> Self {
        Self { agents: agents.max(1), silent: silent.min(agents), from_beat }
    }

    /// Nobody ever.
    pub(crate) fn never() -> Self {
        Self::of(0, 1, u64::MAX)
    }

    /// Whether this agent, counted from 0, is one of those that fall silent.
    pub(crate) fn includes(&self, agent: u64) -> bool {
        self.passed(agent + 1) > self.passed(agent)
    }

    /// Whether this beat is not sent because its agent is silent by then.
    pub(crate) fn suppresses(&self, beat: u64) -> bool {
        beat >= self.from_beat && self.includes(beat % self.agents)
    }

    /// How many of these beats are not sent.
    pub(crate) fn suppressed(&self, beats: Range<u64>) -> u64 {
        let up_to = |beat: u64| {
            let beat = beat.max(self.from_beat);
            (beat / self.agents) * self.silent + self.passed(beat % self.agents)
        };
        up_to(beats.end.max(beats.start)) - up_to(beats.start)
    }

    /// How many silent agents there are before this one: a line that rises by one at each of them.
    fn passed(&self, agent: u64) -> u64 {
        let passed = u128::from(agent) * u128::from(self.silent) / u128::from(self.agents);
        u64::try_from(passed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_silent_as_were_asked_for_spread_over_the_fleet() {
        for (silent, agents) in [(0, 10), (3, 10), (10, 10), (1, 7), (1, 1), (99, 10)] {
            let silence = Silence::of(silent, agents, 0);
            let count = (0..agents).filter(|agent| silence.includes(*agent)).count() as u64;
            assert_eq!(count, silent.min(agents), "{silent} of {agents}");
        }
        let silence = Silence::of(10, 100, 0);
        for tenth in 0..10 {
            assert_eq!((tenth * 10..tenth * 10 + 10).filter(|agent| silence.includes(*agent)).count(), 1);
        }
    }

    #[test]
    fn beats_are_suppressed_from_the_given_one_on_and_counted_right() {
        for (silent, agents, from) in [(3, 10, 0), (3, 10, 17), (7, 7, 3), (0, 5, 0), (1, 13, 26)] {
            let silence = Silence::of(silent, agents, from);
            assert!((0..from).all(|beat| !silence.suppresses(beat)));
            for range in [0..0, 0..5, 3..40, 16..18, 20..100] {
                let count = range.clone().filter(|beat| silence.suppresses(*beat)).count() as u64;
                assert_eq!(silence.suppressed(range.clone()), count, "{silent} of {agents} from {from}: {range:?}");
            }
        }
    }

    #[test]
    fn never_is_never() {
        let silence = Silence::never();
        assert!(!silence.suppresses(0) && !silence.suppresses(u64::MAX - 1) && !silence.includes(0));
        assert_eq!(silence.suppressed(0..1_000_000), 0);
    }
}
