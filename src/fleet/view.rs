//! How agents are shown by the API.

use std::net::IpAddr;

use serde::{Serialize, Serializer, ser::SerializeMap};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::{
    agent_id::AgentId,
    policy_version::PolicyVersion,
    schema::IpAddress,
    status::Status,
    text::Timestamp,
    vitals::{HeartbeatBody, Vitals},
};

/// An agent in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Agent)]
pub struct AgentRow<'a> {
    /// Its name.
    pub id: AgentId,
    /// Name of its machine.
    pub hostname: &'a str,
    /// Operating system.
    pub os: &'a str,
    /// Version of the Guard.
    pub version: &'a str,
    /// Its address.
    #[schema(value_type = IpAddress)]
    pub ip: IpAddr,
    /// Whether it is heard from.
    pub status: Status,
    /// Its tags.
    pub tags: Vec<&'a str>,
    /// When it last beat; when it registered if it has not beaten yet.
    pub last_heartbeat: Timestamp,
    /// When it registered.
    pub registered_at: Timestamp,
    /// Its tenant.
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub org_id: Option<&'a str>,
}

/// An agent shown alone: the fields of the list and the figures it reported.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentDetail)]
pub struct AgentDetail<'a> {
    /// The fields of the list.
    #[serde(flatten)]
    pub row: AgentRow<'a>,
    /// What it reported last.
    #[serde(flatten)]
    pub vitals: Vitals,
    /// Threats it reported in the last 24 hours.
    #[serde(rename = "recentThreats")]
    pub recent_threats: u64,
    /// Version of the policy in force for it; `null` while there is none.
    #[serde(rename = "activePolicyVersion")]
    #[schema(required)]
    pub active_policy_version: Option<PolicyVersion>,
}

impl Serialize for AgentId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(std::str::from_utf8(&self.printed()).expect("an id is printed in ASCII"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl Serialize for Vitals {
    /// The three common figures always, `null` until reported; those of the published client when it sent them.
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(None)?;
        map.serialize_entry("cpu", &Shown(self.cpu))?;
        map.serialize_entry("memory", &Shown(self.memory))?;
        map.serialize_entry("uptime", &Shown(self.uptime))?;
        if let Some(report) = &self.report {
            if let Some(mode) = &report.mode {
                map.serialize_entry("mode", mode)?;
            }
            for (name, value) in report.counts() {
                if value.is_some() {
                    map.serialize_entry(name, &Shown(value))?;
                }
            }
        }
        map.end()
    }
}

impl PartialSchema for Vitals {
    /// The figures of a heartbeat, the three common ones always.
    fn schema() -> RefOr<Schema> {
        let mut schema = HeartbeatBody::<()>::schema();
        if let RefOr::T(Schema::Object(figures)) = &mut schema {
            figures.description = Some("What an agent reported last; null until it has".into());
            figures.properties.retain(|name, _| name != "version");
            figures.required = ["cpu", "memory", "uptime"].map(String::from).into();
        }
        schema
    }
}

impl ToSchema for Vitals {}

/// A number written the way it was most likely sent: `5` rather than `5.0`.
struct Shown(Option<f64>);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => out.serialize_none(),
            // Exact: what is reported is at most `limits::NUMBER_MAX`.
            Some(n) if n.fract() == 0.0 => out.serialize_i64(n as i64),
            Some(n) => out.serialize_f64(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::GuardReport;

    #[test]
    fn whole_numbers_are_shown_without_a_fraction_and_the_unreported_as_null() {
        let report = GuardReport { events_processed: Some(5.0), memory_usage_mb: Some(0.5), ..GuardReport::default() };
        let vitals = Vitals { cpu: Some(12.5), memory: Some(50.0), uptime: None, report: Some(Box::new(report)) };
        assert_eq!(
            serde_json::to_string(&vitals).unwrap(),
            r#"{"cpu":12.5,"memory":50,"uptime":null,"eventsProcessed":5,"memoryUsageMB":0.5}"#
        );
    }
}
