//! Who the server calls silent, agent by agent, beside who really is: counters alone cannot tell one missed and one
//! false positive from none.

use std::collections::HashSet;

use crate::load::{AgentId, Fleet, Silence};
use crate::server::{Probe, Scanner};

/// What stands before each agent's id in a list, up to its digits.
const MARK: &[u8] = b"\"id\":\"";
/// `agent-` and 16 digits.
const ID_BYTES: usize = 22;
const SILENT: [&str; 2] = ["stale", "offline"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Roll {
    /// Silent agents that are in none of them.
    pub(super) missed: u64,
    /// Agents in them that beat.
    pub(super) false_positives: u64,
}

pub(super) async fn call(api: &mut Probe, fleet: &Fleet, silence: Silence) -> anyhow::Result<Roll> {
    let mut listed = HashSet::new();
    for status in SILENT {
        let mut ids = Scanner::of(MARK, ID_BYTES);
        let mut take = |id: &[u8]| listed.extend(str::from_utf8(id).ok().and_then(|id| id.parse::<AgentId>().ok()));
        api.stream(&format!("/api/agents?status={status}"), |piece| ids.feed(piece, &mut take)).await?;
    }
    Ok(compare(&listed, fleet, silence))
}

fn compare(listed: &HashSet<AgentId>, fleet: &Fleet, silence: Silence) -> Roll {
    let mut roll = Roll { missed: 0, false_positives: 0 };
    for agent in 0..fleet.len() {
        match (silence.includes(agent), listed.contains(&fleet.agent_of(agent).0)) {
            (true, false) => roll.missed += 1,
            (false, true) => roll.false_positives += 1,
            (true, true) | (false, false) => {}
        }
    }
    roll
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missed_and_one_false_positive_do_not_make_none() {
        let fleet = Fleet::with_shared_token((0..10).map(AgentId::of).collect(), "t");
        let silence = Silence::of(2, 10, 0);
        let silent: Vec<u64> = (0..10).filter(|agent| silence.includes(*agent)).collect();
        let listed = HashSet::from([AgentId::of(silent[0]), AgentId::of(0), AgentId::of(77)]);
        assert_eq!(compare(&listed, &fleet, silence), Roll { missed: 1, false_positives: 1 });
    }
}
