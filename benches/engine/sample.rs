//! The fleet that is measured: what its agents are and what they send.

use std::net::IpAddr;

use guardbeat::{
    api::HeartbeatBody,
    fleet::{
        ActiveTime, Agent, AgentId, Heartbeat, LastHeartbeat, MachineKey, PolicyVersion, Registration, SharedStrings,
        Timestamp, TokenHash,
    },
};

/// Agents in the fleet.
pub const AGENTS: u64 = 10_000;

/// When the fleet registered.
pub const REGISTERED_AT: Timestamp = Timestamp::from_millis(1_772_884_800_000);

/// What the published Guard client sends.
pub const GUARD_BODY: &str = r#"{"eventsProcessed":18234,"threatsDetected":12,"actionsExecuted":3,"mode":"protection","uptime":86412,"memoryUsageMB":84.25}"#;

/// What an agent sends that reports the three common figures alone.
pub const SHORT_BODY: &str = r#"{"uptime":86400,"cpu":12.5,"memory":48.2}"#;

/// The names of the agents: random, as the engine gives them.
pub fn ids() -> impl Iterator<Item = AgentId> {
    (0..AGENTS).map(|n| AgentId::new(mix(n)))
}

/// A bijective mix of 64 bits: distinct inputs give distinct, random-looking numbers.
fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The heartbeat in a body.
pub fn heartbeat(body: &str) -> Heartbeat {
    let body: HeartbeatBody =
        serde_json::from_str(body).expect("the body is JSON, and its figures are within their bounds");
    body.into()
}

/// An agent's registration.
pub fn registration(id: AgentId) -> Registration {
    let n = id.get();
    Registration {
        id,
        hostname: format!("web-{:05}.example.net", n % AGENTS).into(),
        os: "linux".into(),
        version: "1.0.0".into(),
        ip: IpAddr::from([10, (n >> 16) as u8, (n >> 8) as u8, n as u8]),
        org_id: Some(format!("org-{}", n % 100).into()),
        tags: vec!["production".into(), format!("rack-{}", n % 100).into()],
        machine: Some(MachineKey::new(None, &n.to_string())),
        registered_at: REGISTERED_AT,
        last_active: ActiveTime::default(),
        token: TokenHash::of("gb_00f3a1b2c3d4e5f6_secret"),
    }
}

/// An agent that has registered and beaten once.
pub fn agent(id: AgentId, texts: &mut SharedStrings) -> Agent {
    let mut agent = Agent::new(registration(id), texts);
    // Each was last active at a moment of its own, within the minute.
    let after_ms = id.get() % 60_000;
    let at = Timestamp::from_millis(REGISTERED_AT.as_millis() + after_ms as i64);
    agent.beat(heartbeat(GUARD_BODY), at, ActiveTime::from_micros(after_ms as i64 * 1_000), texts);
    agent
}

/// The whole fleet, each agent as [`agent`].
pub fn agents(texts: &mut SharedStrings) -> Vec<Agent> {
    ids().map(|id| agent(id, texts)).collect()
}

/// What the store is given of the whole fleet.
pub fn last_heartbeats() -> Vec<LastHeartbeat> {
    let mut texts = SharedStrings::default();
    agents(&mut texts).iter().map(|agent| agent.last_heartbeat(PolicyVersion::NONE, &texts)).collect()
}
