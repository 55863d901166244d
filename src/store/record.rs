//! How the records of agents are written: JSON arrays, compact, versioned, the same in every backend.
//!
//! A registration: format version, hostname, operating system, version, address, tenant (or null), tags, key of the
//! machine (or null), time of the registration (ms since 1970) and the same in active time (µs), SHA-256 of the token.
//! Key and hash are base64url without padding.
//!
//! ```json
//! [1,"web-1","linux","1.2.0","203.0.113.10","acme",["web"],"GFYAbF1ISIu1lnoNo5gO6A",1772884800000,81000000,"n4bQgY…"]
//! ```
//!
//! A last heartbeat: format version, time of the registration it belongs to, time it was received (both in ms since 1970),
//! active time (µs), version, uptime, cpu, memory; then, when the published Guard client sent them, the array of its
//! figures (`GuardFigures`), or null; then, once the agent has fetched a policy, the newest version in its scope at that
//! time.
//!
//! ```json
//! [1,1772884800000,1772885100000,381000000,"1.2.0",86400.0,12.5,48.2]
//! ```

use std::{borrow::Cow, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::fleet::{
    ActiveTime, AgentId, Figure, Figures, GuardFigures, LastHeartbeat, MachineKey, PolicyVersion, Registration,
    Timestamp, TokenHash,
};

/// Version of both formats.
const FORMAT: u8 = 1;

/// A record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not what this module writes.
    #[error("not a record: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It was written by another version.
    #[error("format version {0} is unknown")]
    Version(u8),
    /// It names a severity that there is none of.
    #[error("severity {0} is unknown")]
    Severity(u8),
    /// It names an agent that there cannot be.
    #[error("an agent's id in it is malformed")]
    Agent,
    /// It is not where records of its kind are.
    #[error("its key is none of ours")]
    Key,
    /// Versions of policies that no fleet has had.
    #[error("its versions are not in order")]
    Order,
    /// A hash is not base64url of as many bytes as it has.
    #[error("a hash in it is malformed")]
    Hash,
}

/// Written as an array, like every tuple struct.
#[derive(Serialize, Deserialize)]
struct RegistrationRecord<'a>(
    u8,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    IpAddr,
    Option<Cow<'a, str>>,
    Cow<'a, [Box<str>]>,
    Option<Cow<'a, str>>,
    i64,
    i64,
    Cow<'a, str>,
);

/// Encodes a registration, all but its id: that is its key.
pub fn encode_registration(registration: &Registration) -> Vec<u8> {
    let record = RegistrationRecord(
        FORMAT,
        Cow::Borrowed(&registration.hostname),
        Cow::Borrowed(&registration.os),
        Cow::Borrowed(&registration.version),
        registration.ip,
        registration.org_id.as_deref().map(Cow::Borrowed),
        Cow::Borrowed(&registration.tags),
        registration.machine.map(|machine| Cow::Owned(base64(machine.as_bytes()))),
        registration.registered_at.as_millis(),
        registration.last_active.as_micros(),
        Cow::Owned(base64(registration.token.as_bytes())),
    );
    serde_json::to_vec(&record).expect("a record has only string keys")
}

/// Decodes the registration of `id`.
pub fn decode_registration(id: AgentId, bytes: &[u8]) -> Result<Registration, RecordError> {
    let RegistrationRecord(format, hostname, os, version, ip, org_id, tags, machine, registered_at, last_active, token) =
        from_json(bytes)?;
    if format != FORMAT {
        return Err(RecordError::Version(format));
    }
    Ok(Registration {
        id,
        hostname: hostname.into(),
        os: os.into(),
        version: version.into(),
        ip,
        org_id: org_id.map(Into::into),
        tags: tags.into_owned(),
        machine: machine.map(|key| unbase64(&key)).transpose()?.map(MachineKey::from_bytes),
        registered_at: Timestamp::from_millis(registered_at),
        last_active: ActiveTime::from_micros(last_active),
        token: TokenHash::from_bytes(unbase64(&token)?),
    })
}

/// Written as an array; serde reads missing trailing fields as their defaults.
#[derive(Serialize, Deserialize)]
struct HeartbeatRecord<'a>(
    u8,
    i64,
    i64,
    i64,
    #[serde(borrow)] Cow<'a, str>,
    Figure,
    Figure,
    Figure,
    /// Written as null where something follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    Option<Option<Cow<'a, GuardFigures>>>,
    #[serde(default, skip_serializing_if = "is_zero")] u32,
);

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Appends the encoded heartbeat, all but its id, to `out`.
pub fn encode_heartbeat(last: &LastHeartbeat, out: &mut Vec<u8>) {
    let Figures { uptime, cpu, memory, guard } = &last.figures;
    let last_fetched = last.last_fetched.get();
    let record = HeartbeatRecord(
        FORMAT,
        last.registration.as_millis(),
        last.at.as_millis(),
        last.last_active.as_micros(),
        Cow::Borrowed(&last.version),
        *uptime,
        *cpu,
        *memory,
        (guard.is_some() || last_fetched > 0).then_some(guard.as_deref().map(Cow::Borrowed)),
        last_fetched,
    );
    serde_json::to_writer(out, &record).expect("a record has only string keys");
}

/// Decodes the last heartbeat of `id`.
pub fn decode_heartbeat(id: AgentId, bytes: &[u8]) -> Result<LastHeartbeat, RecordError> {
    let HeartbeatRecord(format, registration, at, last_active, version, uptime, cpu, memory, guard, last_fetched) =
        from_json(bytes)?;
    if format != FORMAT {
        return Err(RecordError::Version(format));
    }
    Ok(LastHeartbeat {
        id,
        registration: Timestamp::from_millis(registration),
        at: Timestamp::from_millis(at),
        last_active: ActiveTime::from_micros(last_active),
        version: version.into(),
        figures: Figures { uptime, cpu, memory, guard: guard.flatten().map(|guard| Box::new(guard.into_owned())) },
        last_fetched: PolicyVersion::new(last_fetched),
    })
}

