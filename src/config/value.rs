//! One value that somebody gave, and how to make of it what its key needs.
//!
//! The file has types and is held to them; the environment and flags have only text.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr};

use ipnet::IpNet;
use toml::de::DeValue;

use super::{
    errors::{ConfigError, Origin},
    key::Key,
};
use crate::{fleet::network, limits::CONFIG_VALUE_MAX_CHARS};

/// One given value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// From the environment or a flag: could be of any type.
    Plain(String),
    /// A string in the file.
    String(String),
    /// An integer in the file: as written, and as a number if it is one that a setting could have.
    Integer(String, Option<u64>),
    /// A boolean in the file.
    Boolean(bool),
    /// An array in the file.
    List(Vec<Value>),
    /// Something in the file that no setting is.
    Other(&'static str),
}

/// Why a value cannot be what it was given for.
#[derive(Debug)]
pub(super) struct InvalidValue {
    /// The element of a list that is to blame.
    item: Option<Value>,
    /// What would be right, as a sentence: `it must be …`.
    rule: String,
}

impl InvalidValue {
    /// The whole value is wrong: it must be `right`.
    pub(super) fn must_be(right: impl Display) -> Self {
        Self { item: None, rule: format!("it must be {right}") }
    }

    /// The whole value breaks this rule, a sentence.
    pub(super) fn breaks(rule: String) -> Self {
        Self { item: None, rule }
    }

    /// The configuration error, for the operator.
    pub(super) fn into_error(self, key: &Key, value: &Value, origin: Origin) -> ConfigError {
        let said = match &self.item {
            _ if key.secret => "cannot be used (it is not shown)".into(),
            Some(item) => format!("has {}", item.echo()),
            None if key.may_hold_password => format!("is {}", value.echo_scheme()),
            None => format!("is {}", value.echo()),
        };
        ConfigError::Value { origin, key: key.name, said, rule: self.rule }
    }
}

impl Value {
    /// A value of the file.
    pub(super) fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::String(text.to_string()),
            DeValue::Integer(integer) => {
                Self::Integer(integer.to_string(), u64::from_str_radix(integer.as_str(), integer.radix()).ok())
            }
            DeValue::Boolean(boolean) => Self::Boolean(*boolean),
            DeValue::Array(array) => Self::List(array.iter().map(|item| Self::from_toml(item.get_ref())).collect()),
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Datetime(_) => Self::Other("a date or time"),
            DeValue::Table(_) => Self::Other("a section"),
        }
    }

    /// A string.
    pub(super) fn text(&self, right: impl Display) -> Result<&str, InvalidValue> {
        match self {
            Self::Plain(text) | Self::String(text) => Ok(text),
            Self::Integer(..) | Self::Boolean(_) | Self::List(_) | Self::Other(_) => Err(InvalidValue::must_be(right)),
        }
    }

    /// A string that `T` can be made of.
    pub(super) fn parsed<T: FromStr>(&self, right: impl Display) -> Result<T, InvalidValue> {
        self.text(&right)?.parse().map_err(|_| InvalidValue::must_be(right))
    }

    /// A whole number of `unit` within the bounds.
    pub(super) fn number<T: TryFrom<u64>>(&self, unit: &str, bounds: RangeInclusive<u64>) -> Result<T, InvalidValue> {
        let number = match self {
            Self::Plain(text) => text.trim().parse().ok(),
            Self::Integer(_, number) => *number,
            Self::String(_) | Self::Boolean(_) | Self::List(_) | Self::Other(_) => None,
        };
        let number = number.filter(|number| bounds.contains(number)).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| InvalidValue::must_be(format_args!("{unit} from {} to {}", bounds.start(), bounds.end())))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, InvalidValue> {
        match self {
            Self::Boolean(boolean) => Ok(*boolean),
            Self::Plain(text) if text == "true" => Ok(true),
            Self::Plain(text) if text == "false" => Ok(false),
            Self::Plain(_) | Self::String(_) | Self::Integer(..) | Self::List(_) | Self::Other(_) => {
                Err(InvalidValue::must_be("true or false"))
            }
        }
    }

    /// A path; it need not exist.
    pub(super) fn path(&self) -> Result<PathBuf, InvalidValue> {
        let right = "the path of a file or folder";
        match self.text(right)? {
            "" => Err(InvalidValue::must_be(right)),
            path => Ok(path.into()),
        }
    }

    /// A list of strings, in text separated by commas. Each item is made by `item`; an item it refuses must be `right`.
    pub(super) fn list<T>(&self, right: &str, item: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, InvalidValue> {
        let refuse = |value: &Value| InvalidValue { item: Some(value.clone()), rule: format!("each must be {right}") };
        match self {
            Self::Plain(text) => {
                let items = text.split(',').map(str::trim).filter(|text| !text.is_empty());
                items.map(|text| item(text).ok_or_else(|| refuse(&Self::Plain(text.into())))).collect()
            }
            Self::List(items) => items
                .iter()
                .map(|value| match value {
                    Self::String(text) => item(text).ok_or_else(|| refuse(value)),
                    Self::Plain(_) | Self::Integer(..) | Self::Boolean(_) | Self::List(_) | Self::Other(_) => {
                        Err(refuse(value))
                    }
                })
                .collect(),
            Self::String(_) | Self::Integer(..) | Self::Boolean(_) | Self::Other(_) => {
                Err(InvalidValue::must_be(format_args!("a list of strings, each {right}")))
            }
        }
    }

    /// A list of networks; an address alone is a network of one.
    pub(super) fn networks(&self) -> Result<Vec<IpNet>, InvalidValue> {
        self.list("an IP address or a network such as 10.0.0.0/8 or fd00::/8", network)
    }

    /// The value as an error repeats it: on one line, not too long, and without what stands before an `@`, which in a
    /// URL may be a password.
    fn echo(&self) -> String {
        match self {
            Self::Plain(text) | Self::String(text) => match text.rsplit_once('@') {
                Some((_, host)) => format!("{:?}", format!("[redacted]@{}", shortened(host))),
                None => format!("{:?}", shortened(text)),
            },
            Self::Integer(text, _) => shortened(text),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::List(_) => "an array".into(),
            Self::Other(what) => (*what).into(),
        }
    }

    /// The value as far as it may be shown when a password may stand anywhere in it.
    fn echo_scheme(&self) -> String {
        match self {
            Self::Plain(text) | Self::String(text) => match text.split_once(':') {
                Some((scheme, _)) if is_scheme(scheme) => format!("\"{}:…\"", shortened(scheme)),
                Some(_) | None => "a string without a known beginning".into(),
            },
            Self::Integer(..) => "a number".into(),
            Self::Boolean(_) | Self::List(_) | Self::Other(_) => self.echo(),
        }
    }
}

/// Whether it looks like the beginning of a URL. Digits are left out: passwords have them, our schemes have not.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphabetic() || b"+-".contains(&byte))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(CONFIG_VALUE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
