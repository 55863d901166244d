//! Reports of threats: many kinds of them, from many addresses, each made from its number alone, so that any number of
//! threats can be made again and takes no memory.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// Severities, and how many of a thousand threats of a type have each: few are critical.
const SEVERITIES: [(&str, u64); 4] = [("critical", 1), ("high", 49), ("medium", 250), ("low", 700)];
/// Addresses that threats come from: 198.18.0.0/15, which RFC 2544 sets aside for measurements.
const ADDRESSES: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const ADDRESS_BITS: u32 = 17;
/// Knuth's multiplicative hash: neighbouring numbers get addresses far apart.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reports {
    /// Threats in each: 1 to 100.
    pub(crate) events: u64,
    /// Types that there are of them, at least one; each of them is as frequent as the others.
    pub(crate) types: u64,
}

impl Reports {
    pub(super) fn body(self, number: u64) -> String {
        let mut body = "{\"events\":[".to_owned();
        let first = number * self.events;
        for threat in first..first + self.events {
            if threat > first {
                body.push(',');
            }
            event(&mut body, threat, self.types);
        }
        body + "]}"
    }

    pub(crate) fn type_of(number: u64) -> String {
        format!("type-{number}")
    }
}

fn event(out: &mut String, threat: u64, types: u64) {
    let kind = Reports::type_of(threat % types);
    let severity = severity(threat / types % 1_000);
    let address = Ipv4Addr::from_bits(ADDRESSES | (threat.wrapping_mul(MIX) >> (64 - ADDRESS_BITS)) as u32);
    write!(
        out,
        "{{\"type\":\"{kind}\",\"severity\":\"{severity}\",\"confidence\":0.85,\"ruleId\":\"rule-{kind}\",\"details\":{{\
         \"sourceIP\":\"{address}\",\"process\":\"sshd\",\"description\":\"many failed logins within a minute\"}}}}"
    )
    .expect("a String takes all that is written");
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
    fn events(reports: Reports, numbers: std::ops::Range<u64>) -> Vec<Value> {
        let of_report = |number| {
            let mut body: Value = serde_json::from_str(&reports.body(number)).expect("JSON");
            let events = std::mem::take(body["events"].as_array_mut().expect("events"));
            assert_eq!(events.len() as u64, reports.events);
            events
        };
        numbers.flat_map(of_report).collect()
    }

    #[test]
    fn threats_are_of_all_types_and_severities_and_come_from_many_addresses() {
        let events = events(Reports { events: 100, types: 5 }, 0..50);
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

    #[test]
    fn a_report_is_always_the_same() {
        let reports = Reports { events: 2, types: 500 };
        assert_eq!(events(reports, 3..5), events(Reports { events: 4, ..reports }, 0..3)[6..10]);
    }
}
