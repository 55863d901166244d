//! The registration of an agent: what it says of itself, and what it is answered.

use std::borrow::Cow;

use anyhow::Context;
use serde::Deserialize;

use super::AgentId;

pub(super) const REGISTER_PATH: &str = "/api/agents/register";
/// Organisations that the simulated agents belong to, and racks they stand in, each a tag: some that many agents have,
/// and some that few have.
const ORGANISATIONS: u64 = 100;
const RACKS: u64 = 1_000;
/// Operating systems of each organisation's agents, one after the other.
const SYSTEMS: [&str; 5] = ["linux", "linux", "linux", "win32", "darwin"];

pub(super) fn registration(number: u64) -> String {
    let system = SYSTEMS[(number / ORGANISATIONS) as usize % SYSTEMS.len()];
    format!(
        r#"{{"hostname":"web-server-{number}","os":"{system}","version":"1.2.0","org_id":"org-{}","tags":["production","rack-{}"]}}"#,
        number % ORGANISATIONS,
        number % RACKS
    )
}

/// Two top-level fields of the answer are all that a client needs.
#[derive(Deserialize)]
struct Registered<'a> {
    #[serde(rename = "agentId", borrow)]
    agent_id: Cow<'a, str>,
    #[serde(borrow)]
    token: Cow<'a, str>,
}

pub(super) fn registered(body: &[u8]) -> anyhow::Result<(AgentId, Box<str>)> {
    let answer: Registered<'_> =
        serde_json::from_slice(body).context("the answer to a registration has no top-level agentId and token")?;
    Ok((answer.agent_id.parse()?, answer.token.into()))
}
