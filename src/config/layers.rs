//! The layers of settings as one list: the file, over it the environment, over that the flags.

use std::path::Path;

use super::{
    environment::EnvironmentLayer,
    errors::{ConfigError, Origin},
    file::FileLayer,
    key::Key,
    setting::Setting,
    suggestions::{remedy, shown},
    value::Value,
};

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
    pub(super) fn collect(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[(&'static str, String, &'static str)],
    ) -> Self {
        let file = file.map_or_else(FileLayer::none, FileLayer::read);
        let environment = EnvironmentLayer::read(env);
        let mut layers = Self {
            settings: file.settings,
            errors: file.errors,
            warnings: environment.warnings,
            empty: environment.empty,
            complete: file.complete,
        };
        layers.settings.extend(environment.settings);
        layers.errors.extend(environment.errors);
        layers.add_flags(flags);
        layers
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
