//! Joining the fleet: what an agent says of itself, and what is kept of it.

use std::net::IpAddr;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::{
    address::Address,
    agent_id::AgentId,
    machine_id::{MachineId, machine_id},
    schema::{IpAddress, MachineIdText},
    status::Heard,
    text::{FieldError, GivenTwice, MissingFields, Text, Timestamp, either},
};
use crate::limits::{HOSTNAME_MAX_CHARS, ORG_ID_MAX_CHARS, OS_MAX_CHARS, TAG_MAX_CHARS, TAGS_MAX, VERSION_MAX_CHARS};

/// What an agent that wants to join says of itself, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct EnrolmentRequest {
    /// Name of its machine; not unique in real fleets.
    pub hostname: Hostname,
    /// Operating system, free text.
    pub os: Os,
    /// Version of the Guard.
    pub version: Version,
    /// Address it gave; without one, that of its connection is taken.
    pub ip: Option<Address>,
    /// Tenant.
    pub org_id: Option<OrgId>,
    /// Tags without duplicates, in the order given.
    pub tags: Vec<Tag>,
    /// Identity of its machine: the same tenant and identity registering again is the same agent.
    pub machine_id: Option<MachineId>,
}

type Hostname = Text<HOSTNAME_MAX_CHARS>;
type Os = Text<OS_MAX_CHARS>;
type Version = Text<VERSION_MAX_CHARS>;
/// The name of a tenant.
pub type OrgId = Text<ORG_ID_MAX_CHARS>;
type Tag = Text<TAG_MAX_CHARS>;

/// What an agent says of itself to join the fleet. Unknown fields are ignored; `null` is the same as left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = Enrolment)]
pub struct RegistrationBody {
    /// Name of the machine. It need not be the only one of that name.
    #[schema(value_type = Hostname)]
    hostname: Option<Box<str>>,
    /// Operating system: `linux`, `darwin`, `win32`, or any other text.
    #[schema(value_type = Os)]
    os: Option<Box<str>>,
    /// Version of the Guard on the machine.
    #[schema(value_type = Version)]
    version: Option<Box<str>>,
    /// IPv4 or IPv6 address of the machine. Left out, it is taken from the connection, or from what a trusted proxy says; it
    /// must be given if that cannot be read. An IPv4 address inside an IPv6 one is IPv4, and a zone is dropped.
    #[schema(value_type = Option<IpAddress>)]
    ip: Option<Box<str>>,
    /// Tenant. `organizationId` is another name for it.
    #[schema(value_type = Option<OrgId>)]
    org_id: Option<Box<str>>,
    #[serde(rename = "organizationId")]
    #[schema(ignore)]
    organization_id: Option<Box<str>>,
    /// For grouping and filtering. Duplicates collapse, and the order is kept.
    #[schema(value_type = Option<Vec<Tag>>, max_items = 32)]
    tags: Option<Vec<Box<str>>>,
    /// Identity of the machine: who registers again with the same `org_id` and `machine_id` gets the same id back, and a
    /// new token. It is trimmed, and a UUID is put into lower case; a blank one, what factories leave (`Not Settable`, all
    /// zeros), a template that was not filled in (`${MACHINE_ID}`) and a single character are the same as none. `machineId`
    /// is another name for it.
    #[schema(value_type = Option<MachineIdText>)]
    machine_id: Option<Box<str>>,
    #[serde(rename = "machineId")]
    #[schema(ignore)]
    machine_id_again: Option<Box<str>>,
}

/// What each field of a registration must be, for the error that names it.
pub const REGISTRATION_FIELDS: &[(&str, &str)] = &[
    ("hostname", "a string of 1 to 255 characters"),
    ("os", "a string of 1 to 128 characters"),
    ("version", "a string of 1 to 64 characters"),
    ("ip", "an IPv4 or IPv6 address"),
    ("org_id", "a string of 1 to 64 characters"),
    ("organizationId", "a string of 1 to 64 characters"),
    ("tags", "an array of at most 32 strings of 1 to 64 characters"),
    ("machine_id", "a string of at most 128 characters"),
    ("machineId", "a string of at most 128 characters"),
];

