//! The simulated agents: what they need in order to beat.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// An agent's id as the server gave it: `agent-` and 16 hexadecimal digits.
///
/// Kept as a number, so that a million of them are eight megabytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AgentId(u64);

impl AgentId {
    #[cfg(test)]
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn write_to(self, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.extend_from_slice(b"agent-");
        for shift in (0..16).rev() {
            out.push(DIGITS[(self.0 >> (shift * 4)) as usize & 15]);
        }
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agent-{:016x}", self.0)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an agent id (`agent-` and 16 hexadecimal digits)")]
pub(crate) struct NotAnAgentId(String);

impl FromStr for AgentId {
    type Err = NotAnAgentId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("agent-")
            .filter(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| NotAnAgentId(text.to_owned()))
    }
}

/// All the agents of a run.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// They change while agents beat when others take their places.
    ids: Vec<AtomicU64>,
    /// One for each of them; or one that they share: the admin token may beat for any agent, and a million agents' own
    /// tokens would be a hundred megabytes here.
    tokens: Vec<Box<str>>,
}

impl Fleet {
    pub(crate) fn with_own_tokens(agents: Vec<(AgentId, Box<str>)>) -> Self {
        let (ids, tokens) = agents.into_iter().unzip();
        Self::of(ids, tokens)
    }

    pub(crate) fn with_shared_token(ids: Vec<AgentId>, token: &str) -> Self {
        Self::of(ids, vec![token.into()])
    }

    /// One agent that does not exist, for what is sent with the admin token.
    pub(crate) fn nobody(token: &str) -> Self {
        Self::with_shared_token(vec![AgentId(0)], token)
    }

    fn of(ids: Vec<AgentId>, tokens: Vec<Box<str>>) -> Self {
        let ids = ids.into_iter().map(|AgentId(id)| AtomicU64::new(id)).collect();
        Self { ids, tokens }
    }

    pub(crate) fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    /// The agent that the `beat`-th beat belongs to, with its token. The fleet must not be empty.
    pub(crate) fn agent_of(&self, beat: u64) -> (AgentId, &str) {
        let index = (beat % self.len()) as usize;
        (AgentId(self.ids[index].load(Ordering::Relaxed)), &self.tokens[index.min(self.tokens.len() - 1)])
    }

    pub(crate) fn part(&self, wanted: impl Fn(u64) -> bool) -> Self {
        let agents = (0..self.len()).filter(|index| wanted(*index)).map(|index| self.agent_of(index));
        match self.tokens.as_slice() {
            [shared] => Self::with_shared_token(agents.map(|(id, _)| id).collect(), shared),
            _ => Self::with_own_tokens(agents.map(|(id, token)| (id, token.into())).collect()),
        }
    }

    /// Puts an agent in the place of another, which is returned. For fleets that share one token.
    pub(crate) fn replace(&self, beat: u64, id: AgentId) -> AgentId {
        AgentId(self.ids[(beat % self.len()) as usize].swap(id.0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_it_was_read() {
        let id: AgentId = "agent-00f3a1b2c3d4e5f6".parse().expect("an id");
        assert_eq!(id.to_string(), "agent-00f3a1b2c3d4e5f6");
        let mut bytes = Vec::new();
        id.write_to(&mut bytes);
        assert_eq!(bytes, b"agent-00f3a1b2c3d4e5f6");
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in ["", "agent-", "agent-00f3", "00f3a1b2c3d4e5f6", "agent-+0f3a1b2c3d4e5f6"] {
            assert!(text.parse::<AgentId>().is_err(), "{text}");
        }
    }

    fn fleet(agents: u64) -> Fleet {
        Fleet::with_own_tokens((0..agents).map(|n| (AgentId::of(n), format!("t{n}").into())).collect())
    }

    #[test]
    fn beats_go_round_the_fleet() {
        let fleet = fleet(3);
        assert_eq!(fleet.agent_of(2), (AgentId::of(2), "t2"));
        assert_eq!(fleet.agent_of(4), (AgentId::of(1), "t1"));
    }

    #[test]
    fn a_part_of_a_fleet_keeps_its_tokens() {
        let part = fleet(4).part(|index| index % 2 == 1);
        assert_eq!(part.len(), 2);
        assert_eq!(part.agent_of(1), (AgentId::of(3), "t3"));
    }

    #[test]
    fn an_agent_takes_the_place_of_another() {
        let fleet = Fleet::with_shared_token((0..3).map(AgentId::of).collect(), "t");
        assert_eq!(fleet.replace(4, AgentId::of(9)), AgentId::of(1));
        assert_eq!(fleet.agent_of(1), (AgentId::of(9), "t"));
    }
}
