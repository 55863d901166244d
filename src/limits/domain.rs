//! What agents, threats and policies may be.

/// Partitions of the id space: the top [`PARTITION_BITS`] bits of an agent id. Fixed for ever, since it is the unit of
/// storage (and of ownership, once several nodes share a fleet).
pub const PARTITIONS: u16 = 1 << PARTITION_BITS;
/// Bits of an agent id that name its partition.
pub const PARTITION_BITS: u32 = 10;

/// Longest hostname, in characters.
pub const HOSTNAME_MAX_CHARS: usize = 255;
/// Longest operating-system name, in characters.
pub const OS_MAX_CHARS: usize = 128;
/// Longest Guard version, in characters.
pub const VERSION_MAX_CHARS: usize = 64;
/// Longest tenant name, in characters.
pub const ORG_ID_MAX_CHARS: usize = 64;
/// Longest tag, in characters.
pub const TAG_MAX_CHARS: usize = 64;
/// Most tags on one agent, after duplicates have collapsed.
pub const TAGS_MAX: usize = 32;
/// Longest machine identity, in characters.
pub const MACHINE_ID_MAX_CHARS: usize = 128;
/// Longest Guard mode (`protection`, `learning`, …), in characters.
pub const MODE_MAX_CHARS: usize = 64;
/// Largest percentage accepted for `cpu` and `memory`.
pub const PERCENT_MAX: f64 = 100.0;
/// Largest count or duration accepted in a heartbeat: the integers up to here are exact in a JSON number.
pub const NUMBER_MAX: f64 = 9_007_199_254_740_991.0;

/// Longest type of a threat, in characters.
pub const EVENT_TYPE_MAX_CHARS: usize = 128;
/// Longest name of the rule that noticed a threat, in characters.
pub const RULE_ID_MAX_CHARS: usize = 128;
/// Largest `details` of a threat, in bytes as it is sent.
pub const EVENT_DETAILS_MAX_BYTES: usize = 64 * 1024;
/// Largest size of a stored threat that the history can count, in bytes.
pub const THREAT_BYTES_MAX: u32 = (1 << 30) - 1;
/// Agents and addresses in a summary of threats.
pub const SUMMARY_TOP: usize = 10;
/// Most kinds, agents or addresses of a summary of threats; of kinds, the rest is `other`.
pub const THREAT_TOP_MAX: usize = 100;
/// Keys among which those with the highest counts are looked for, after the lower ones have been put aside …
pub const THREAT_LEADERS_KEPT: usize = 2 * THREAT_TOP_MAX;
/// … and the number of them at which that is done again.
pub const THREAT_LEADERS_MAX: usize = 4 * THREAT_TOP_MAX;

/// Longest name of a policy, in characters.
pub const POLICY_NAME_MAX_CHARS: usize = 128;
/// Longest description of a policy, in characters.
pub const POLICY_DESCRIPTION_MAX_CHARS: usize = 1_024;
/// Most rules in a policy.
pub const POLICY_RULES_MAX: usize = 1_000;
/// Tenants that may have policies of their own.
pub const POLICY_TENANTS_MAX: usize = 100_000;
/// What the newest policies of all scopes may take in memory together, in bytes. At a start Redis sends them in one answer.
pub const POLICIES_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Versions that are kept of a scope, to count those that an agent has not fetched.
pub const POLICY_VERSIONS_MAX: usize = 10_000;
/// The most that `pendingPolicies` counts to.
pub const POLICY_PENDING_MAX: u32 = 10_000;

const _: () = {
    assert!(PARTITIONS.is_power_of_two());
    assert!(THREAT_TOP_MAX <= THREAT_LEADERS_KEPT && THREAT_LEADERS_KEPT < THREAT_LEADERS_MAX);
    assert!(POLICY_PENDING_MAX as usize <= POLICY_VERSIONS_MAX);
};
