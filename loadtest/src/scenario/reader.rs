//! The settings of a scenario as somebody gave them, and how they become what the run needs.
//!
//! All mistakes are told at once, each with its file and line (or `--set`), its key, and what would be right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// In a file, in this line.
    File(String, usize),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file, line) => write!(f, "{file}:{line}"),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// What somebody seems to have meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// On the command line: could be of any type.
    Plain,
    Text,
    Number,
    Boolean,
    /// Texts in brackets.
    Texts,
    /// Something that no setting is.
    Other,
}

/// One value as it was given.
#[derive(Debug)]
struct Value {
    kind: Kind,
    text: String,
    texts: Vec<String>,
}

impl Value {
    fn plain(text: &str) -> Self {
        Self { kind: Kind::Plain, text: text.to_owned(), texts: text.split(',').map(str::to_owned).collect() }
    }

    fn of(value: &DeValue<'_>) -> Self {
        let (kind, text) = match value {
            DeValue::String(text) => (Kind::Text, text.to_string()),
            DeValue::Integer(number) => (Kind::Number, number.to_string().replace('_', "")),
            DeValue::Float(number) => (Kind::Number, number.to_string().replace('_', "")),
            DeValue::Boolean(boolean) => (Kind::Boolean, boolean.to_string()),
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                if let Some(texts) = texts.collect::<Option<Vec<_>>>() {
                    return Self { kind: Kind::Texts, text: format!("{texts:?}"), texts };
                }
                (Kind::Other, "a list of other things than texts".to_owned())
            }
            DeValue::Datetime(_) => (Kind::Other, "a date or time".to_owned()),
            DeValue::Table(_) => (Kind::Other, "a section".to_owned()),
        };
        Self { kind, text, texts: Vec::new() }
    }

    /// As text, if it can be of this kind.
    fn read(&self, kind: Kind) -> Option<&str> {
        [Kind::Plain, kind].contains(&self.kind).then_some(&self.text)
    }

    fn texts(&self) -> Option<Vec<String>> {
        self.read(Kind::Texts).map(|_| self.texts.clone())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Text { write!(f, "{:?}", self.text) } else { f.write_str(&self.text) }
    }
}

/// The settings that were given, until each is taken.
#[derive(Debug)]
pub(super) struct Reader {
    given: BTreeMap<String, (Origin, Value)>,
    sections: BTreeSet<String>,
    /// Keys that were asked for.
    known: Vec<String>,
    /// What holds, as people write it.
    effective: Vec<(String, String)>,
    errors: Vec<(Option<Origin>, String)>,
}

