//! Names in Redis. `docs/redis.md` says what each holds.

use crate::fleet::{AgentId, Partition};

/// The names of one fleet's keys. Those of a partition share a hash tag, and so a slot of a Redis Cluster.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Registrations of a partition.
    pub(super) fn agents(&self, partition: Partition) -> String {
        self.of(partition, "agents")
    }

    /// Last heartbeats of a partition.
    pub(super) fn heartbeats(&self, partition: Partition) -> String {
        self.of(partition, "heartbeats")
    }

    /// Records of a partition that could not be read.
    pub(super) fn corrupt(&self, partition: Partition) -> String {
        self.of(partition, "corrupt")
    }

    /// Rows of a tenant's threats; those without a tenant have an empty one.
    pub(super) fn threats(&self, org: &str) -> String {
        format!("{}{{t:{org}}}:threats", self.prefix)
    }

    /// Payloads of a tenant's threats.
    pub(super) fn threat_payloads(&self, org: &str) -> String {
        format!("{}{{t:{org}}}:threat-bodies", self.prefix)
    }

    /// Tenants that have threats.
    pub(super) fn threat_tenants(&self) -> String {
        format!("{}threat-tenants", self.prefix)
    }

    /// Policies of all scopes.
    pub(super) fn policies(&self) -> String {
        format!("{}policies", self.prefix)
    }

    /// Records of no partition that could not be read.
    pub(super) fn corrupt_shared(&self) -> String {
        format!("{}corrupt", self.prefix)
    }

    /// Facts about the fleet as a whole.
    pub(super) fn meta(&self) -> String {
        format!("{}meta", self.prefix)
    }

    /// Which process owns the fleet.
    pub(super) fn lease(&self) -> String {
        format!("{}lease", self.prefix)
    }

    /// What the names of the connections of this fleet's processes begin with.
    pub(super) fn connections(&self) -> String {
        format!("guardbeat/{}/", self.prefix)
    }

    fn of(&self, partition: Partition, kind: &str) -> String {
        format!("{}{{p{:04}}}:{kind}", self.prefix, partition.get())
    }
}

/// The field of an agent in the hashes of its partition: the 16 digits of its id.
pub(super) fn field(id: AgentId) -> [u8; 16] {
    let mut digits = [0; 16];
    digits.copy_from_slice(&id.printed()[AgentId::PRINTED_LEN - 16..]);
    digits
}

/// The agent of a field in a hash of this partition.
pub(super) fn agent_of(field: &[u8], partition: Partition) -> Option<AgentId> {
    // By hand, as it is done a million times at a start.
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let digits = Some(field).filter(|field| field.len() == 16 && field.iter().all(is_digit))?;
    let number = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some(AgentId::new(number)).filter(|id| id.partition() == partition)
}

/// A kind of record that each partition has a hash of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Agent,
    Heartbeat,
}

impl Kind {
    pub(super) fn key(self, keys: &Keys, partition: Partition) -> String {
        match self {
            Self::Agent => keys.agents(partition),
            Self::Heartbeat => keys.heartbeats(partition),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Heartbeat => "heartbeat",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_documented() {
        let keys = Keys::new("guardbeat:");
        let id = AgentId::new(0x00f3_a1b2_c3d4_e5f6);
        assert_eq!(keys.agents(id.partition()), "guardbeat:{p0003}:agents");
        assert_eq!(keys.heartbeats(id.partition()), "guardbeat:{p0003}:heartbeats");
        assert_eq!(keys.threats("acme"), "guardbeat:{t:acme}:threats");
        assert_eq!(keys.threat_payloads(""), "guardbeat:{t:}:threat-bodies");
        assert_eq!(keys.policies(), "guardbeat:policies");
        assert_eq!(keys.meta(), "guardbeat:meta");
        assert_eq!(&field(id), b"00f3a1b2c3d4e5f6");
        assert_eq!(agent_of(b"00f3a1b2c3d4e5f6", id.partition()), Some(id));
    }

    #[test]
    fn a_field_that_is_no_agent_of_the_partition_is_told_apart() {
        let partition = AgentId::new(0).partition();
        for field in [&b"00f3a1b2c3d4e5f6"[..], b"", b"0", b"000000000000000G", b"\xff", b"agent-0000000000000000"] {
            assert_eq!(agent_of(field, partition), None);
        }
    }
}