/// Why a registration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegistration {
    /// Required fields that were left out.
    #[error(transparent)]
    Missing(#[from] MissingFields),
    /// A field that breaks its rule.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A field under both of its names.
    #[error(transparent)]
    Twice(#[from] GivenTwice),
}

impl TryFrom<RegistrationBody> for EnrolmentRequest {
    type Error = InvalidRegistration;

    fn try_from(body: RegistrationBody) -> Result<Self, InvalidRegistration> {
        let (Some(hostname), Some(os), Some(version)) = (&body.hostname, &body.os, &body.version) else {
            let required = [("hostname", &body.hostname), ("os", &body.os), ("version", &body.version)];
            return Err(MissingFields::of(required.map(|(name, value)| (name, value.is_some()))).into());
        };
        let org_id = either("org_id", body.org_id, body.organization_id)?;
        let told = either("machine_id", body.machine_id, body.machine_id_again)?;
        let ip = body.ip.as_deref().map(|ip| ip.parse()).transpose();
        Ok(Self {
            hostname: Text::new("hostname", hostname.clone())?,
            os: Text::new("os", os.clone())?,
            version: Text::new("version", version.clone())?,
            ip: ip.map_err(|_| FieldError::new("ip", "an IPv4 or IPv6 address"))?,
            org_id: org_id.map(|org| Text::new("org_id", org)).transpose()?,
            tags: unique_tags(body.tags.unwrap_or_default())?,
            machine_id: told.as_deref().map(machine_id).transpose()?.flatten(),
        })
    }
}

fn unique_tags(tags: Vec<Box<str>>) -> Result<Vec<Tag>, FieldError> {
    let mut unique: Vec<Tag> = Vec::new();
    for tag in tags {
        let tag = Text::new("tags", tag)
            .map_err(|_| FieldError::new("tags", "strings of 1 to 64 characters without control characters"))?;
        if unique.contains(&tag) {
            continue;
        }
        if unique.len() == TAGS_MAX {
            return Err(FieldError::new("tags", format!("an array of at most {TAGS_MAX} tags")));
        }
        unique.push(tag);
    }
    Ok(unique)
}

/// SHA-256 of a bearer token: all that is kept of it.
#[derive(Clone, Copy, Debug)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    /// In constant time: how long it takes tells nothing of where the hashes differ.
    fn eq(&self, other: &Self) -> bool {
        let words = |hash: &Self| {
            let (words, _) = hash.0.as_chunks::<8>();
            [0, 1, 2, 3].map(|n| u64::from_ne_bytes(words[n]))
        };
        words(self).ct_eq(&words(other)).into()
    }
}

impl Eq for TokenHash {}

/// Names one `(org_id, machine_id)`: the first 16 bytes of a SHA-256 over both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MachineKey([u8; 16]);

impl MachineKey {
    /// The key of a machine of a tenant (or of none).
    pub fn new(org_id: Option<&str>, machine_id: &str) -> Self {
        // Neither text holds control characters, so the separators make every pair distinct.
        let mut hasher = Sha256::new();
        hasher.update(org_id.map_or(String::new(), |org| format!("{org}\n")));
        hasher.update(b"\0");
        hasher.update(machine_id);
        let hash = hasher.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        Self(key)
    }

    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A small number that spreads keys evenly over `n` places.
    pub fn place(self, n: usize) -> usize {
        usize::from(u16::from_le_bytes([self.0[0], self.0[1]])) % n
    }
}

/// A registered agent as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The agent's name.
    pub id: AgentId,
    /// Name of its machine.
    pub hostname: Box<str>,
    /// Operating system.
    pub os: Box<str>,
    /// Version of the Guard when it registered.
    pub version: Box<str>,
    /// Its address.
    pub ip: IpAddr,
    /// Tenant.
    pub org_id: Option<Box<str>>,
    /// Tags without duplicates.
    pub tags: Vec<Box<str>>,
    /// The key of its machine, if it told an identity.
    pub machine: Option<MachineKey>,
    /// When it registered (again). Distinguishes the registrations of one agent, so that a heartbeat of an earlier one
    /// is never taken for one of a later.
    pub registered_at: Timestamp,
    /// The same moment in hearing time.
    pub heard_at: Heard,
    /// Hash of the token it was given.
    pub token: TokenHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<EnrolmentRequest, String> {
        let body: RegistrationBody = serde_json::from_str(json).unwrap();
        body.try_into().map_err(|refused: InvalidRegistration| refused.to_string())
    }

    #[test]
    fn all_missing_fields_are_named_in_one_sentence() {
        assert_eq!(parse(r#"{"os":"linux","version":"1"}"#).unwrap_err(), "Missing required field: hostname");
        assert_eq!(parse(r#"{"version":"1","os":null}"#).unwrap_err(), "Missing required fields: hostname, os");
    }

    #[test]
    fn duplicate_tags_collapse_and_keep_their_order() {
        let request = parse(r#"{"hostname":"h","os":"o","version":"v","tags":["b","a","b"]}"#).unwrap();
        assert_eq!(request.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn tags_are_counted_after_duplicates_collapsed() {
        let tags = |n: usize| (0..n).map(|i| format!(r#""t{}""#, i)).collect::<Vec<_>>().join(",");
        let with = |tags: String| parse(&format!(r#"{{"hostname":"h","os":"o","version":"v","tags":[{tags}]}}"#));
        assert!(with(tags(32)).is_ok());
        assert!(with(tags(32) + r#","t0""#).is_ok());
        assert_eq!(with(tags(33)).unwrap_err(), "tags must be an array of at most 32 tags");
    }

    #[test]
    fn aliases_are_accepted() {
        let json = r#"{"hostname":"h","os":"o","version":"v","organizationId":"acme","machineId":"m-1"}"#;
        let request = parse(json).unwrap();
        assert_eq!(request.org_id.as_deref(), Some("acme"));
        assert_eq!(request.machine_id.as_deref(), Some("m-1"));
    }

    #[test]
    fn tenants_do_not_share_machines() {
        let key = MachineKey::new(Some("acme"), "m");
        assert_eq!(key, MachineKey::new(Some("acme"), "m"));
        for other in [MachineKey::new(None, "m"), MachineKey::new(Some("acm"), "em"), MachineKey::new(Some("b"), "m")] {
            assert_ne!(key, other);
        }
    }

    #[test]
    fn every_field_has_its_rule_told() {
        for (field, _) in REGISTRATION_FIELDS {
            let wrong = format!(r#"{{"{field}":{{}}}}"#);
            assert!(serde_json::from_str::<RegistrationBody>(&wrong).is_err(), "{field} is a field");
        }
    }
}
