//! Values as requests and answers have them. Each type that a request has says what it must be, both for the API's document
//! and for the error that names the field: `limit must be a whole number from 1 to 200`.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::{DateTime, Datelike};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::{json, value::RawValue};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::readable::is_readable;
use crate::{
    fleet::{
        Address, AgentId, Figure, MachineId, PolicyVersion, Status, Tag, Text, Timestamp, Unfit, UnfitMachineId,
        machine_id,
    },
    limits::{EVENT_DETAILS_MAX_BYTES, EVENT_TYPE_MAX_CHARS, MACHINE_ID_MAX_CHARS, NUMBER_MAX, PERCENT_MAX, TAGS_MAX},
    policy::PolicyId,
    threats::{Period, Severity, ThreatId},
};

/// What a value must be, as the error of reading another one.
pub(super) fn must_be<E: Error>(rule: impl fmt::Display) -> E {
    E::custom(format_args!("must be {rule}"))
}

/// Reads a value that is written as text.
pub(super) fn from_text<'de, T: FromStr, D: Deserializer<'de>>(
    from: D,
    rule: impl fmt::Display,
) -> Result<T, D::Error> {
    let text = Box::<str>::deserialize(from).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| must_be(rule))
}

/// `true` or `false`, or nothing.
pub(super) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    Option::deserialize(from).map_err(|_| must_be("true or false"))
}

/// How a type is read.
macro_rules! reads {
    ($type:ty, $([$($generic:tt)*])? |$from:ident| $read:expr) => {
        impl<'de $(, $($generic)*)?> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>($from: D) -> Result<Self, D::Error> {
                $read
            }
        }
    };
}
pub(super) use reads;

/// What the API's document says of a type, under the name of the type or another one.
macro_rules! schema {
    ($type:ty, $(where [$($generic:tt)*])? $name:expr, $schema:tt) => {
        impl $(<$($generic)*>)? PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                serde_json::from_value(json!($schema)).expect("it is a schema")
            }
        }

        impl $(<$($generic)*>)? ToSchema for $type {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    };
}
pub(super) use schema;

/// A type whose values have names.
macro_rules! named {
    ($type:ident, $about:literal, $rule:literal) => {
        schema!($type, stringify!($type), {
            "type": "string", "description": $about, "enum": $type::ALL.map($type::name)
        });
        reads!($type, |from| from_text(from, $rule));
    };
}

named!(Status, "Whether an agent is alive, judged by how long ago it last beat.", "online, stale or offline");
named!(Severity, "How bad a threat is, as its agent judged it.", "low, medium, high or critical");
named!(Period, "How far back a summary looks.", "1h, 6h, 24h, 7d or 30d");

/// A type whose values are a prefix and 16 digits.
macro_rules! id {
    ($type:ident, $article:literal, $what:literal, $prefix:literal, $example:literal) => {
        schema!($type, stringify!($type), {
            "type": "string",
            "title": concat!($what, " id"),
            "description": concat!("The name of ", $article, " ", $what, ": `", $prefix, "` and 16 lowercase hexadecimal digits"),
            "examples": [concat!($prefix, $example)],
            "pattern": concat!("^", $prefix, "[0-9a-f]{16}$")
        });
    };
}

id!(AgentId, "an", "agent", "agent-", "00f3a1b2c3d4e5f6");
id!(ThreatId, "a", "threat", "evt_", "19cc82fc5e000000");
id!(PolicyId, "a", "policy", "pol_", "5e0c1b2a39485766");
schema!(PolicyVersion, "PolicyVersion", {
    "type": "string",
    "title": "policy version",
    "description": "The version of a policy: `v` and a number that counts up across the fleet",
    "examples": ["v3"],
    "pattern": "^v[1-9][0-9]*$",
});
schema!(Timestamp, "Timestamp", {
    "type": "string",
    "title": "time",
    "format": "date-time",
    "description": "A time of the server's clock, in UTC with milliseconds",
    "examples": ["2026-03-07T12:05:00.000Z"],
});

schema!(Text<MAX>, where [const MAX: usize] format!("Text{MAX}"), {
    "type": "string",
    "description": format!("1 to {MAX} characters, none of them a control character"),
    "maxLength": MAX,
    "minLength": 1,
    // Everything but control characters: what `char::is_control` lets pass.
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
});

