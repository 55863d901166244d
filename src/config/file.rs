//! The configuration file as a layer of settings.
//!
//! Nothing is read into a type here: that is the keys' business. A section or a key that does not exist is refused, with the
//! name that was probably meant.

use std::{path::Path, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::{
    errors::{ConfigError, Origin},
    key::Key,
    keys::KEYS,
    setting::Setting,
    suggestions::{distance, nearest, remedy, shown, tolerance},
    value::Value,
};
use crate::{limits::CONFIG_SYNTAX_ERRORS_MAX, process::named_file::without_byte_order_mark};

/// What a file sets.
#[derive(Debug)]
pub(super) struct FileLayer {
    pub(super) settings: Vec<Setting>,
    pub(super) errors: Vec<ConfigError>,
    /// Whether the whole file could be read.
    pub(super) complete: bool,
}

impl FileLayer {
    /// Reads the file at this path.
    pub(super) fn read(path: &Path) -> Self {
        let mut layer = Self::none();
        layer.add_file(path);
        layer
    }

    /// What no file sets.
    pub(super) fn none() -> Self {
        Self { settings: Vec::new(), errors: Vec::new(), complete: true }
    }

    fn add_file(&mut self, path: &Path) {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.complete = false;
                return self.errors.push(ConfigError::Unreadable { path: path.into(), cause: error.to_string() });
            }
        };
        let bytes = without_byte_order_mark(&bytes);
        let path: Arc<Path> = path.into();
        let line = |offset: usize| {
            let before = bytes.iter().take(offset);
            Origin::File(path.clone(), 1 + before.filter(|byte| **byte == b'\n').count())
        };
        let text = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                self.complete = false;
                let (origin, message) = (line(error.valid_up_to()), "these bytes are not UTF-8".into());
                return self.errors.push(ConfigError::Syntax { origin, message });
            }
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return self.add_table(table.get_ref(), line);
        }
        self.complete = false;
        let errors = errors.iter().map(|error| (error.span().map_or(0, |span| span.start), error.message()));
        let mut errors: Vec<_> = errors.map(|(at, message)| (line(at), at, message)).collect();
        errors.sort_by_key(|(_, at, _)| *at);
        // What follows in the same line is mostly a consequence.
        errors.dedup_by(|(later, ..), (earlier, ..)| later == earlier);
        for (origin, at, message) in errors.into_iter().take(CONFIG_SYNTAX_ERRORS_MAX) {
            let hint = if lacks_quotes(text, at) { "; text stands in quotes" } else { "" };
            let message = format!("{}{hint}", message.escape_debug());
            self.errors.push(ConfigError::Syntax { origin, message });
        }
    }

    fn add_table(&mut self, table: &DeTable<'_>, line: impl Fn(usize) -> Origin) {
        // The parser gives names in alphabetical order; errors are reported in the order of the file.
        let mut found = Vec::new();
        for (section, value) in table {
            let (at, section) = (section.span().start, section.get_ref().as_ref());
            match value.get_ref() {
                _ if !sections().any(|known| known == section) => {
                    found.push((at, Err(unknown_section(section, value.get_ref()))))
                }
                DeValue::Table(fields) => {
                    for (field, value) in fields {
                        let name = format!("{section}.{}", field.get_ref());
                        let key =
                            Key::find(&name).ok_or_else(|| (format!("unknown key {}", shown(&name)), remedy(&name)));
                        found.push((field.span().start, key.map(|key| (key, Value::from_toml(value.get_ref())))));
                    }
                }
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_) => {
                    let unknown = format!("{section} is not a setting but a section");
                    found.push((at, Err((unknown, format!("write [{section}], and its settings below")))));
                }
            }
        }
        found.sort_by_key(|(at, _)| *at);
        for (at, entry) in found {
            let origin = line(at);
            match entry {
                Ok((key, value)) => self.settings.push(Setting { key, part: false, value, origin }),
                Err((unknown, remedy)) => {
                    self.errors.push(ConfigError::Unknown { unknown: format!("{origin}: {unknown}"), remedy });
                }
            }
        }
    }
}

fn unknown_section(name: &str, value: &DeValue<'_>) -> (String, String) {
    let closest = sections().map(|known| (distance(name, known), known)).min();
    let remedy = match (nearest(name), closest) {
        (_, Some((distance, section))) if distance <= tolerance(name) => format!("did you mean [{section}]?"),
        (Some(key), _) => format!("did you mean {}?", key.name),
        (None, _) => format!("the sections are {}", sections().collect::<Vec<_>>().join(", ")),
    };
    let what = if value.is_table() { "section" } else { "key" };
    (format!("unknown {what} {}", shown(name)), remedy)
}

fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().map(Key::section).filter(move |section| std::mem::replace(&mut last, section) != *section)
}

/// Whether the value in the line at this byte looks like text without quotes, which the parser takes for a number.
fn lacks_quotes(text: &str, at: usize) -> bool {
    let before = text.as_bytes()[..at.min(text.len())].iter().rposition(|byte| *byte == b'\n');
    let line = text[before.map_or(0, |end| end + 1)..].lines().next().unwrap_or_default();
    line.split_once('=').is_some_and(|(_, value)| value.trim_start().starts_with(|c: char| c.is_ascii_alphanumeric()))
}
