//! What a text must be to serve as a setting: a token, an origin, a name in a certificate, a log filter.

use std::net::{IpAddr, Ipv6Addr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    store_url::StoreUrl,
    token_text::cleaned,
    value::{InvalidValue, Value},
};
use crate::limits::KEY_PREFIX_CHARS;

/// One of a few words.
pub(super) fn choice<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, InvalidValue> {
    let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let right = all.join(" or ");
    let text = value.text(&right)?;
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| InvalidValue::must_be(right))
}

/// The administrator's token, by the rule that holds for one in a file too.
pub(super) fn token(value: &Value) -> Result<String, InvalidValue> {
    let token = cleaned(value.text("a string")?);
    token.map(str::to_owned).map_err(|fault| InvalidValue::breaks(fault.to_string()))
}

pub(super) fn store_url(value: &Value) -> Result<StoreUrl, InvalidValue> {
    value.text("a string such as `embedded:` or `redis://host:6379`")?.parse().map_err(InvalidValue::breaks)
}

/// A beginning for the names of keys. No braces: Redis Cluster would place all keys by what stands between them. No
/// characters with a meaning in the patterns of `redis-cli --scan` and of access rules.
pub(super) fn key_prefix(value: &Value) -> Result<String, InvalidValue> {
    let (least, most) = (KEY_PREFIX_CHARS.start(), KEY_PREFIX_CHARS.end());
    let right = format!("{least} to {most} letters (a-z, A-Z), digits, colons, dots, underscores and hyphens");
    let text = value.text(&right)?;
    let usable = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":._-".contains(&byte));
    if usable && KEY_PREFIX_CHARS.contains(&text.len()) { Ok(text.into()) } else { Err(InvalidValue::must_be(right)) }
}

/// An origin as browsers send it, so that comparing it is enough: lower case, without the scheme's own port.
pub(super) fn origin(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.into());
    }
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let mut letters = scheme.bytes();
    let scheme_is_one = letters.next()?.is_ascii_lowercase()
        && letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    // An IPv6 address stands in brackets and has colons of its own.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let host_is_one = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse::<u16>().ok()? {
            0 => return None,
            443 if scheme == "https" => None,
            80 if scheme == "http" => None,
            port => Some(port),
        },
        Some(_) => return None,
        None => None,
    };
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    (scheme_is_one && host_is_one).then(|| format!("{scheme}://{host}{port}"))
}

/// A name that a certificate can carry.
pub(crate) fn certificate_name(text: &str) -> Option<String> {
    let label_is_one = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let name = text.strip_prefix("*.").unwrap_or(text);
    // Digits and dots that are no address would be a mistyped one.
    let could_be_address = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_name = name.len() <= 253 && !could_be_address && name.split('.').all(label_is_one);
    (is_name || text.parse::<IpAddr>().is_ok()).then(|| text.into())
}

/// Directives of a filter. A word alone must be a level: the filter would take a mistyped one for the name of a module,
/// and show nothing else.
pub(super) fn log_level(value: &Value) -> Result<String, InvalidValue> {
    let right = "error, warn, info, debug, trace or off, or levels by module such as info,guardbeat::store=debug";
    let text = value.text(right)?;
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok() && !word.is_empty();
    let words_are_levels = text.split(',').all(|part| part.contains(['=', '[', ']']) || is_level(part.trim()));
    // The parser of tracing-subscriber 0.3.23 panics on some texts beyond ASCII (` A®=`).
    let usable = text.is_ascii() && words_are_levels && EnvFilter::builder().parse(text).is_ok();
    if usable { Ok(text.into()) } else { Err(InvalidValue::must_be(right)) }
}