reads!(Text<MAX>, [const MAX: usize] |from| {
    let text = Box::<str>::deserialize(from).map_err(|_| must_be(Unfit::Length(MAX)))?;
    Self::new(text).map_err(must_be)
});

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self)
    }
}

/// A number from 0 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct UpTo<const MAX: u64>(f64);

pub(super) type Percent = UpTo<{ PERCENT_MAX as u64 }>;
/// A count or a duration.
pub(super) type Count = UpTo<{ NUMBER_MAX as u64 }>;

impl<const MAX: u64> UpTo<MAX> {
    /// What is known of a figure.
    pub(super) fn of(figure: Figure) -> Option<Self> {
        figure.get().map(Self)
    }

    pub(super) const fn get(self) -> f64 {
        self.0
    }
}

impl<const MAX: u64> From<Option<UpTo<MAX>>> for Figure {
    fn from(number: Option<UpTo<MAX>>) -> Self {
        number.map(|UpTo(number)| number).into()
    }
}

reads!(UpTo<MAX>, [const MAX: u64] |from| {
    match f64::deserialize(from) {
        // Adding zero turns -0 into 0, which is what will be shown.
        Ok(number) if (0.0..=MAX as f64).contains(&number) => Ok(Self(number + 0.0)),
        Ok(_) | Err(_) => Err(must_be(format_args!("a number from 0 to {MAX}"))),
    }
});

impl<const MAX: u64> Serialize for UpTo<MAX> {
    /// The way it was most likely sent: `5` rather than `5.0`.
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        // Exact: a whole number up to `limits::NUMBER_MAX`.
        if self.0.fract() == 0.0 { out.serialize_i64(self.0 as i64) } else { out.serialize_f64(self.0) }
    }
}

const fn is_percent(most: u64) -> bool {
    most == PERCENT_MAX as u64
}

schema!(UpTo<MAX>, where [const MAX: u64] if is_percent(MAX) { "Percent" } else { "Count" }, {
    "type": "number",
    "description": if is_percent(MAX) { "A percentage" } else { "A count or a duration" },
    "maximum": MAX,
    "minimum": 0,
});

/// A number from 0 to 1; in requests alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fraction(pub(super) f64);

reads!(Fraction, |from| {
    let number = f64::deserialize(from).ok().filter(|number| (0.0..=1.0).contains(number));
    number.map(|number| Self(number + 0.0)).ok_or_else(|| must_be("a number from 0 to 1"))
});

/// A time that a client gives, as it can be written again: of a year with four digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub(super) Timestamp);

schema!(Moment, "Moment", {
    "type": "string",
    "format": "date-time",
    "description": "A time with its offset from UTC",
    "examples": ["2026-03-07T13:05:00+01:00"],
});

impl FromStr for Moment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let moment = DateTime::parse_from_rfc3339(text).map_err(drop)?.to_utc();
        let is_writable = (0..=9_999).contains(&moment.year());
        is_writable.then(|| Self(Timestamp::from_millis(moment.timestamp_millis()))).ok_or(())
    }
}

reads!(Moment, |from| from_text(from, "a time such as 2026-03-07T12:05:00Z"));

/// The same in a query string. A plus sign stands for a space there, and few who write `+01:00` think of that; no time has a
/// space in that place.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryMoment(pub(super) i64);

reads!(QueryMoment, |from| {
    let mut text = String::deserialize(from)?;
    let sign = text.len().checked_sub("+01:00".len());
    if let Some(sign) = sign.filter(|sign| text.as_bytes()[*sign] == b' ') {
        text.replace_range(sign..=sign, "+");
    }
    let rule = "a time such as 2026-03-07T12:05:00Z or 2026-03-07T13:05:00%2B01:00 (%2B is a plus sign)";
    DateTime::parse_from_rfc3339(&text).map(|time| Self(time.timestamp_millis())).map_err(|_| must_be(rule))
});

/// What kind of threat an event is.
pub(super) type EventType = Text<EVENT_TYPE_MAX_CHARS>;

/// An object that is kept as it was sent.
#[derive(Debug)]
pub(super) struct Details(pub(super) Box<RawValue>);

impl Details {
    pub(super) const RULE: &str = "an object of at most 65536 bytes that can be read as JSON";

