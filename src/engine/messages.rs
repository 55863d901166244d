//! The messages of the actors.

use std::sync::Arc;

use actix::Message;

use super::receipt::Receipt;
use crate::{
    fleet::{
        AgentFilter, AgentId, Figures, Heartbeat, MachineKey, PolicyVersion, Registration, Status, Timestamp, TokenHash,
    },
    policy::{Policy, ScopePolicies},
    store::Chunk,
};

/// Why a message may be obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The sender is the administrator; that was checked before.
    Admin,
    /// The sender claims to be the agent, with a token of this hash; the agent's actor checks it.
    Token(TokenHash),
}

/// Why an agent does not obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentRefusal {
    /// The token is not the agent's.
    WrongToken,
    /// The agent was deregistered while the message was on its way.
    Gone,
}

/// To an agent: a heartbeat.
#[derive(Debug, Message)]
#[rtype(result = "Result<BeatAck, AgentRefusal>")]
pub struct Beat {
    pub credential: Credential,
    pub heartbeat: Heartbeat,
}

/// To an agent: a heartbeat that a relay passes on; the relay may speak for the whole fleet, that was checked before.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RelayedBeat {
    pub heartbeat: Heartbeat,
    /// To be signed once it has been taken over.
    pub receipt: Receipt,
}

/// A heartbeat of a batch.
#[derive(Debug)]
pub struct Relayed {
    /// Where it stands in the batch; the caller's to choose.
    pub position: u32,
    /// Whose heartbeat it is.
    pub id: AgentId,
    /// What it carries.
    pub heartbeat: Heartbeat,
}

/// To a shard: pass these heartbeats on to their agents. Answers the positions of those that were not taken over.
#[derive(Debug, Message)]
#[rtype(result = "Vec<u32>")]
pub struct Relay(pub Vec<Relayed>);

/// How a heartbeat is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeatAck {
    pub status: Status,
    /// When it was received.
    pub at: Timestamp,
    /// Policies in the agent's scope that are newer than the one it last fetched.
    pub pending_policies: u32,
}

/// To an agent: report all that is known of you.
#[derive(Debug, Message)]
#[rtype(result = "Result<AgentState, AgentRefusal>")]
pub struct Show {
    pub credential: Credential,
    /// Threats it reported in the last 24 hours, which it does not know itself.
    pub recent_threats: u64,
}

/// All that is known of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentState {
    /// Its registration, with the version it reported last.
    pub registration: Registration,
    pub status: Status,
    /// When it was last seen; when it registered if it has not sent a heartbeat yet.
    pub last_heartbeat: Timestamp,
    pub figures: Figures,
    /// Threats it reported in the last 24 hours.
    pub recent_threats: u64,
    /// Version of the policy in force for it.
    pub policy: Option<PolicyVersion>,
}

/// To an agent: check the sender, and describe yourself.
#[derive(Debug, Message)]
#[rtype(result = "Result<Reporter, AgentRefusal>")]
pub struct Describe {
    pub credential: Credential,
}

/// Who reports a threat.
#[derive(Debug)]
pub struct Reporter {
    pub hostname: Box<str>,
    pub org: Option<Box<str>>,
}

/// To an agent: answer which policy is in force for you.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<Arc<Policy>>, AgentRefusal>")]
pub struct FetchPolicy {
    pub credential: Credential,
    /// Whether it is fetched, so that no policy is pending any more, or only looked at.
    pub is_fetch: bool,
}

/// To a shard: this is what there is of policies in a scope now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Announce(pub Arc<ScopePolicies>);

/// To a shard: how many of your agents after `after` pass this filter, by the status they are counted under? Answers that,
/// and where to go on so that a shard is not blocked for long.
#[derive(Debug, Message)]
#[rtype(result = "(u64, Option<AgentId>)")]
pub struct CountOnline {
    /// Online agents of one tenant; without tags.
    pub filter: Arc<AgentFilter>,
    /// Where to go on; at the beginning without one.
    pub after: Option<AgentId>,
}

/// To an agent: check the sender, and identify yourself.
#[derive(Debug, Message)]
#[rtype(result = "Result<Identity, AgentRefusal>")]
pub struct Identify {
    pub credential: Credential,
}

/// To an agent: check the sender, and know that a durable change of you begins. [`EndChange`] or [`Reregister`] ends it.
#[derive(Debug, Message)]
#[rtype(result = "Result<Identity, AgentRefusal>")]
pub struct BeginChange {
    pub credential: Credential,
}

/// To an agent: the change that [`BeginChange`] announced has not been made; or, of unknown outcome, it may have been.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct EndChange {
    /// Whether the store may have made it all the same.
    pub outcome_unknown: bool,
}

/// The answer to [`Identify`] and [`BeginChange`].
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The key of its machine, if it registered with an identity.
    pub machine: Option<MachineKey>,
    /// When it registered (again).
    pub registered_at: Timestamp,
}

/// To an agent: its machine has registered again, durably. The answer is the hostname it had, if that was another one.
#[derive(Debug, Message)]
#[rtype(result = "Option<Box<str>>")]
pub struct Reregister(pub Registration);

/// To an agent: you have been deregistered; end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// To a shard: this agent was not registered, but the store may have it; see that it has not.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct MarkUnknown(pub AgentId);

/// To a shard: take in part of its fleet from the store, when the engine starts.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Restore(pub Chunk);

/// To a shard: all is restored; start the actors of the agents after `after`, up to `most` of them. Answers the last
/// one, or none when all have been started.
#[derive(Debug, Message)]
#[rtype(result = "Option<AgentId>")]
pub struct Begin {
    /// Where to go on; at the beginning without one.
    pub after: Option<AgentId>,
    /// At most so many: a shard must not be blocked for long.
    pub most: usize,
}

/// To a shard: forget an agent that has been deregistered, durably. Answers whether it was there.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct RemoveAgent(pub AgentId);

/// To a shard: the actor of this agent does not answer any more; see that it runs. Sent by the actor itself as it
/// panics, and by whoever finds its mailbox closed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RespawnAgent(pub AgentId);

/// To a shard: how many of its agents have which operating system, version and tenant.
#[derive(Debug, Message)]
#[rtype(result = "ShardLabels")]
pub struct CountLabels;

/// One value of a label and how many agents have it; then how many have a value that is not listed.
pub type LabelCounts = (Vec<(Box<str>, u64)>, u64);

/// How many of a shard's agents have which operating system, version and tenant.
#[derive(Debug, Default)]
pub struct ShardLabels {
    pub os: LabelCounts,
    pub version: LabelCounts,
    /// By tenant; agents without one are not counted.
    pub org: LabelCounts,
}

/// To a shard: write everything that is not yet in the store, now. Answers when it is there, or failed.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), crate::store::StoreError>")]
pub struct Drain;
