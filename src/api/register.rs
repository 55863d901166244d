//! `POST /api/agents/register`: an agent joins the fleet.

use actix_web::{HttpResponse, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    ApiError, Call, Description,
    auth::Principal,
    body, envelope,
    json::{InvalidObject, either, parse},
    peer,
    values::{IpAddress, MachineIdText, Tags},
};
use crate::{
    engine::Registered,
    fleet::{AgentId, Hostname, OrgId, Os, Registration, RegistrationRequest, Status, Tag, Timestamp, Version},
    limits::BODY_MAX_BYTES,
};

/// What an agent says of itself to join the fleet. Unknown fields are ignored; `null` is the same as left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = Enrolment)]
struct Enrolment {
    /// Name of the machine. It need not be the only one of that name.
    #[schema(value_type = Hostname)]
    hostname: Option<Hostname>,
    /// Operating system: `linux`, `darwin`, `win32`, or any other text.
    #[schema(value_type = Os)]
    os: Option<Os>,
    /// Version of the Guard on the machine.
    #[schema(value_type = Version)]
    version: Option<Version>,
    /// IPv4 or IPv6 address of the machine. Left out, it is taken from the connection, or from what a trusted proxy says; it
    /// must be given if that cannot be read. An IPv4 address inside an IPv6 one is IPv4, and a zone is dropped.
    ip: Option<IpAddress>,
    /// Tenant. `organizationId` is another name for it.
    org_id: Option<OrgId>,
    #[serde(rename = "organizationId")]
    #[schema(ignore)]
    organization_id: Option<OrgId>,
    /// For grouping and filtering. Duplicates collapse, and the order is kept.
    #[schema(value_type = Option<Vec<Tag>>, max_items = 32)]
    tags: Option<Tags>,
    /// Identity of the machine: who registers again with the same `org_id` and `machine_id` gets the same id back, and a
    /// new token. It is trimmed, and a UUID is put into lower case; a blank one, what factories leave (`Not Settable`, all
    /// zeros), a template that was not filled in (`${MACHINE_ID}`) and a single character are the same as none. `machineId`
    /// is another name for it.
    machine_id: Option<MachineIdText>,
    #[serde(rename = "machineId")]
    #[schema(ignore)]
    machine_id_again: Option<MachineIdText>,
}

impl TryFrom<Enrolment> for RegistrationRequest {
    type Error = InvalidObject;

    fn try_from(body: Enrolment) -> Result<Self, InvalidObject> {
        let (hostname, os, version) = match (body.hostname, body.os, body.version) {
            (Some(hostname), Some(os), Some(version)) => (hostname, os, version),
            (hostname, os, version) => {
                let given = [hostname.is_some(), os.is_some(), version.is_some()];
                return Err(InvalidObject::missing([("hostname", given[0]), ("os", given[1]), ("version", given[2])]));
            }
        };
        Ok(Self {
            hostname,
            os,
            version,
            ip: body.ip.map(|IpAddress(ip)| ip),
            org_id: either("org_id", body.org_id, body.organization_id)?,
            tags: body.tags.unwrap_or_default().0,
            machine_id: either("machine_id", body.machine_id, body.machine_id_again)?.and_then(|MachineIdText(id)| id),
        })
    }
}

pub(super) fn describe() -> Description {
    Description::new("Agents", "registerAgent", "Register an agent")
        .about(
            "The agent joins the fleet and gets a token of its own, which is shown this once. The answer comes\n\
             once the registration is durable.\n\n\
             Every registration is a new agent, unless it names a `machine_id`: then the machine keeps the id\n\
             that it got first, its fields are updated, and its earlier token is no longer valid.",
        )
        .takes::<Enrolment>()
        .example(json!({
            "hostname": "web-server-1", "os": "linux", "version": "1.2.0", "tags": ["production", "web-tier"],
        }))
        .answers_whole::<Enrolled<'_>>(201, "The agent is in the fleet")
        .example(json!({
            "ok": true,
            "data": {
                "id": "agent-00f3a1b2c3d4e5f6", "hostname": "web-server-1", "os": "linux", "version": "1.2.0",
                "ip": "203.0.113.10", "tags": ["production", "web-tier"], "status": "online",
                "registeredAt": "2026-03-07T12:00:00.000Z",
            },
            "agentId": "agent-00f3a1b2c3d4e5f6",
            "token": "gb_00f3a1b2c3d4e5f6_qk0cV6wF1yXn5S3mZr8dT2uJb7hLgP9eRaKxWvYtNcE",
        }))
        .refuses(409, "The fleet is full, or a registration without a token names a machine that is already registered")
        .example(json!({
            "ok": false, "error": "The fleet is full: it holds 20000000 agents, the most that limits.max_agents allows",
        }))
}

pub(super) async fn register(call: Call<'_>) -> Result<HttpResponse, ApiError> {
    let Call { request, payload, state, principal, .. } = call;
    let body = body::read(request.headers(), payload, BODY_MAX_BYTES).await?;
    let wanted = RegistrationRequest::try_from(parse::<Enrolment>(request.headers(), &body)?)?;
    let address = peer::address(request, state);
    let from = wanted.ip.or(address).ok_or_else(|| {
        ApiError::BadRequest(
            "ip must be given: what a proxy says of where the request comes from cannot be read".into(),
        )
    })?;
    let registered = state.engine.register(wanted, from.ip(), principal == Principal::Admin).await?;
    state.request_log.registered(request, address, principal, &registered);
    Ok(envelope::whole(StatusCode::CREATED, &Enrolled::from(&registered)))
}

