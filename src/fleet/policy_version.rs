//! Versions of policies, as far as agents and their records know of them.

use std::fmt;

use serde::{Serialize, Serializer};

/// The version of a policy: how many the fleet had when it was published, itself included. Printed `v3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyVersion(u32);

impl PolicyVersion {
    /// Before the first policy.
    pub const NONE: Self = Self(0);

    /// The version with this number; 0 is [`PolicyVersion::NONE`].
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number behind the `v`.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The version of the next policy.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("four billion policies take centuries to publish"))
    }
}

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Serialize for PolicyVersion {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}
