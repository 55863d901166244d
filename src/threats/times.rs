//! When threats were taken in, where that is not the time in their ids.

use std::{collections::BTreeMap, ops::Bound};

use super::ThreatId;

/// Maps ids to times. Whatever the clock did, a greater id never has an earlier time.
///
/// An id bears the time of its creation, as long as the clock goes forward. When it has been set back by far, ids go on
/// growing from where they are, by ones, and the time of each is noted apart. A note means two things: that the ids from it
/// on, up to the next note, within the same millisecond of ids, are of that time; and that none before it can be of a later
/// one. So the threats that a clock far ahead has dated in the future are as old as the first one dated after it was right.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// The times grow with the ids.
    notes: BTreeMap<ThreatId, u64>,
}

impl Times {
    /// When the threat with this id was taken in, in milliseconds since 1970.
    pub(super) fn of(&self, id: ThreatId) -> u64 {
        if self.notes.is_empty() {
            return id.millis();
        }
        let last = self.notes.range(..=id).next_back().filter(|(from, _)| from.millis() == id.millis());
        let own_ms = last.map_or(id.millis(), |(_, at_ms)| *at_ms);
        self.following(id).map_or(own_ms, |next_ms| own_ms.min(next_ms))
    }

    /// Notes the time of an id. Returns whether this makes threats before it earlier than they were.
    pub(super) fn note(&mut self, id: ThreatId, at_ms: u64) -> bool {
        let noted = self.notes.range(id..).next().map_or(u64::MAX, |(_, noted_ms)| *noted_ms);
        let at_ms = at_ms.min(noted).min(id.millis());
        // One that says what is known anyway is kept too: a note before it, yet to come, would be taken for its time.
        if self.notes.get(&id) == Some(&at_ms) {
            return false;
        }
        let moves_others = id.get().checked_sub(1).is_some_and(|before| self.of(ThreatId::new(before)) > at_ms);
        let mut from = id;
        while let Some((&before, &before_ms)) = self.notes.range(..id).next_back()
            && before_ms > at_ms
        {
            self.notes.remove(&before);
            from = before;
        }
        self.notes.extend([(from, at_ms), (id, at_ms)]);
        moves_others
    }

    /// Forgets the notes of times before this: there are no threats left that they are about.
    pub(super) fn forget_before(&mut self, ms: u64) {
        while let Some(oldest) = self.notes.first_entry()
            && *oldest.get() < ms
        {
            oldest.remove();
        }
    }

    /// The time of the first note after an id.
    fn following(&self, id: ThreatId) -> Option<u64> {
        self.notes.range((Bound::Excluded(id), Bound::Unbounded)).next().map(|(_, at_ms)| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WRONG_MS: u64 = 3_000_000;

    #[test]
    fn what_a_clock_far_ahead_has_dated_is_no_later_than_what_came_after() {
        let wrong = |number| ThreatId::new(ThreatId::first_of(WRONG_MS).get() + number);
        let mut times = Times::default();
        assert_eq!(times.of(wrong(0)), WRONG_MS);
        // The clock is right again.
        assert!(times.note(wrong(1), 1_000));
        assert!(!times.note(wrong(4), 2_000));
        assert!(!times.note(wrong(2), 1_000));
        let seen: Vec<_> = (0..6).map(|number| times.of(wrong(number))).collect();
        assert_eq!(seen, [1_000, 1_000, 1_000, 1_000, 2_000, 2_000]);
        assert_eq!(times.of(ThreatId::first_of(900)), 900, "what was dated before");
        assert_eq!(times.of(ThreatId::first_of(WRONG_MS + 1)), WRONG_MS + 1, "the clock has caught up");
        assert!(times.note(wrong(6), 1_999));
        assert_eq!(
            [3, 4, 5, 6].map(|number| times.of(wrong(number))),
            [1_000, 1_999, 1_999, 1_999],
            "set back a little"
        );
        times.forget_before(1_001);
        assert_eq!((times.notes.len(), times.of(wrong(5))), (2, 1_999));
    }

    proptest! {
        #[test]
        fn times_do_not_depend_on_the_order_in_which_they_are_noted(
            noted in proptest::collection::btree_map((0_u64..4, 0_u64..5), 0_u64..6, 1..12)
                .prop_flat_map(|noted| Just(noted.into_iter().collect::<Vec<_>>()).prop_shuffle()),
        ) {
            let noted: Vec<_> =
                noted.into_iter().map(|((ms, number), at_ms)| (ThreatId::from_parts(ms, number).unwrap(), at_ms)).collect();
            let mut times = Times::default();
            noted.iter().for_each(|&(id, at_ms)| _ = times.note(id, at_ms));
            for &(id, _) in &noted {
                let later = noted.iter().filter(|(other, _)| *other >= id);
                let expected = later.map(|(other, at_ms)| (*at_ms).min(other.millis())).min();
                prop_assert_eq!(Some(times.of(id)), expected);
            }
        }

        #[test]
        fn whatever_is_noted_in_whatever_order_times_grow_with_ids(
            notes in proptest::collection::vec((0_u64..40, 0_u64..5, 0_u64..50), 0..12),
        ) {
            let id = |ms, number| ThreatId::from_parts(ms, number).unwrap();
            let mut times = Times::default();
            for (ms, number, at_ms) in notes {
                let id_of_it = id(ms, number);
                let before: Vec<_> = (0..40).flat_map(|ms| (0..5).map(move |n| id(ms, n))).filter(|id| *id < id_of_it).collect();
                let they_were: Vec<_> = before.iter().map(|id| times.of(*id)).collect();
                let is_moved = times.note(id_of_it, at_ms);
                let they_are: Vec<_> = before.iter().map(|id| times.of(*id)).collect();
                prop_assert!(times.of(id_of_it) <= at_ms);
                prop_assert!(they_are.iter().zip(&they_were).all(|(is, was)| is <= was));
                prop_assert!(is_moved || they_are == they_were);
                let all: Vec<_> = (0..40).flat_map(|ms| (0..5).map(move |n| id(ms, n))).map(|id| times.of(id)).collect();
                prop_assert!(all.is_sorted(), "{all:?}");
            }
        }
    }
}
