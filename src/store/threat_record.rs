//! How threats are written: two JSON arrays for each, compact, versioned, the same in every backend.
//!
//! The *index entry* is what a start reads, of every threat: format version, agent, hostname, type, severity (0 low to 3
//! critical), source address (or null), bytes of both records, and when it was taken in (ms since 1970) if that is not the
//! time in its id.
//!
//! ```json
//! [1,"agent-00f3a1b2c3d4e5f6","web-1","brute_force",2,"203.0.113.9",310]
//! ```
//!
//! The *payload* is what is read when the threat is shown: format version, agent, hostname, type, severity, confidence, rule,
//! source address, the agent's own time (ms since 1970; each of these or null), details.
//!
//! ```json
//! [1,"agent-00f3a1b2c3d4e5f6","web-1","brute_force",2,0.9,"r-17","203.0.113.9",1772885100000,{"attempts":42}]
//! ```
//!
//! Neither has the id and the tenant: these are its key.

use std::{borrow::Cow, net::IpAddr};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::record::{RecordError, from_json};
use crate::{
    fleet::Timestamp,
    threats::{Severity, Threat, ThreatEntry, ThreatId, ThreatKey},
};

/// Version of both formats.
const FORMAT: u8 = 1;

/// Written as an array, like every tuple struct.
#[derive(Serialize, Deserialize)]
struct IndexRecord<'a>(
    u8,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    u8,
    Option<IpAddr>,
    u32,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<u64>,
);

#[derive(Serialize, Deserialize)]
struct PayloadRecord<'a>(
    u8,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    u8,
    Option<f64>,
    #[serde(borrow)] Option<Cow<'a, str>>,
    Option<IpAddr>,
    Option<i64>,
    #[serde(borrow)] &'a RawValue,
);

/// A threat as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredThreat {
    /// Its index entry, decoded; it is encoded where it is written.
    pub entry: ThreatEntry,
    /// Its payload, encoded.
    pub payload: Box<[u8]>,
}

impl StoredThreat {
    /// Encodes a threat, and notes what it takes.
    pub fn new(threat: &Threat) -> Self {
        let payload = encode_payload(threat);
        let mut entry = threat.entry();
        // The entry's own last digits hardly count.
        let bytes = payload.len() + encode_entry(&entry).len();
        entry.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { entry, payload: payload.into() }
    }
}

pub fn encode_entry(entry: &ThreatEntry) -> Vec<u8> {
    let record = IndexRecord(
        FORMAT,
        Cow::Owned(entry.agent.to_string()),
        Cow::Borrowed(&entry.hostname),
        Cow::Borrowed(&entry.kind),
        entry.severity.index() as u8,
        entry.source_ip,
        entry.bytes,
        entry.at_ms,
    );
    serde_json::to_vec(&record).expect("a record has only string keys")
}

pub fn decode_entry(key: ThreatKey, bytes: &[u8]) -> Result<ThreatEntry, RecordError> {
    let IndexRecord(format, agent, hostname, kind, severity, source_ip, size, at_ms) = from_json(bytes)?;
    check(format)?;
    Ok(ThreatEntry {
        id: key.id,
        at_ms,
        org: key.org,
        agent: agent.parse().map_err(|_| RecordError::Agent)?,
        hostname: hostname.into(),
        kind: kind.into(),
        severity: severity_of(severity)?,
        source_ip,
        bytes: size,
    })
}

fn encode_payload(threat: &Threat) -> Vec<u8> {
    let details: &RawValue = serde_json::from_str(&threat.details).expect("details are JSON");
    let record = PayloadRecord(
        FORMAT,
        Cow::Owned(threat.agent.to_string()),
        Cow::Borrowed(&threat.hostname),
        Cow::Borrowed(&threat.kind),
        threat.severity.index() as u8,
        threat.confidence,
        threat.rule_id.as_deref().map(Cow::Borrowed),
        threat.source_ip,
        threat.occurred_at.map(Timestamp::as_millis),
        details,
    );
    serde_json::to_vec(&record).expect("a record has only string keys")
}

