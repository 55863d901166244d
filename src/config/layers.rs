//! The layers of settings: the file, the environment and the flags as one list, each setting with its origin.
//!
//! Later ones hold over earlier ones. Nothing is read into a type here: that is the keys' business. What has no key
//! is an error, with the name that was probably meant.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::{
    environment::{PREFIX, is_service_link, meant, passed_over},
    errors::{ConfigError, Origin},
    key::Key,
    keys::KEYS,
    value::Value,
};
use crate::{
    limits::{CONFIG_NAME_MAX_CHARS, CONFIG_SYNTAX_ERRORS_MAX},
    process::named_file::without_byte_order_mark,
};

/// One setting as somebody gave it.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) key: &'static Key,
    /// Only part of the key's value: the rest stays what it was.
    pub(super) part: bool,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// The settings of all layers.
#[derive(Debug)]
pub(super) struct Layers {
    /// In rising precedence.
    pub(super) settings: Vec<Setting>,
    pub(super) errors: Vec<ConfigError>,
    /// Warnings: settings that are probably mistakes.
    pub(super) warnings: Vec<String>,
    /// Variables of keys that were set to nothing.
    pub(super) empty: Vec<(&'static Key, String)>,
    /// Whether the whole file could be read.
    pub(super) complete: bool,
}

impl Layers {
    pub(super) fn gather(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[(&'static str, String, &'static str)],
    ) -> Self {
        let mut layers =
            Self { settings: Vec::new(), errors: Vec::new(), warnings: Vec::new(), empty: Vec::new(), complete: true };
        if let Some(path) = file {
            layers.add_file(path);
        }
        layers.add_environment(env);
        layers.add_flags(flags);
        layers
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

    fn add_environment(&mut self, env: impl Iterator<Item = (String, String)>) {
        let is_ours = |name: &str| name.starts_with(PREFIX) || KEYS.iter().any(|key| key.alias == Some(name));
        let is_link = |(name, value): &(String, String)| is_ours(name) && is_service_link(name, value);
        let (links, mut env): (BTreeMap<_, _>, BTreeMap<_, _>) = env.partition(is_link);
        let links: Vec<_> = links.into_keys().collect();
        if !links.is_empty() {
            self.warnings.push(passed_over(&links));
        }
        for key in KEYS {
            let alias = key.alias.map(|alias| (alias.to_owned(), key.set_part.is_some()));
            for (name, part) in alias.into_iter().chain([(key.variable(), false)]) {
                let Some(text) = env.remove(&name) else { continue };
                if text.is_empty() {
                    self.empty.push((key, name));
                } else {
                    let origin = Origin::Variable(name);
                    self.settings.push(Setting { key, part, value: Value::Plain(text), origin });
                }
            }
        }
        for (name, value) in env {
            let ours = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__"));
            if let Some((section, field)) = ours.filter(|_| !value.is_empty()) {
                let remedy = match nearest(&format!("{section}.{field}").to_lowercase()) {
                    Some(key) => format!("did you mean {}?", key.variable()),
                    None => format!("a setting's variable is {PREFIX}<SECTION>__<KEY>, and there is no such key"),
                };
                let unknown = format!("unknown environment variable {}", shown(&name));
                self.errors.push(ConfigError::Unknown { unknown, remedy });
            } else if let Some(variable) = meant(&name) {
                self.warnings
                    .push(format!("environment variable {} sets nothing; did you mean {variable}?", shown(&name)));
            }
        }
    }

    fn add_flags(&mut self, flags: &[(&'static str, String, &'static str)]) {
        for (name, text, flag) in flags {
            let origin = Origin::Flag(flag);
            match Key::find(name) {
                Some(key) => {
                    self.settings.push(Setting { key, part: false, value: Value::Plain(text.clone()), origin });
                }
                None => {
                    let unknown = format!("{origin}: unknown key {}", shown(name));
                    self.errors.push(ConfigError::Unknown { unknown, remedy: remedy(name) });
                }
            }
        }
    }
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

/// What was probably meant by a key that does not exist.
fn remedy(name: &str) -> String {
    if let Some(key) = nearest(name) {
        return format!("did you mean {}?", key.name);
    }
    let section = name.split('.').next().unwrap_or_default();
    let fields: Vec<_> = KEYS.iter().filter(|key| key.section() == section).map(Key::field).collect();
    format!("the keys of [{section}] are {}", fields.join(", "))
}

/// The key whose name is so close that it was probably meant, if there is one; the section may be wrong or missing.
pub(super) fn nearest(name: &str) -> Option<&'static Key> {
    let field = name.rsplit('.').next().unwrap_or(name);
    let whole = KEYS.iter().map(|key| (distance(name, key.name), key));
    let fields = KEYS.iter().map(|key| (distance(field, key.field()) + 1, key));
    let without_unit = KEYS.iter().map(|key| (distance(field, key.field().trim_end_matches("_ms")) + 1, key));
    let close = whole.chain(fields).chain(without_unit).min_by_key(|(distance, _)| *distance);
    close.filter(|(distance, _)| *distance <= tolerance(field)).map(|(_, key)| key)
}

/// Mistakes in a name that still leave no doubt what it was meant to be.
pub(super) fn tolerance(name: &str) -> usize {
    (name.len() / 3).clamp(1, 3)
}

/// Letters to insert, remove, replace, or swap with their neighbour, to turn one name into the other ("optimal string
/// alignment").
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A name that somebody wrote, on one line and not too long.
fn shown(name: &str) -> String {
    name.chars().take(CONFIG_NAME_MAX_CHARS).flat_map(char::escape_debug).collect()
}
