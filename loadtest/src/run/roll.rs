//! Who the server calls silent, agent by agent, beside who really is: counters alone cannot tell one missed and one
//! falsely accused from none.

use std::collections::HashSet;

use memchr::memmem;

use crate::load::{AgentId, Fleet, Silence};
use crate::server::Probe;

/// What stands before each agent's id in a list, up to its digits.
const MARK: &[u8] = b"\"id\":\"";
/// `agent-` and 16 digits.
const ID_BYTES: usize = 22;
/// The statuses of agents that are thought to be silent.
const SILENT: [&str; 2] = ["stale", "offline"];

/// What the lists of silent agents say of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Roll {
    /// Silent agents that are in none of them.
    pub(super) missed: u64,
    /// Agents in them that beat.
    pub(super) falsely_accused: u64,
}

/// Reads the lists.
pub(super) async fn call(api: &mut Probe, fleet: &Fleet, silence: Silence) -> anyhow::Result<Roll> {
    let mut ids = Ids::default();
    for status in SILENT {
        api.stream(&format!("/api/agents?status={status}"), |piece| ids.feed(piece)).await?;
    }
    Ok(compare(&ids.found, fleet, silence))
}

fn compare(listed: &HashSet<AgentId>, fleet: &Fleet, silence: Silence) -> Roll {
    let mut roll = Roll { missed: 0, falsely_accused: 0 };
    for agent in 0..fleet.len() {
        match (silence.includes(agent), listed.contains(&fleet.agent_of(agent).0)) {
            (true, false) => roll.missed += 1,
            (false, true) => roll.falsely_accused += 1,
            (true, true) | (false, false) => {}
        }
    }
    roll
}

/// Finds ids in a stream that may be cut anywhere.
#[derive(Default)]
struct Ids {
    /// What has not been looked through to its end.
    rest: Vec<u8>,
    found: HashSet<AgentId>,
}

impl Ids {
    fn feed(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
        let mut done = 0;
        while let Some(at) = memmem::find(&self.rest[done..], MARK) {
            let id = done + at + MARK.len();
            let Some(text) = self.rest.get(id..id + ID_BYTES) else {
                done += at;
                break;
            };
            self.found.extend(str::from_utf8(text).ok().and_then(|text| text.parse::<AgentId>().ok()));
            done = id;
        }
        // A mark may have been cut in two; all that stands before is done with.
        let keep = if memmem::find(&self.rest[done..], MARK).is_some() {
            self.rest.len() - done
        } else {
            (self.rest.len() - done).min(MARK.len() - 1)
        };
        self.rest.drain(..self.rest.len() - keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_however_the_list_is_cut() {
        let agent = |n: u64| format!(r#"{{"id":"{}","hostname":"\"id\":\"agent-0\""}}"#, AgentId::of(n));
        let list = format!(r#"{{"ok":true,"data":[{},{},{}]}}"#, agent(1), agent(2), agent(u64::MAX));
        for size in 1..=list.len() {
            let mut ids = Ids::default();
            list.as_bytes().chunks(size).for_each(|piece| ids.feed(piece));
            assert_eq!(ids.found, [1, 2, u64::MAX].map(AgentId::of).into(), "in pieces of {size}");
            assert!(ids.rest.len() < MARK.len() + ID_BYTES);
        }
    }

    #[test]
    fn one_missed_and_one_falsely_accused_do_not_make_none() {
        let fleet = Fleet::with_shared_token((0..10).map(AgentId::of).collect(), "t");
        let silence = Silence::of(2, 10, 0);
        let silent: Vec<u64> = (0..10).filter(|agent| silence.includes(*agent)).collect();
        let listed = HashSet::from([AgentId::of(silent[0]), AgentId::of(0), AgentId::of(77)]);
        assert_eq!(compare(&listed, &fleet, silence), Roll { missed: 1, falsely_accused: 1 });
    }
}
