//! What an agent reports.

use std::net::IpAddr;

use serde_json::value::RawValue;

use super::Severity;
use crate::fleet::Timestamp;

/// One threat as an agent reports it, validated.
#[derive(Clone, Debug)]
pub struct ReportedThreat {
    pub kind: Box<str>,
    pub severity: Severity,
    /// How sure the agent is: 0 to 1.
    pub confidence: Option<f64>,
    pub rule_id: Option<Box<str>>,
    /// The source address, if the details have one.
    pub source_ip: Option<IpAddr>,
    /// When it happened, by the agent's own clock.
    pub occurred_at: Option<Timestamp>,
    /// A JSON object: all else that is known of it.
    pub details: Box<RawValue>,
}
