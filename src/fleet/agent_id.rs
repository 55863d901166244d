//! Names of agents, and the partition of the fleet that a name belongs to.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::limits::{PARTITION_BITS, PARTITIONS};

/// The name of one agent: a random `u64`, printed `agent-<16 lowercase hex digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(u64);

const DIGITS: usize = 16;

impl AgentId {
    /// What stands before the digits of a printed id.
    pub const PREFIX: &str = "agent-";
    /// Length of a printed id in bytes.
    pub const PRINTED_LEN: usize = Self::PREFIX.len() + DIGITS;

    /// The id with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number behind the name.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The partition this agent lives in.
    pub const fn partition(self) -> Partition {
        Partition((self.0 >> (u64::BITS - PARTITION_BITS)) as u16)
    }

    /// The printed form, without an allocation.
    pub fn printed(self) -> [u8; Self::PRINTED_LEN] {
        let mut out = *b"agent-0000000000000000";
        for (place, digit) in out[Self::PREFIX.len()..].iter_mut().enumerate() {
            let nibble = (self.0 >> (4 * (DIGITS - 1 - place))) & 0xf;
            *digit = b"0123456789abcdef"[nibble as usize];
        }
        out
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:016x}", Self::PREFIX, self.0)
    }
}

impl Serialize for AgentId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(std::str::from_utf8(&self.printed()).expect("an id is printed in ASCII"))
    }
}

/// The text is not the printed form of an id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an agent id is `agent-` and 16 lowercase hexadecimal digits")]
pub struct NotAnAgentId;

impl FromStr for AgentId {
    type Err = NotAnAgentId;

    /// Accepts the printed form only: one agent has one name.
    fn from_str(text: &str) -> Result<Self, NotAnAgentId> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(NotAnAgentId)?;
        let well_formed = digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(NotAnAgentId);
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| NotAnAgentId)
    }
}

/// One of the [`PARTITIONS`] equal parts of the id space: the unit of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u16);

impl Partition {
    /// The partition with this number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < PARTITIONS { Some(Self(number)) } else { None }
    }

    /// Every partition, in the order of the ids they hold.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }

    /// The number of the partition, below [`PARTITIONS`].
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The greatest id in this partition.
    pub const fn last_id(self) -> AgentId {
        AgentId((((self.0 as u64) + 1) << (u64::BITS - PARTITION_BITS)).wrapping_sub(1))
    }

    /// The shard that holds this partition, of `shards` shards. Consecutive partitions share a shard, so a walk through
    /// the fleet in id order visits each shard once.
    pub const fn shard(self, shards: usize) -> usize {
        self.0 as usize * shards / PARTITIONS as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_printed_form_is_an_id() {
        assert_eq!("agent-00f3a1b2c3d4e5f6".parse(), Ok(AgentId::new(0x00f3_a1b2_c3d4_e5f6)));
        for wrong in ["", "agent-", "agent-00f3a1b2c3d4e5f", "agent-00f3a1b2c3d4e5f67", "agent-00F3a1b2c3d4e5f6"] {
            assert_eq!(wrong.parse::<AgentId>(), Err(NotAnAgentId), "{wrong:?}");
        }
        assert_eq!("agent-+0f3a1b2c3d4e5f6".parse::<AgentId>(), Err(NotAnAgentId));
        assert_eq!("Agent-00f3a1b2c3d4e5f6".parse::<AgentId>(), Err(NotAnAgentId));
    }

    #[test]
    fn partitions_follow_the_order_of_ids_and_fill_the_shards_evenly() {
        assert_eq!(AgentId::new(0).partition().get(), 0);
        assert_eq!(AgentId::new(u64::MAX).partition().get(), PARTITIONS - 1);
        for shards in [1, 2, 3, 7, 64] {
            let mut sizes = vec![0_usize; shards];
            let mut last = 0;
            for partition in Partition::all() {
                let shard = partition.shard(shards);
                assert!(shard >= last, "shards follow each other");
                last = shard;
                sizes[shard] += 1;
            }
            let (min, max) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(max - min <= 1, "{sizes:?}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(number: u64) {
            let id = AgentId::new(number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().into_bytes(), id.printed());
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<AgentId>();
        }
    }
}
