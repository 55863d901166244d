//! The agents of a shard in id order, laid out so that a listing can pass over those it does not want without touching them.

use std::ops::ControlFlow;

use crate::fleet::{AgentId, CompiledFilter, Labels, Status};

const CHUNK_MAX: usize = 512;
/// A chunk's columns grow by so many entries at a time: less spare room than doubling, and whole size classes of the
/// allocator.
const CHUNK_STEP: usize = 64;

/// A map from ids to `T` in id order, with the labels and the status that listings are filtered by beside each.
///
/// A B-tree of two levels: chunks of up to [`CHUNK_MAX`] agents, each with a column for ids, labels, statuses and values. A
/// filtered listing reads the labels and statuses of a hundred thousand agents in a fraction of a millisecond, where following
/// a pointer to each agent would take tens. It takes 25 bytes for an agent, and a tenth of spare room.
#[derive(Debug)]
pub struct AgentTable<T> {
    /// `firsts[i]` is at most the least id in `chunks[i]` and greater than every id before it.
    firsts: Vec<AgentId>,
    /// None of them empty.
    chunks: Vec<Chunk<T>>,
}

#[derive(Debug)]
struct Chunk<T> {
    ids: Vec<AgentId>,
    labels: Vec<Labels>,
    statuses: Vec<Status>,
    values: Vec<T>,
}

impl<T> Default for AgentTable<T> {
    fn default() -> Self {
        Self { firsts: Vec::new(), chunks: Vec::new() }
    }
}

/// Where an id is, or would be: its chunk, and its position there.
type Position = (usize, Result<usize, usize>);

impl<T> AgentTable<T> {
    pub fn get(&self, id: AgentId) -> Option<&T> {
        let (chunk, position) = self.find(id)?;
        Some(&self.chunks[chunk].values[position.ok()?])
    }

    /// Puts an agent in; one that is there under this id is replaced.
    pub fn insert(&mut self, id: AgentId, labels: Labels, status: Status, value: T) {
        let Some((mut index, mut position)) = self.find(id) else {
            self.firsts.push(id);
            self.chunks.push(Chunk::of(id, labels, status, value));
            return;
        };
        if let Ok(at) = position {
            let chunk = &mut self.chunks[index];
            (chunk.labels[at], chunk.statuses[at], chunk.values[at]) = (labels, status, value);
            return;
        }
        if self.chunks[index].ids.len() == CHUNK_MAX {
            if position == Err(CHUNK_MAX) && index + 1 == self.chunks.len() {
                // Ids that come in order, as from a store, fill their chunks.
                self.firsts.push(id);
                self.chunks.push(Chunk::of(id, labels, status, value));
                return;
            }
            let upper = self.chunks[index].split_off(CHUNK_MAX / 2);
            self.firsts.insert(index + 1, upper.ids[0]);
            self.chunks.insert(index + 1, upper);
            index += usize::from(id > self.firsts[index + 1]);
            position = self.chunks[index].ids.binary_search(&id);
        }
        if let Err(at) = position {
            self.firsts[index] = self.firsts[index].min(id);
            self.chunks[index].insert(at, id, labels, status, value);
        }
    }

    pub fn remove(&mut self, id: AgentId) -> Option<T> {
        let (index, position) = self.find(id)?;
        let value = self.chunks[index].remove(position.ok()?);
        if self.chunks[index].ids.is_empty() {
            self.firsts.remove(index);
            self.chunks.remove(index);
        } else if self.chunks[index].ids.len() < CHUNK_MAX / 4 {
            self.merge(index.saturating_sub(1));
        }
        Some(value)
    }

    /// Changes the status that an agent is filtered by.
    pub fn set_status(&mut self, id: AgentId, status: Status) {
        if let Some((chunk, Ok(at))) = self.find(id) {
            self.chunks[chunk].statuses[at] = status;
        }
    }

    /// Changes the labels that an agent is filtered by.
    pub fn set_labels(&mut self, id: AgentId, labels: Labels) {
        if let Some((chunk, Ok(at))) = self.find(id) {
            self.chunks[chunk].labels[at] = labels;
        }
    }

    /// The agents that come after `after`, or all.
    pub fn after(&self, after: Option<AgentId>) -> impl Iterator<Item = (AgentId, &T)> {
        let (index, at) = self.start(after);
        let chunks = self.chunks.get(index..).unwrap_or_default().iter();
        chunks.flat_map(|chunk| chunk.ids.iter().copied().zip(&chunk.values)).skip(at)
    }