pub fn decode_payload(key: ThreatKey, bytes: &[u8]) -> Result<Threat, RecordError> {
    let PayloadRecord(format, agent, hostname, kind, severity, confidence, rule_id, source_ip, occurred_at, details) =
        from_json(bytes)?;
    check(format)?;
    Ok(Threat {
        id: key.id,
        org: key.org,
        agent: agent.parse().map_err(|_| RecordError::Agent)?,
        hostname: hostname.into(),
        kind: kind.into(),
        severity: severity_of(severity)?,
        confidence,
        rule_id: rule_id.map(Into::into),
        source_ip,
        occurred_at: occurred_at.map(Timestamp::from_millis),
        details: details.get().into(),
        bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
    })
}

/// The threat `key`, if its payload can be read; if not, that is logged.
pub(super) fn read_payload(key: ThreatKey, bytes: &[u8]) -> Option<Threat> {
    let id = key.id;
    decode_payload(key, bytes).inspect_err(|error| is_left_out(id, error)).ok()
}

/// Logs that a threat is passed over.
pub(super) fn is_left_out(id: ThreatId, error: &RecordError) {
    tracing::error!(threat = %id, %error, "a threat in the store cannot be read; it is left out");
}

fn check(format: u8) -> Result<(), RecordError> {
    if format == FORMAT { Ok(()) } else { Err(RecordError::Version(format)) }
}

fn severity_of(index: u8) -> Result<Severity, RecordError> {
    Severity::ALL.get(usize::from(index)).copied().ok_or(RecordError::Severity(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::AgentId;

    fn threat() -> Threat {
        Threat {
            id: "evt_0000019cc8a1e1e0".parse().unwrap(),
            org: Some("acme".into()),
            agent: AgentId::new(0x00f3_a1b2_c3d4_e5f6),
            hostname: "web \"1\"".into(),
            kind: "brute_force".into(),
            severity: Severity::High,
            confidence: Some(0.9),
            rule_id: Some("r-17".into()),
            source_ip: "203.0.113.9".parse().ok(),
            occurred_at: Some(Timestamp::from_millis(1_772_885_100_000)),
            details: r#"{"attempts": 4e1, "a":"\ud800"}"#.into(),
            bytes: 0,
        }
    }

    #[test]
    fn a_threat_is_read_as_it_was_written() {
        for threat in [
            threat(),
            Threat { org: None, confidence: None, rule_id: None, source_ip: None, occurred_at: None, ..threat() },
        ] {
            let key = threat.key();
            let stored = StoredThreat::new(&threat);
            assert_eq!(decode_entry(key.clone(), &encode_entry(&stored.entry)).unwrap(), stored.entry);
            let apart = ThreatEntry { at_ms: Some(1_772_885_100_000), ..stored.entry };
            assert_eq!(decode_entry(key.clone(), &encode_entry(&apart)).unwrap(), apart);
            let read = decode_payload(key, &stored.payload).unwrap();
            assert_eq!(Threat { bytes: 0, ..read }, threat);
        }
    }

    #[test]
    fn records_look_as_documented() {
        let stored =
            StoredThreat::new(&Threat { hostname: "web-1".into(), details: r#"{"attempts":42}"#.into(), ..threat() });
        let entry = r#"[1,"agent-00f3a1b2c3d4e5f6","web-1","brute_force",2,"203.0.113.9",175]"#;
        assert_eq!(String::from_utf8(encode_entry(&stored.entry)).unwrap(), entry);
        let payload = r#"[1,"agent-00f3a1b2c3d4e5f6","web-1","brute_force",2,0.9,"r-17","203.0.113.9",1772885100000,{"attempts":42}]"#;
        assert_eq!(String::from_utf8(stored.payload.into()).unwrap(), payload);
    }

    #[test]
    fn what_is_no_record_is_told_apart() {
        let key = || ThreatKey { org: None, id: ThreatId::new(1) };
        assert!(matches!(decode_entry(key(), b"[1,2]"), Err(RecordError::Malformed(_))));
        assert!(matches!(
            decode_entry(key(), br#"[2,"agent-00f3a1b2c3d4e5f6","h","k",2,null,1]"#),
            Err(RecordError::Version(2))
        ));
        assert!(matches!(
            decode_entry(key(), br#"[1,"agent-00f3a1b2c3d4e5f6","h","k",4,null,1]"#),
            Err(RecordError::Severity(4))
        ));
        assert!(decode_payload(key(), b"\xff").is_err());
    }
}
