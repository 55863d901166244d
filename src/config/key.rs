//! One setting: its names, its default, how it is read and shown.

use std::fmt;

use super::{
    Config, KEYS,
    rules::Draft,
    value::{InvalidValue, Value},
};

/// Puts a value into the draft, if it is one the key can have.
pub(super) type Set = fn(&mut Draft, &Value) -> Result<(), InvalidValue>;

/// One setting: `section.field` in the file.
#[derive(Debug)]
pub struct Key {
    /// `section.field`.
    pub name: &'static str,
    /// The variable of the Panguard Manager that sets it too; [`Key::variable`] wins over it.
    pub alias: Option<&'static str>,
    pub default: KeyDefault,
    /// Whether its value must not be shown.
    pub secret: bool,
    /// Whether part of its value may be a password.
    pub(super) may_hold_password: bool,
    pub(super) set: Set,
    /// What the alias sets, if only part of the value.
    pub(super) set_part: Option<Set>,
    /// The value as TOML; none if it has none.
    pub(super) show: fn(&Config) -> Option<String>,
}

/// What holds when a key is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyDefault {
    /// This, written as in the file.
    Value(&'static str),
    /// Something that depends, in words.
    Derived(&'static str),
}

impl fmt::Display for KeyDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(text) | Self::Derived(text) => f.write_str(text),
        }
    }
}

impl Key {
    pub(super) const fn new(
        name: &'static str,
        default: KeyDefault,
        set: Set,
        show: fn(&Config) -> Option<String>,
    ) -> Self {
        Self { name, alias: None, default, secret: false, may_hold_password: false, set, set_part: None, show }
    }

    pub(super) const fn alias(mut self, name: &'static str) -> Self {
        self.alias = Some(name);
        self
    }

    pub(super) const fn alias_for_part(mut self, name: &'static str, set: Set) -> Self {
        self.alias = Some(name);
        self.set_part = Some(set);
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    pub(super) const fn may_hold_password(mut self) -> Self {
        self.may_hold_password = true;
        self
    }

    /// The environment variable that sets it: `GUARDBEAT_SECTION__FIELD`.
    pub fn variable(&self) -> String {
        format!("GUARDBEAT_{}", self.name.replace('.', "__").to_uppercase())
    }

    /// Every environment variable that sets it.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.variable()).chain(self.alias.map(String::from))
    }

    /// The section of the file it stands in.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    pub fn field(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, field)| field)
    }

    pub(super) fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }
}