    pub(super) fn of(json: Box<RawValue>) -> Option<Self> {
        let text = json.get();
        let fits = text.starts_with('{') && text.len() <= EVENT_DETAILS_MAX_BYTES && is_readable(text);
        fits.then_some(Self(json))
    }
}

reads!(Details, |from| Details::of(Box::deserialize(from)?).ok_or_else(|| must_be(Details::RULE)));

/// An IPv4 or IPv6 address.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpAddress(pub(super) Address);

schema!(IpAddress, "IpAddress", {
    "anyOf": [{ "type": "string", "format": "ipv4" }, { "type": "string", "format": "ipv6" }],
    "description": "An IPv4 or IPv6 address",
});
reads!(IpAddress, |from| from_text(from, "an IPv4 or IPv6 address").map(Self));

/// The identity of a machine; none if it is one that machines have in common.
#[derive(Clone, Debug)]
pub(super) struct MachineIdText(pub(super) Option<MachineId>);

schema!(MachineIdText, "MachineId", {
    "type": "string",
    "description": "The identity of a machine, as its firmware or its system tells it",
    "maxLength": MACHINE_ID_MAX_CHARS,
    // Control characters at both ends are trimmed.
    "pattern": r"^[\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f]*[\u0000-\u001f\u007f-\u009f]*$",
});
reads!(MachineIdText, |from| {
    let text = Box::<str>::deserialize(from).map_err(|_| must_be(UnfitMachineId::TooLong))?;
    machine_id(&text).map(Self).map_err(must_be)
});

/// Tags without duplicates, in the order given.
#[derive(Clone, Debug, Default)]
pub(super) struct Tags(pub(super) Vec<Tag>);

reads!(Tags, |from| {
    // As a whole: an error names the field and not one of them.
    let json = Box::<RawValue>::deserialize(from)?;
    let tags: Vec<Box<str>> = serde_json::from_str(json.get())
        .map_err(|_| must_be(format_args!("an array of at most {TAGS_MAX} strings of 1 to 64 characters")))?;
    let mut unique: Vec<Tag> = Vec::new();
    for tag in tags {
        let tag = Tag::new(tag).map_err(|_| must_be("strings of 1 to 64 characters without control characters"))?;
        if unique.contains(&tag) {
            continue;
        }
        if unique.len() == TAGS_MAX {
            return Err(must_be(format_args!("an array of at most {TAGS_MAX} tags")));
        }
        unique.push(tag);
    }
    Ok(Self(unique))
});

/// How many a page has, 1 to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit<const MAX: usize>(pub(super) usize);

reads!(Limit<MAX>, [const MAX: usize] |from| {
    let rule = || must_be(format_args!("a whole number from 1 to {MAX}"));
    let limit: usize = from_text(from, "").map_err(|_: D::Error| rule())?;
    (1..=MAX).contains(&limit).then_some(Self(limit)).ok_or_else(rule)
});

/// Where a page begins: after the last one of the page before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<T>(pub(super) T);

reads!(Cursor<T>, [T: FromStr] |from| from_text(from, "a nextCursor of an earlier page").map(Self));

#[cfg(test)]
mod tests {
    use serde::de::{IntoDeserializer, value::Error as ValueError};

    use super::*;

    #[test]
    fn whole_numbers_are_shown_without_a_fraction() {
        let shown = |number| serde_json::to_string(&serde_json::from_str::<Percent>(number).unwrap()).unwrap();
        assert_eq!(["12.5", "50", "50.0", "-0.0"].map(shown), ["12.5", "50", "50", "0"]);
    }

    #[test]
    fn the_plus_sign_of_an_offset_may_be_written_as_it_is() {
        let read = |text: &str| {
            let from: serde::de::value::StrDeserializer<'_, ValueError> = text.into_deserializer();
            QueryMoment::deserialize(from).map(|QueryMoment(millis)| millis)
        };
        let right = read("2026-03-07T12:05:00Z");
        assert!(right.is_ok());
        for same in ["2026-03-07T13:05:00 01:00", "2026-03-07T13:05:00+01:00", "2026-03-07T11:05:00.000-01:00"] {
            assert_eq!(read(same), right, "{same}");
        }
        for wrong in
            ["", " ", "2026-03-07", "2026-03-07T13:05:00 0100", "é2026", "2026-03-07T13:05:00  01:00", "é01:00"]
        {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.starts_with("must be a time") && error.contains("%2B"), "{error}");
        }
    }
}
