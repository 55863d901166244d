//! Records for the tests of this room.

use crate::fleet::{ActiveTime, AgentId, Figures, LastHeartbeat, PolicyVersion, Registration, Timestamp, TokenHash};

pub(super) fn registration(id: u64) -> Registration {
    Registration {
        id: AgentId::new(id),
        hostname: format!("host-{id}").into(),
        os: "linux".into(),
        version: "1.2.0".into(),
        ip: "2001:db8::1".parse().unwrap(),
        org_id: Some("acme".into()),
        tags: vec!["a".into()],
        machine: None,
        registered_at: Timestamp::from_millis(1_000),
        last_active: ActiveTime::from_micros(1),
        token: TokenHash::of("secret"),
    }
}

/// Of the agent that [`registration`] gives, received at this moment.
pub(super) fn heartbeat(id: u64, last_active: i64) -> LastHeartbeat {
    LastHeartbeat {
        id: AgentId::new(id),
        registration: registration(id).registered_at,
        at: Timestamp::from_millis(1_000 + last_active),
        last_active: ActiveTime::from_micros(last_active),
        version: "1.3.0".into(),
        figures: Figures { cpu: Some(48.2).into(), ..Figures::default() },
        last_fetched: PolicyVersion::new(1),
    }
}
