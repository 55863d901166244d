//! What many entries name, kept once each.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

use super::ThreatId;
use crate::fleet::AgentId;

/// Names, each with a small number that stands for it while some entry holds it: 4 bytes in an entry.
///
/// A number means nothing after its last release: then it may come to stand for another name.
#[derive(Debug)]
pub(super) struct Names<K> {
    slots: HashMap<K, u32>,
    names: Vec<Named<K>>,
    free: Vec<u32>,
    /// What stands in a free slot.
    vacant: K,
}

#[derive(Debug)]
struct Named<K> {
    name: K,
    holders: u32,
}

impl<K: Clone + Eq + Hash> Names<K> {
    /// No names; `vacant` is a name that takes little room.
    pub(super) fn new(vacant: K) -> Self {
        Self { slots: HashMap::new(), names: Vec::new(), free: Vec::new(), vacant }
    }

    /// Takes hold of `name`.
    pub(super) fn acquire(&mut self, name: K) -> u32 {
        if let Some(&slot) = self.slots.get(&name) {
            self.names[slot as usize].holders += 1;
            return slot;
        }
        let named = Named { name: name.clone(), holders: 1 };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.names[slot as usize] = named;
                slot
            }
            None => {
                self.names.push(named);
                u32::try_from(self.names.len() - 1).expect("there are fewer entries than 2^32")
            }
        };
        self.slots.insert(name, slot);
        slot
    }

    /// Lets go of a name that was acquired here; the last release forgets it, and returns true.
    pub(super) fn release(&mut self, slot: u32) -> bool {
        let named = &mut self.names[slot as usize];
        named.holders -= 1;
        if named.holders > 0 {
            return false;
        }
        let name = std::mem::replace(&mut named.name, self.vacant.clone());
        self.slots.remove(&name);
        self.free.push(slot);
        if self.slots.len() < self.slots.capacity() / 8 {
            self.slots.shrink_to(2 * self.slots.len());
        }
        true
    }

    /// The name that `slot` stands for.
    pub(super) fn name(&self, slot: u32) -> &K {
        &self.names[slot as usize].name
    }

    /// What stands for `name`, if anybody holds it.
    pub(super) fn find<Q>(&self, name: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.slots.get(name).copied()
    }
}

/// The agents that entries name, with their hostnames.
#[derive(Debug)]
pub(super) struct Agents {
    names: Names<AgentId>,
    /// By the number of the agent.
    hostnames: Vec<LatestHostname>,
}

#[derive(Debug)]
struct LatestHostname {
    text: Box<str>,
    /// The latest threat that was reported under it.
    threat: ThreatId,
}

impl Default for Agents {
    fn default() -> Self {
        Self { names: Names::new(AgentId::new(0)), hostnames: Vec::new() }
    }
}

impl Agents {
    /// Takes hold of `agent`, which had this hostname when it reported `threat`.
    pub(super) fn acquire(&mut self, agent: AgentId, hostname: Box<str>, threat: ThreatId) -> u32 {
        let slot = self.names.acquire(agent);
        match self.hostnames.get_mut(slot as usize) {
            None => self.hostnames.push(LatestHostname { text: hostname, threat }),
            // An empty one is a former agent's.
            Some(known) if known.threat < threat || known.text.is_empty() => {
                known.threat = threat;
                // The same text is kept where it is.
                if known.text != hostname {
                    known.text = hostname;
                }
            }
            Some(_) => {}
        }
        slot
    }

    /// Lets go of an agent that was acquired here.
    pub(super) fn release(&mut self, slot: u32) {
        if self.names.release(slot) {
            self.hostnames[slot as usize] = LatestHostname { text: Box::default(), threat: ThreatId::new(0) };
        }
    }

    /// The agent that `slot` stands for, and its latest hostname.
    pub(super) fn named(&self, slot: u32) -> (AgentId, &str) {
        (*self.names.name(slot), &self.hostnames[slot as usize].text)
    }

    /// What stands for `agent`, if an entry names it.
    pub(super) fn find(&self, agent: AgentId) -> Option<u32> {
        self.names.find(&agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_nobody_holds_is_forgotten_and_its_number_given_out_again() {
        let mut names = Names::<Box<str>>::new(Box::default());
        let (a, b) = (names.acquire("a".into()), names.acquire("b".into()));
        assert_eq!(names.acquire("a".into()), a);
        assert!(!names.release(a));
        assert_eq!(names.find("a"), Some(a));
        assert!(names.release(a));
        assert_eq!(names.find("a"), None);
        assert_eq!(names.acquire("c".into()), a);
        assert_eq!((&**names.name(a), &**names.name(b)), ("c", "b"));
    }

    #[test]
    fn an_agent_goes_by_the_hostname_of_its_latest_threat() {
        let mut agents = Agents::default();
        let agent = AgentId::new(7);
        let slot = agents.acquire(agent, "old".into(), ThreatId::new(1));
        agents.acquire(agent, "new".into(), ThreatId::new(3));
        agents.acquire(agent, "between".into(), ThreatId::new(2));
        assert_eq!(agents.named(slot), (agent, "new"));
        (0..3).for_each(|_| agents.release(slot));
        assert_eq!(agents.find(agent), None);
        let slot = agents.acquire(AgentId::new(8), "another".into(), ThreatId::new(0));
        assert_eq!(agents.named(slot), (AgentId::new(8), "another"));
    }
}
