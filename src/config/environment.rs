//! The environment as a layer of settings, and what to make of variables that are no settings, or empty ones.

use std::collections::BTreeMap;

use super::{
    Config,
    errors::{ConfigError, Origin},
    key::Key,
    keys::KEYS,
    rules::Sources,
    setting::Setting,
    suggestions::{distance, nearest, shown, tolerance},
    value::Value,
};

/// What the names of our variables begin with.
const PREFIX: &str = "GUARDBEAT_";

/// What the environment sets.
#[derive(Debug)]
pub(super) struct EnvironmentLayer {
    /// The variable of a key holds over its alias.
    pub(super) settings: Vec<Setting>,
    pub(super) errors: Vec<ConfigError>,
    /// Variables that are probably mistakes.
    pub(super) warnings: Vec<String>,
    /// Variables of keys that were set to nothing.
    pub(super) empty: Vec<(&'static Key, String)>,
}

impl EnvironmentLayer {
    /// Takes from these variables those that are ours.
    pub(super) fn read(env: impl Iterator<Item = (String, String)>) -> Self {
        let mut layer = Self { settings: Vec::new(), errors: Vec::new(), warnings: Vec::new(), empty: Vec::new() };
        let is_ours = |name: &str| name.starts_with(PREFIX) || KEYS.iter().any(|key| key.alias == Some(name));
        let is_link = |(name, value): &(String, String)| is_ours(name) && is_service_link(name, value);
        let (links, mut env): (BTreeMap<_, _>, BTreeMap<_, _>) = env.partition(is_link);
        let links: Vec<_> = links.into_keys().collect();
        if !links.is_empty() {
            layer.warnings.push(passed_over(&links));
        }
        for key in KEYS {
            let alias = key.alias.map(|alias| (alias.to_owned(), key.set_part.is_some()));
            for (name, part) in alias.into_iter().chain([(key.variable(), false)]) {
                let Some(text) = env.remove(&name) else { continue };
                if text.is_empty() {
                    layer.empty.push((key, name));
                } else {
                    let origin = Origin::Variable(name);
                    layer.settings.push(Setting { key, part, value: Value::Plain(text), origin });
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
                layer.errors.push(ConfigError::Unknown { unknown, remedy });
            } else if let Some(variable) = meant(&name) {
                layer
                    .warnings
                    .push(format!("environment variable {} sets nothing; did you mean {variable}?", shown(&name)));
            }
        }
        layer
    }
}

/// That this variable of a setting was set to nothing, and what holds instead.
pub(super) fn empty(key: &Key, variable: &str, config: &Config, sources: &Sources) -> String {
    let source = sources.get(key.name).map_or("default", String::as_str);
    let holds = match (key.show)(config) {
        Some(_) if key.secret => format!("is set ({source})"),
        Some(value) => format!("is {value} ({source})"),
        None => format!("is not set ({})", key.default),
    };
    format!("environment variable {variable} is empty and counts as not set; {} {holds}", key.name)
}

/// The setting that an unrecognised variable was probably meant for, if its name is close to one.
fn meant(name: &str) -> Option<String> {
    // One underscore for two is the most frequent mistake, small letters the next.
    let plain = |name: &str| name.to_uppercase().replace("__", "_");
    let written = plain(name);
    let rest = |name: &str| name.split_once('_').map_or(0, |(_, rest)| rest.len());
    let variables = KEYS.iter().flat_map(Key::variables);
    let near = variables.filter(|variable| variable.len().abs_diff(written.len()) <= 4).filter_map(|variable| {
        let distance = distance(&written, &plain(&variable));
        (distance <= tolerance(&"x".repeat(rest(&written)))).then_some((distance, variable))
    });
    let whole = near.min().map(|(_, variable)| variable);
    whole.or_else(|| {
        let field = written.strip_prefix(PREFIX)?;
        nearest(&field.to_lowercase()).map(Key::variable)
    })
}

/// Whether it is one of the variables that Kubernetes sets in every container for a service of the namespace:
/// `NAME_PORT=tcp://10.96.12.3:8443`, `NAME_PORT_8443_TCP_ADDR`, `NAME_SERVICE_HOST` …
fn is_service_link(name: &str, value: &str) -> bool {
    let protocols = ["tcp", "udp", "sctp"];
    let is_address = protocols.iter().any(|protocol| value.starts_with(&format!("{protocol}://")));
    let of_port = name.split("_PORT_").skip(1).any(|rest| {
        let mut words = rest.split('_');
        let number = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
        number && words.next().is_some_and(|word| protocols.contains(&&*word.to_lowercase()))
    });
    let of_service =
        name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_");
    of_service || of_port || is_address && name.ends_with("_PORT")
}

/// The warning about such variables.
fn passed_over(links: &[String]) -> String {
    let (are, they) = if links.len() == 1 { ("is a link", "it is") } else { ("are links", "they are") };
    format!(
        "{} {are} that Kubernetes sets for a service of that name, and no setting; {they} passed over \
         (enableServiceLinks: false in the pod's spec keeps such variables away)",
        links.join(", ")
    )
}