/// Checked to be UTF-8 as a whole: string by string costs several times as much.
pub(super) fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        // It knows how to report where the text is wrong.
        Err(_) => serde_json::from_slice(bytes),
    }
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unbase64<const N: usize>(text: &str) -> Result<[u8; N], RecordError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| RecordError::Hash)?;
    bytes.try_into().map_err(|_| RecordError::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::samples::{figure, guard_figures};
    use proptest::{option, prelude::*};

    const ID: AgentId = AgentId::new(7);

    proptest! {
        #[test]
        fn a_heartbeat_survives_its_encoding(
            registration: i64, at: i64, last_active: i64, version in ".{1,64}",
            uptime in figure(), cpu in figure(), memory in figure(),
            guard in option::of(guard_figures().prop_map(Box::new)), seen: u32,
        ) {
            let last = LastHeartbeat {
                id: ID,
                registration: Timestamp::from_millis(registration),
                at: Timestamp::from_millis(at),
                last_active: ActiveTime::from_micros(last_active),
                version: version.into(),
                figures: Figures { uptime, cpu, memory, guard },
                last_fetched: PolicyVersion::new(seen),
            };
            let mut bytes = Vec::new();
            encode_heartbeat(&last, &mut bytes);
            prop_assert_eq!(decode_heartbeat(ID, &bytes).unwrap(), last);
        }

        #[test]
        fn a_registration_survives_its_encoding(
            hostname in ".{1,255}", os in ".{1,9}", version in ".{1,9}", v6: bool, ip: [u8; 16],
            org_id in option::of(".{1,64}"), tags in proptest::collection::vec(".{1,9}", 0..4),
            machine in option::of(any::<[u8; 16]>()), registered_at: i64, last_active: i64, token: [u8; 32],
        ) {
            let registration = Registration {
                id: ID,
                hostname: hostname.into(),
                os: os.into(),
                version: version.into(),
                ip: if v6 { IpAddr::from(ip) } else { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) },
                org_id: org_id.map(Into::into),
                tags: tags.into_iter().map(Into::into).collect(),
                machine: machine.map(MachineKey::from_bytes),
                registered_at: Timestamp::from_millis(registered_at),
                last_active: ActiveTime::from_micros(last_active),
                token: TokenHash::from_bytes(token),
            };
            let bytes = encode_registration(&registration);
            prop_assert_eq!(decode_registration(ID, &bytes).unwrap(), registration);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = decode_registration(ID, &bytes);
            let _ = decode_heartbeat(ID, &bytes);
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let refused = decode_heartbeat(ID, br#"[2,0,0,0,"1",null,null,null]"#).unwrap_err();
        assert_eq!(refused.to_string(), "format version 2 is unknown");
    }

    #[test]
    fn registrations_are_written_as_documented() {
        let registration = Registration {
            id: ID,
            hostname: "web-1".into(),
            os: "linux".into(),
            version: "1.2.0".into(),
            ip: IpAddr::from([203, 0, 113, 10]),
            org_id: None,
            tags: vec!["web".into()],
            machine: Some(MachineKey::from_bytes([0; 16])),
            registered_at: Timestamp::from_millis(1),
            last_active: ActiveTime::from_micros(2),
            token: TokenHash::from_bytes([255; 32]),
        };
        assert_eq!(
            String::from_utf8(encode_registration(&registration)).unwrap(),
            r#"[1,"web-1","linux","1.2.0","203.0.113.10",null,["web"],"AAAAAAAAAAAAAAAAAAAAAA",1,2,"__________________________________________8"]"#
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_no_record() {
        let refused = decode_heartbeat(ID, b"[1,1,2,3,\"\xff\",null,null,null]").unwrap_err().to_string();
        assert!(refused.contains("invalid unicode") && refused.contains("column"), "{refused}");
    }

    #[test]
    fn heartbeats_are_written_as_documented() {
        let figures = Figures { uptime: Some(86400.0).into(), cpu: Some(12.5).into(), ..Figures::default() };
        let mut last = LastHeartbeat {
            id: ID,
            registration: Timestamp::from_millis(1),
            at: Timestamp::from_millis(2),
            last_active: ActiveTime::from_micros(3),
            version: "1.2.0".into(),
            figures,
            last_fetched: PolicyVersion::NONE,
        };
        let mut bytes = Vec::new();
        encode_heartbeat(&last, &mut bytes);
        assert_eq!(bytes, br#"[1,1,2,3,"1.2.0",86400.0,12.5,null]"#);
        last.last_fetched = PolicyVersion::new(7);
        bytes.clear();
        encode_heartbeat(&last, &mut bytes);
        assert_eq!(bytes, br#"[1,1,2,3,"1.2.0",86400.0,12.5,null,null,7]"#);
        last.last_fetched = PolicyVersion::NONE;
        last.figures.guard = Some(Box::new(GuardFigures { mode: Some("a".into()), ..GuardFigures::default() }));
        bytes.clear();
        encode_heartbeat(&last, &mut bytes);
        let guard = serde_json::to_string(&last.figures.guard).unwrap();
        assert_eq!(bytes, format!(r#"[1,1,2,3,"1.2.0",86400.0,12.5,null,{guard}]"#).into_bytes());
    }
}