    /// Shows `visit` the agents that come after `after` and pass the filter, until it has had enough or `most` agents have been
    /// passed over or shown. Returns the last of these; none when it has come to the end.
    pub fn walk(
        &self,
        after: Option<AgentId>,
        most: usize,
        filter: &CompiledFilter,
        mut visit: impl FnMut(AgentId, &T) -> ControlFlow<()>,
    ) -> Option<AgentId> {
        let (first, mut from) = self.start(after);
        let mut left = most;
        for index in first..self.chunks.len() {
            let chunk = &self.chunks[index];
            let to = chunk.ids.len().min(from + left);
            let sifted = chunk.labels[from..to].iter().zip(&chunk.statuses[from..to]);
            for (at, (labels, status)) in (from..).zip(sifted) {
                if filter.passes(*labels, *status) && visit(chunk.ids[at], &chunk.values[at]).is_break() {
                    return self.unless_last(index, at);
                }
            }
            left -= to - from;
            if left == 0 && to > 0 {
                return self.unless_last(index, to - 1);
            }
            from = 0;
        }
        None
    }

    /// The agent at this position, unless it is the last of all.
    fn unless_last(&self, index: usize, at: usize) -> Option<AgentId> {
        let ids = &self.chunks[index].ids;
        let is_last = index + 1 == self.chunks.len() && at + 1 == ids.len();
        (!is_last).then(|| ids[at])
    }

    /// None only if there is no chunk.
    fn find(&self, id: AgentId) -> Option<Position> {
        let chunk = self.firsts.partition_point(|first| *first <= id).saturating_sub(1);
        Some((chunk, self.chunks.get(chunk)?.ids.binary_search(&id)))
    }

    /// The position of the first agent after `after`; it may be one past the end of its chunk.
    fn start(&self, after: Option<AgentId>) -> (usize, usize) {
        match after.and_then(|after| self.find(after)) {
            Some((chunk, Ok(at))) => (chunk, at + 1),
            Some((chunk, Err(at))) => (chunk, at),
            None => (0, 0),
        }
    }

    /// Makes one chunk of this and the next one if that leaves room for more.
    fn merge(&mut self, index: usize) {
        let Some(next) = self.chunks.get(index + 1) else { return };
        if self.chunks[index].ids.len() + next.ids.len() <= CHUNK_MAX * 3 / 4 {
            self.firsts.remove(index + 1);
            let next = self.chunks.remove(index + 1);
            self.chunks[index].append(next);
        }
    }
}

impl<T> Chunk<T> {
    fn of(id: AgentId, labels: Labels, status: Status, value: T) -> Self {
        Self { ids: vec![id], labels: vec![labels], statuses: vec![status], values: vec![value] }
    }

    fn insert(&mut self, at: usize, id: AgentId, labels: Labels, status: Status, value: T) {
        fn insert<C>(column: &mut Vec<C>, at: usize, cell: C) {
            if column.len() == column.capacity() {
                column.reserve_exact(CHUNK_STEP - column.len() % CHUNK_STEP);
            }
            column.insert(at, cell);
        }
        insert(&mut self.ids, at, id);
        insert(&mut self.labels, at, labels);
        insert(&mut self.statuses, at, status);
        insert(&mut self.values, at, value);
    }

    fn remove(&mut self, at: usize) -> T {
        self.ids.remove(at);
        self.labels.remove(at);
        self.statuses.remove(at);
        self.values.remove(at)
    }

    fn split_off(&mut self, at: usize) -> Self {
        let upper = Self {
            ids: self.ids.split_off(at),
            labels: self.labels.split_off(at),
            statuses: self.statuses.split_off(at),
            values: self.values.split_off(at),
        };
        self.shrink();
        upper
    }

    fn append(&mut self, mut next: Self) {
        self.ids.append(&mut next.ids);
        self.labels.append(&mut next.labels);
        self.statuses.append(&mut next.statuses);
        self.values.append(&mut next.values);
        self.shrink();
    }

