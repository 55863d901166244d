//! One setting as somebody gave it: not read into a type yet.

use super::{errors::Origin, key::Key, value::Value};

/// A value for a key, and who gave it.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) key: &'static Key,
    /// Only part of the key's value: the rest stays what it was.
    pub(super) part: bool,
    pub(super) value: Value,
    pub(super) origin: Origin,
}
