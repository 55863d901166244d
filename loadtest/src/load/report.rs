//! Reports of threats: many kinds of them, from many addresses, each made from its number alone, so that any number of
//! threats can be made again and takes no memory.

use std::io::Write;
use std::net::Ipv4Addr;

use crate::wire::{KeepAlive, Target};

use super::AgentId;
use super::heartbeat::connection_header;

/// Severities, and how many of a thousand threats of a type have each: few are critical.
const SEVERITIES: [(&str, u64); 4] = [("critical", 1), ("high", 49), ("medium", 250), ("low", 700)];
/// Addresses that threats come from: 198.18.0.0/15, which RFC 2544 sets aside for measurements.
const ADDRESSES: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const ADDRESS_BITS: u32 = 17;
/// Knuth's multiplicative hash: neighbouring numbers get addresses far apart.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// What reports are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reports {
    /// Threats in each: 1 to 100.
    pub(crate) events: u64,
    /// Types that there are of them, at least one; each of them is as frequent as the others.
    pub(crate) types: u64,
}

impl Reports {
    /// A type by its number.
    pub(crate) fn type_of(number: u64) -> String {
        format!("type-{number}")
    }
}

/// Writes reports.
pub(super) struct ReportWriter {
    reports: Reports,
    before_id: String,
    before_length: String,
    body: Vec<u8>,
}

impl ReportWriter {
    /// For agents of this server.
    pub(super) fn to(target: &Target, keep_alive: KeepAlive, reports: Reports) -> Self {
        Self {
            reports,
            before_id: format!("POST {}/api/agents/", target.prefix()),
            before_length: format!(
                "/events HTTP/1.1\r\nhost: {}\r\n{}content-type: application/json\r\ncontent-length: ",
                target.authority(),
                connection_header(keep_alive),
            ),
            body: Vec::new(),
        }
    }

    /// Replaces what is in `out` by the report with this number, an agent's.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, number: u64, id: AgentId, token: &str) {
        self.body.clear();
        self.body.extend_from_slice(b"{\"events\":[");
        let first = number * self.reports.events;
        for threat in first..first + self.reports.events {
            if threat > first {
                self.body.push(b',');
            }
            event(&mut self.body, threat, self.reports.types);
        }
        self.body.extend_from_slice(b"]}");
        out.clear();
        out.extend_from_slice(self.before_id.as_bytes());
        id.write_to(out);
        out.extend_from_slice(self.before_length.as_bytes());
        out.extend_from_slice(self.body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\nauthorization: Bearer ");
        out.extend_from_slice(token.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.body);
    }
}

/// Appends one threat.
fn event(out: &mut Vec<u8>, threat: u64, types: u64) {
    let kind = Reports::type_of(threat % types);
    let severity = severity(threat / types % 1_000);
    let address = Ipv4Addr::from_bits(ADDRESSES | (threat.wrapping_mul(MIX) >> (64 - ADDRESS_BITS)) as u32);
    write!(
        out,
        "{{\"type\":\"{kind}\",\"severity\":\"{severity}\",\"confidence\":0.85,\"ruleId\":\"rule-{kind}\",\"details\":{{\
         \"sourceIP\":\"{address}\",\"process\":\"sshd\",\"description\":\"many failed logins within a minute\"}}}}"
    )
    .expect("a Vec takes all that is written");
}

/// The severity of the threat at this place among a thousand of its type.
fn severity(mut place: u64) -> &'static str {
    for (severity, count) in SEVERITIES {
        match place.checked_sub(count) {
            None => return severity,
            Some(rest) => place = rest,
        }
    }
    unreachable!("a place is below a thousand, and so many the severities have")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use serde_json::Value;

    use super::*;

    /// The events of the reports with these numbers.
    async fn events(reports: Reports, numbers: std::ops::Range<u64>) -> Vec<Value> {
        let target = Target::expect("http://127.0.0.1:9/base", None).await.expect("a target");
        let mut writer = ReportWriter::to(&target, KeepAlive::Yes, reports);
        let mut out = b"what was there".to_vec();
        let mut events = Vec::new();
        for number in numbers {
            writer.write(&mut out, number, AgentId::of(7), "secret");
            let text = str::from_utf8(&out).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
            assert!(head.starts_with("POST /base/api/agents/agent-0000000000000007/events HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
            assert!(head.ends_with("authorization: Bearer secret"), "{head}");
            let mut body: Value = serde_json::from_str(body).expect("JSON");
            let of_report = body["events"].as_array_mut().expect("events");
            assert_eq!(of_report.len() as u64, reports.events);
            events.append(of_report);
        }
        events
    }

    #[tokio::test]
    async fn threats_are_of_all_types_and_severities_and_come_from_many_addresses() {
        let events = events(Reports { events: 100, types: 5 }, 0..50).await;
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        for event in &events {
            let text = |name: &str| event[name].as_str().expect("a text").to_owned();
            *counts.entry((text("type"), text("severity"))).or_default() += 1;
        }
        for kind in (0..5).map(Reports::type_of) {
            for (severity, count) in SEVERITIES {
                assert_eq!(counts.get(&(kind.clone(), severity.to_owned())), Some(&count), "{kind} {severity}");
            }
        }
        let addresses: HashSet<_> = events.iter().map(|event| event["details"]["sourceIP"].to_string()).collect();
        assert!(addresses.len() > 4_000, "{}", addresses.len());
        assert!(addresses.iter().all(|address| address.starts_with("\"198.18.") || address.starts_with("\"198.19.")));
    }

    #[tokio::test]
    async fn a_report_is_always_the_same() {
        let reports = Reports { events: 2, types: 500 };
        assert_eq!(events(reports, 3..5).await, events(Reports { events: 4, ..reports }, 0..3).await[6..10]);
    }
}