impl Reader {
    /// Reads a file's text and, over it, `key=value` of the command line.
    pub(super) fn read(file: &Path, text: &str, sets: &[String]) -> Self {
        let mut reader = Self {
            given: BTreeMap::new(),
            sections: BTreeSet::new(),
            known: Vec::new(),
            effective: Vec::new(),
            errors: Vec::new(),
        };
        let file = file.display().to_string();
        let origin = |at: usize| Origin::File(file.clone(), 1 + text[..at].matches('\n').count());
        match DeTable::parse(text) {
            Ok(table) => reader.add(table.get_ref(), "", &origin),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start.min(text.len()));
                reader.errors.push((Some(origin(at)), error.message().to_owned()));
            }
        }
        for set in sets {
            match set.split_once('=') {
                Some((key, value)) if key.contains('.') => {
                    let (key, value) = (key.trim(), value.trim());
                    reader.sections.extend(key.split_once('.').map(|(section, _)| section.to_owned()));
                    reader.given.insert(key.to_owned(), (Origin::Flag, Value::plain(value)));
                }
                _ => {
                    let message = format!("`{set}` must be section.key=value, as in --set fleet.agents=1000");
                    reader.errors.push((Some(Origin::Flag), message));
                }
            }
        }
        reader
    }

    fn add(&mut self, table: &DeTable<'_>, section: &str, origin: &impl Fn(usize) -> Origin) {
        for (key, value) in table {
            match value.get_ref() {
                DeValue::Table(inner) if section.is_empty() => {
                    self.sections.insert(key.get_ref().to_string());
                    self.add(inner, key.get_ref(), origin);
                }
                value => {
                    let name =
                        if section.is_empty() { key.to_string() } else { format!("{section}.{}", key.get_ref()) };
                    self.given.insert(name, (origin(key.span().start), Value::of(value)));
                }
            }
        }
    }

    /// Whether there is such a section, or a setting of it.
    pub(super) fn has_section(&self, section: &str) -> bool {
        self.sections.contains(section)
    }

    pub(super) fn whole(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let rule = format!("a whole number from {} to {}", range.start(), range.end());
        self.take(key, Some((default, default.to_string())), &rule, |value| whole(value, &range)).unwrap_or(default)
    }

    pub(super) fn whole_if(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let rule = format!("a whole number from {} to {}", range.start(), range.end());
        self.take(key, None, &rule, |value| whole(value, &range))
    }

    pub(super) fn number(&mut self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let rule = if range.end().is_finite() {
            format!("a number from {} to {}", range.start(), range.end())
        } else {
            format!("a number, at least {}", range.start())
        };
        let read =
            |value: &Value| value.read(Kind::Number)?.parse::<f64>().ok().filter(|number| range.contains(number));
        self.take(key, None, &rule, read)
    }

    pub(super) fn number_or(&mut self, key: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let given = self.number(key, range);
        if given.is_none() {
            self.effective.push((key.to_owned(), default.to_string()));
        }
        given.unwrap_or(default)
    }

    /// A time such as `"10s"`, if it is given.
    pub(super) fn duration_if(&mut self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.take(key, None, &duration_rule(&range), |value| duration(value, &range))
    }

    pub(super) fn duration(&mut self, key: &str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        let shown = humantime::format_duration(default).to_string();
        let rule = duration_rule(&range);
        self.take(key, Some((default, shown)), &rule, |value| duration(value, &range)).unwrap_or(default)
    }

    pub(super) fn boolean(&mut self, key: &str, default: bool) -> bool {
        let read = |value: &Value| value.read(Kind::Boolean)?.parse().ok();
        self.take(key, Some((default, default.to_string())), "true or false", read).unwrap_or(default)
    }

    /// One of some words; the first is the default.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&'static str, T)]) -> T {
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        let read = |value: &Value| {
            let text = value.read(Kind::Text)?;
            choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
        };
        let (word, default) = choices[0];
        self.take(key, Some((default, word.to_owned())), &words.join(" or "), read).unwrap_or(default)
    }

    /// Some of these words, at least one.
    pub(super) fn choices<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&'static str, T)],
        default: &[&'static str],
    ) -> Vec<T> {
        let choose = |word: &str| choices.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice);
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let rule = format!("a list of one or more of {words:?}");
        let read = |value: &Value| {
            let chosen: Vec<T> = value.texts()?.iter().map(|word| choose(word)).collect::<Option<_>>()?;
            Some(chosen).filter(|chosen| !chosen.is_empty())
        };
        let standard: Vec<T> = default.iter().filter_map(|word| choose(word)).collect();
        self.take(key, Some((standard, format!("{default:?}"))), &rule, read).unwrap_or_default()
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.take(key, None, "a text in quotes", |value| value.read(Kind::Text).map(str::to_owned))
    }

    /// A list of texts; empty if it is not given.
    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        self.take(key, None, "a list of texts, such as [\"--store=memory:\"]", Value::texts).unwrap_or_default()
    }

    fn take<T>(
        &mut self,
        key: &str,
        default: Option<(T, String)>,
        rule: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key.to_owned());
        match self.given.get(key) {
            None => {
                let (value, shown) = default?;
                self.effective.push((key.to_owned(), shown));
                Some(value)
            }
            Some((origin, value)) => {
                let taken = read(value);
                match taken {
                    Some(_) => self.effective.push((key.to_owned(), value.to_string())),
                    None => {
                        let message = format!("{key} is {value}: it must be {rule}");
                        self.errors.push((Some(origin.clone()), message));
                    }
                }
                taken
            }
        }
    }

    /// As [`Reader::has_section`]; one that is not there is left out of what holds.
    pub(super) fn chosen(&mut self, section: &str) -> bool {
        let chosen = self.has_section(section);
        if !chosen {
            self.effective.retain(|(key, _)| key.split_once('.').is_none_or(|(of, _)| of != section));
        }
        chosen
    }

    /// Notes a mistake in how settings go together; `key` is the one to be told of.
    pub(super) fn object(&mut self, key: &str, message: String) {
        let origin = self.given.get(key).map(|(origin, _)| origin.clone());
        self.errors.push((origin, message));
    }

    /// What holds: keys and values. Fails with all mistakes, keys that nobody asked for among them.
    pub(super) fn finish(mut self) -> Result<Vec<(String, String)>, String> {
        for (key, (origin, _)) in &self.given {
            if !self.known.contains(key) {
                self.errors.push((Some(origin.clone()), format!("unknown key {key}: {}", self.remedy(key))));
            }
        }
        for section in &self.sections {
            let prefix = format!("{section}.");
            let filled = self.given.keys().any(|key| key.starts_with(&prefix));
            if !filled && !self.known.iter().any(|key| key.starts_with(&prefix)) {
                self.errors.push((None, format!("unknown section [{section}]: {}", self.sections_known())));
            }
        }
        if self.errors.is_empty() {
            return Ok(self.effective);
        }
        self.errors.sort();
        let lines: Vec<String> = self
            .errors
            .into_iter()
            .map(|(origin, message)| origin.map_or(message.clone(), |origin| format!("{origin}: {message}")))
            .collect();
        Err(lines.join("\n"))
    }

    fn remedy(&self, key: &str) -> String {
        let Some((section, _)) = key.split_once('.') else {
            return format!("{}, or description above them", self.sections_known());
        };
        let prefix = format!("{section}.");
        let siblings: Vec<&str> = self.known.iter().filter_map(|known| known.strip_prefix(&prefix)).collect();
        if siblings.is_empty() { self.sections_known() } else { format!("[{section}] takes {}", siblings.join(", ")) }
    }

    fn sections_known(&self) -> String {
        let sections: BTreeSet<&str> = self.known.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
        let sections: Vec<String> = sections.into_iter().map(|section| format!("[{section}]")).collect();
        format!("the sections are {}", sections.join(", "))
    }
}

fn whole(value: &Value, range: &RangeInclusive<u64>) -> Option<u64> {
    value.read(Kind::Number)?.parse().ok().filter(|number| range.contains(number))
}

fn duration(value: &Value, range: &RangeInclusive<Duration>) -> Option<Duration> {
    humantime::parse_duration(value.read(Kind::Text)?).ok().filter(|duration| range.contains(duration))
}

fn duration_rule(range: &RangeInclusive<Duration>) -> String {
    format!(
        "a time in quotes such as \"10s\" or \"250ms\", from {} to {}",
        humantime::format_duration(*range.start()),
        humantime::format_duration(*range.end())
    )
}
