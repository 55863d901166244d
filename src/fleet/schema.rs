//! What the API's document says of values that are written as text.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{AnyOfBuilder, KnownFormat, SchemaFormat, Type},
    },
};

use super::{
    agent_id::AgentId,
    policy_version::PolicyVersion,
    text::{Text, Timestamp},
};
use crate::limits::{MACHINE_ID_MAX_CHARS, NUMBER_MAX, PERCENT_MAX};

/// Everything but control characters: what `char::is_control` lets pass.
const NO_CONTROL_CHARACTERS: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

impl<const MAX: usize> PartialSchema for Text<MAX> {
    fn schema() -> RefOr<Schema> {
        text()
            .min_length(Some(1))
            .max_length(Some(MAX))
            .pattern(Some(NO_CONTROL_CHARACTERS))
            .description(Some(format!("1 to {MAX} characters, none of them a control character")))
            .into()
    }
}

impl<const MAX: usize> ToSchema for Text<MAX> {
    fn name() -> Cow<'static, str> {
        format!("Text{MAX}").into()
    }
}

impl PartialSchema for AgentId {
    fn schema() -> RefOr<Schema> {
        text()
            .title(Some("agent id"))
            .pattern(Some("^agent-[0-9a-f]{16}$"))
            .description(Some("The name of an agent: `agent-` and 16 lowercase hexadecimal digits"))
            .examples(["agent-00f3a1b2c3d4e5f6"])
            .into()
    }
}

impl ToSchema for AgentId {}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        text()
            .title(Some("time"))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A time of the server's clock, in UTC with milliseconds"))
            .examples(["2026-03-07T12:05:00.000Z"])
            .into()
    }
}

impl ToSchema for Timestamp {}

impl PartialSchema for PolicyVersion {
    fn schema() -> RefOr<Schema> {
        text()
            .title(Some("policy version"))
            .pattern(Some("^v[1-9][0-9]*$"))
            .description(Some("The version of a policy: `v` and a number that counts up across the fleet"))
            .examples(["v3"])
            .into()
    }
}

impl ToSchema for PolicyVersion {}

/// The identity of a machine, in the document.
pub(super) struct MachineIdText;

impl PartialSchema for MachineIdText {
    fn schema() -> RefOr<Schema> {
        let control = r"[\u0000-\u001f\u007f-\u009f]*";
        text()
            .max_length(Some(MACHINE_ID_MAX_CHARS))
            .pattern(Some(format!("^{control}{}{control}$", NO_CONTROL_CHARACTERS.trim_matches(['^', '$']))))
            .description(Some("The identity of a machine, as its firmware or its system tells it"))
            .into()
    }
}

impl ToSchema for MachineIdText {
    fn name() -> Cow<'static, str> {
        "MachineId".into()
    }
}

/// A count or a duration, in the document.
pub(super) struct Count;

impl PartialSchema for Count {
    fn schema() -> RefOr<Schema> {
        number_to(NUMBER_MAX).description(Some("A count or a duration")).into()
    }
}

impl ToSchema for Count {}

/// A percentage, in the document.
pub(super) struct Percent;

impl PartialSchema for Percent {
    fn schema() -> RefOr<Schema> {
        number_to(PERCENT_MAX).description(Some("A percentage")).into()
    }
}

impl ToSchema for Percent {}

/// From 0 to `most`, which is whole.
fn number_to(most: f64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(most as u64))
}

/// A time that a client gives, in the document.
#[derive(Debug)]
pub struct Moment;

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        text()
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A time with its offset from UTC"))
            .examples(["2026-03-07T13:05:00+01:00"])
            .into()
    }
}

impl ToSchema for Moment {}

/// An IPv4 or IPv6 address, in the document.
#[derive(Debug)]
pub struct IpAddress;

impl PartialSchema for IpAddress {
    fn schema() -> RefOr<Schema> {
        let of = |format| text().format(Some(SchemaFormat::KnownFormat(format)));
        AnyOfBuilder::new()
            .item(of(KnownFormat::Ipv4))
            .item(of(KnownFormat::Ipv6))
            .description(Some("An IPv4 or IPv6 address"))
            .into()
    }
}

impl ToSchema for IpAddress {}
