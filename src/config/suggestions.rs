//! What was probably meant by an unrecognised name.

use super::{key::Key, keys::KEYS};
use crate::limits::{CONFIG_COMPARED_MAX_CHARS, CONFIG_NAME_MAX_CHARS};

/// What was probably meant by a key that does not exist.
pub(super) fn remedy(name: &str) -> String {
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

/// Letters to insert, remove, replace, or swap with their neighbour, to turn one name into the other.
pub(super) fn distance(a: &str, b: &str) -> usize {
    // What is much longer than any name of ours is close to none, and need not be compared to its end.
    let end = a.char_indices().nth(CONFIG_COMPARED_MAX_CHARS).map_or(a.len(), |(at, _)| at);
    strsim::osa_distance(&a[..end], b)
}

/// A name that somebody wrote, on one line and not too long.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(CONFIG_NAME_MAX_CHARS).flat_map(char::escape_debug).collect()
}
