//! Registration: an agent's request, and the record that is kept of it.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    address::Address,
    agent_id::AgentId,
    machine_id::MachineId,
    status::ActiveTime,
    text::{Text, Timestamp},
};
use crate::limits::{HOSTNAME_MAX_CHARS, ORG_ID_MAX_CHARS, OS_MAX_CHARS, TAG_MAX_CHARS, VERSION_MAX_CHARS};

/// A validated request to register.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrationRequest {
    /// Name of its machine; not unique in real fleets.
    pub hostname: Hostname,
    /// Operating system, free text.
    pub os: Os,
    /// Version of the Guard.
    pub version: Version,
    /// Address it gave; without one, that of its connection is taken.
    pub ip: Option<Address>,
    /// Tenant.
    pub org_id: Option<OrgId>,
    /// Tags without duplicates, in the order given.
    pub tags: Vec<Tag>,
    /// Identity of its machine: the same tenant and identity registering again is the same agent.
    pub machine_id: Option<MachineId>,
}

pub type Hostname = Text<HOSTNAME_MAX_CHARS>;
pub type Os = Text<OS_MAX_CHARS>;
pub type Version = Text<VERSION_MAX_CHARS>;
/// The name of a tenant.
pub type OrgId = Text<ORG_ID_MAX_CHARS>;
/// Something to group agents by.
pub type Tag = Text<TAG_MAX_CHARS>;

/// SHA-256 of a bearer token: all that is kept of it.
#[derive(Clone, Copy, Debug)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    /// In constant time: the duration does not reveal where the hashes differ.
    fn eq(&self, other: &Self) -> bool {
        let words = |hash: &Self| {
            let (words, _) = hash.0.as_chunks::<8>();
            [0, 1, 2, 3].map(|n| u64::from_ne_bytes(words[n]))
        };
        words(self).ct_eq(&words(other)).into()
    }
}

impl Eq for TokenHash {}

/// Names one `(org_id, machine_id)`: the first 16 bytes of a SHA-256 over both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MachineKey([u8; 16]);

impl MachineKey {
    /// The key of a machine of a tenant (or of none).
    pub fn new(org_id: Option<&str>, machine_id: &str) -> Self {
        // Neither text holds control characters, so the separators make every pair distinct.
        let mut hasher = Sha256::new();
        hasher.update(org_id.map_or(String::new(), |org| format!("{org}\n")));
        hasher.update(b"\0");
        hasher.update(machine_id);
        let hash = hasher.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        Self(key)
    }

    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// An index below `n` that spreads keys evenly.
    pub fn index(self, n: usize) -> usize {
        usize::from(u16::from_le_bytes([self.0[0], self.0[1]])) % n
    }
}

/// A registered agent as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The agent's name.
    pub id: AgentId,
    /// Name of its machine.
    pub hostname: Box<str>,
    /// Operating system.
    pub os: Box<str>,
    /// Version of the Guard when it registered.
    pub version: Box<str>,
    /// Its address.
    pub ip: IpAddr,
    /// Tenant.
    pub org_id: Option<Box<str>>,
    /// Tags without duplicates.
    pub tags: Vec<Box<str>>,
    /// The key of its machine, if it gave an identity.
    pub machine: Option<MachineKey>,
    /// When it registered (again). Distinguishes the registrations of one agent, so that a heartbeat of an earlier one
    /// is never taken for one of a later.
    pub registered_at: Timestamp,
    /// The same moment in active time.
    pub last_active: ActiveTime,
    /// Hash of the token it was given.
    pub token: TokenHash,
}

#[cfg(test)]
impl Registration {
    /// One with everything that an agent may tell of itself but its machine.
    pub(crate) fn sample() -> Self {
        Self {
            id: AgentId::new(7),
            hostname: "web-1".into(),
            os: "linux".into(),
            version: "1.2.0".into(),
            ip: "203.0.113.10".parse().unwrap(),
            org_id: Some("acme".into()),
            tags: vec!["production".into(), "web".into()],
            machine: None,
            registered_at: Timestamp::from_millis(1_000),
            last_active: ActiveTime::from_micros(5),
            token: TokenHash::of("secret"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_do_not_share_machines() {
        let key = MachineKey::new(Some("acme"), "m");
        assert_eq!(key, MachineKey::new(Some("acme"), "m"));
        for other in [MachineKey::new(None, "m"), MachineKey::new(Some("acm"), "em"), MachineKey::new(Some("b"), "m")] {
            assert_ne!(key, other);
        }
    }
}