/// An agent that has just registered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Enrolled)]
struct Enrolled<'a> {
    #[schema(schema_with = envelope::always::<true>)]
    ok: bool,
    data: EnrolledAgent<'a>,
    /// The agent's name, once more.
    agent_id: AgentId,
    /// The agent's own token. The server keeps no more than its hash.
    token: &'a str,
}

/// What was registered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EnrolledAgent)]
struct EnrolledAgent<'a> {
    /// Its name.
    id: AgentId,
    /// Name of its machine.
    hostname: &'a str,
    /// Operating system.
    os: &'a str,
    /// Version of the Guard.
    version: &'a str,
    /// Its address.
    #[schema(value_type = IpAddress)]
    ip: std::net::IpAddr,
    /// Its tags, without duplicates.
    #[schema(value_type = Vec<String>)]
    tags: &'a [Box<str>],
    /// Online: registering is a sign of life.
    status: Status,
    /// When it registered.
    registered_at: Timestamp,
    /// Its tenant.
    #[serde(rename = "org_id", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    org_id: Option<&'a str>,
}

impl<'a> From<&'a Registered> for Enrolled<'a> {
    fn from(registered: &'a Registered) -> Self {
        let Registration { id, hostname, os, version, ip, tags, org_id, registered_at, .. } = &registered.registration;
        Self {
            ok: true,
            data: EnrolledAgent {
                id: *id,
                hostname,
                os,
                version,
                ip: *ip,
                tags,
                status: Status::Online,
                registered_at: *registered_at,
                org_id: org_id.as_deref(),
            },
            agent_id: *id,
            token: registered.token.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::parse_object;

    fn read(json: &str) -> Result<RegistrationRequest, String> {
        let body = parse_object::<Enrolment>("body", json.as_bytes());
        body.and_then(RegistrationRequest::try_from).map_err(|wrong| wrong.to_string())
    }

    fn with(fields: &str) -> Result<RegistrationRequest, String> {
        read(&format!(r#"{{"hostname":"h","os":"o","version":"v",{fields}}}"#))
    }

    #[test]
    fn all_missing_fields_are_named_in_one_sentence() {
        assert_eq!(read(r#"{"os":"linux","version":"1"}"#).unwrap_err(), "Missing required field: hostname");
        assert_eq!(read(r#"{"version":"1","os":null}"#).unwrap_err(), "Missing required fields: hostname, os");
    }

    #[test]
    fn a_field_that_breaks_its_rule_is_named_with_the_rule() {
        let of = |most: usize| format!("a string of 1 to {most} characters");
        let tags = "an array of at most 32 strings of 1 to 64 characters".to_owned();
        for (field, rule) in [
            ("hostname", of(255)),
            ("os", of(128)),
            ("version", of(64)),
            ("ip", "an IPv4 or IPv6 address".into()),
            ("org_id", of(64)),
            ("organizationId", of(64)),
            ("tags", tags),
            ("machine_id", "a string of at most 128 characters".into()),
            ("machineId", "a string of at most 128 characters".into()),
        ] {
            for wrong in ["{}", "5", "1e999", "[5]", r#""\ud800""#] {
                let error = read(&format!(r#"{{"{field}":{wrong}}}"#)).unwrap_err();
                assert_eq!(error, format!("{field} must be {rule}"), "{wrong}");
            }
        }
        assert_eq!(with(r#""ip":"h""#).unwrap_err(), "ip must be an IPv4 or IPv6 address");
        assert_eq!(with(r#""org_id":"a\n""#).unwrap_err(), "org_id must be a string without control characters");
        let error = with(r#""tags":["a","\n"]"#).unwrap_err();
        assert_eq!(error, "tags must be strings of 1 to 64 characters without control characters");
        assert_eq!(with(r#""ip":"::1","ip":null"#).unwrap_err(), "ip is given twice");
    }

    #[test]
    fn duplicate_tags_collapse_and_keep_their_order() {
        let request = with(r#""tags":["b","a","b"]"#).unwrap();
        assert_eq!(request.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn tags_are_counted_after_duplicates_collapsed() {
        let tags = |n: usize| (0..n).map(|i| format!(r#""t{i}""#)).collect::<Vec<_>>().join(",");
        let tagged = |tags: String| with(&format!(r#""tags":[{tags}]"#));
        assert!(tagged(tags(32)).is_ok());
        assert!(tagged(tags(32) + r#","t0""#).is_ok());
        assert_eq!(tagged(tags(33)).unwrap_err(), "tags must be an array of at most 32 tags");
    }

    #[test]
    fn a_field_may_have_its_other_name_instead_but_not_both() {
        let request = with(r#""organizationId":"acme","machineId":"m-1","org_id":null"#).unwrap();
        assert_eq!(request.org_id.as_deref(), Some("acme"));
        assert_eq!(request.machine_id.as_deref(), Some("m-1"));
        assert_eq!(with(r#""org_id":"a","organizationId":"a""#).unwrap_err(), "org_id is given twice");
    }
}