    fn shrink(&mut self) {
        self.ids.shrink_to_fit();
        self.labels.shrink_to_fit();
        self.statuses.shrink_to_fit();
        self.values.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::fleet::{AgentFilter, SharedStrings};
    use proptest::prelude::*;

    fn labels(texts: &mut SharedStrings, tag: u8) -> Labels {
        Labels { tags: texts.tags.acquire(&[format!("tag-{tag}").into()]), org: None }
    }

    fn compiled(texts: &SharedStrings, status: Option<Status>, tag: Option<u8>) -> Option<CompiledFilter> {
        let tags = tag.map(|tag| format!("tag-{tag}").into()).into_iter().collect();
        AgentFilter { status, org_id: None, tags }.compile(texts)
    }

    /// Spreads small numbers over the ids without changing their order.
    fn id(number: u16) -> AgentId {
        AgentId::new(u64::from(number) << 40)
    }

    #[test]
    fn ids_that_come_in_order_fill_their_chunks() {
        let mut texts = SharedStrings::default();
        let labels = labels(&mut texts, 0);
        let mut table = AgentTable::default();
        (0..10 * CHUNK_MAX as u16).for_each(|n| table.insert(id(n), labels, Status::Online, n));
        assert_eq!(table.chunks.len(), 10);
        assert!(table.after(None).map(|(_, n)| *n).eq(0..10 * CHUNK_MAX as u16));
    }

    #[test]
    fn a_table_that_shrinks_gives_its_room_back() {
        let mut texts = SharedStrings::default();
        let labels = labels(&mut texts, 0);
        let mut table = AgentTable::default();
        (0..10_000).for_each(|n| table.insert(id(n), labels, Status::Online, n));
        (0..10_000).filter(|n| n % 100 > 0).for_each(|n| _ = table.remove(id(n)));
        assert!(table.chunks.len() <= 2, "{}", table.chunks.len());
        (0..10_000).for_each(|n| _ = table.remove(id(n)));
        assert!(table.chunks.is_empty() && table.firsts.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u8, Status),
        Remove(u16),
        SetStatus(u16, Status),
        SetLabels(u16, u8),
    }

    fn step(numbers: u16) -> impl Strategy<Value = Step> {
        let status = || proptest::sample::select(&Status::ALL[..]);
        prop_oneof![
            4 => (0..numbers, 0..5_u8, status()).prop_map(|(n, tag, status)| Step::Insert(n, tag, status)),
            2 => (0..numbers).prop_map(Step::Remove),
            1 => (0..numbers, status()).prop_map(|(n, status)| Step::SetStatus(n, status)),
            1 => (0..numbers, 0..5_u8).prop_map(|(n, tag)| Step::SetLabels(n, tag)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever comes and goes, a table holds what a map would, and a walk in steps of any size shows the agents that a
        /// look at each of them would find.
        #[test]
        fn a_table_is_a_map_and_a_walk_shows_what_passes(
            start in 0..4_000_u16,
            steps in proptest::collection::vec(step(4_000), 0..3_000),
            status in proptest::option::of(proptest::sample::select(&Status::ALL[..])),
            tag in proptest::option::of(0..7_u8),
            most in 1..2_000_usize,
            enough in 1..700_usize,
        ) {
            let mut texts = SharedStrings::default();
            let all_labels: Vec<_> = (0..5).map(|tag| labels(&mut texts, tag)).collect();
            let mut table = AgentTable::default();
            let mut expected = BTreeMap::new();
            let filled = (0..start).map(|n| Step::Insert(n, (n % 5) as u8, Status::Online));
            for step in filled.chain(steps) {
                match step {
                    Step::Insert(n, tag, status) => {
                        table.insert(id(n), all_labels[usize::from(tag)], status, n);
                        expected.insert(id(n), (n, tag, status));
                    }
                    Step::Remove(n) => {
                        prop_assert_eq!(table.remove(id(n)), expected.remove(&id(n)).map(|(n, _, _)| n));
                    }
                    Step::SetStatus(n, status) => {
                        table.set_status(id(n), status);
                        expected.entry(id(n)).and_modify(|agent| agent.2 = status);
                    }
                    Step::SetLabels(n, tag) => {
                        table.set_labels(id(n), all_labels[usize::from(tag)]);
                        expected.entry(id(n)).and_modify(|agent| agent.1 = tag);
                    }
                }
            }
            for n in (0..4_000).step_by(7) {
                prop_assert_eq!(table.get(id(n)), expected.get(&id(n)).map(|(n, _, _)| n));
                let after = expected.range((std::ops::Bound::Excluded(id(n)), std::ops::Bound::Unbounded)).take(3);
                prop_assert!(table.after(Some(id(n))).take(3).map(|(id, n)| (id, *n)).eq(after.map(|(id, agent)| (*id, agent.0))));
            }
            prop_assert!(table.after(None).map(|(id, _)| id).eq(expected.keys().copied()));

            let passes = |agent: &(u16, u8, Status)| status.is_none_or(|s| s == agent.2) && tag.is_none_or(|t| t == agent.1);
            let wanted: Vec<_> = expected.values().filter(|agent| passes(agent)).map(|agent| agent.0).collect();
            let Some(filter) = compiled(&texts, status, tag) else {
                prop_assert!(wanted.is_empty());
                return Ok(());
            };
            let (mut shown, mut after) = (Vec::new(), None);
            loop {
                let before = shown.len();
                after = table.walk(after, most, &filter, |_, n| {
                    shown.push(*n);
                    if shown.len() - before == enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(shown, wanted);
        }
    }
}
