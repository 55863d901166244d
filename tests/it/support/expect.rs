//! What values look like.

use serde_json::{Value, json};

/// The names of an object's fields, sorted.
pub fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// `agent-` and 16 lowercase hexadecimal digits.
pub fn is_agent_id(text: &Value) -> bool {
    let digits = text.as_str().and_then(|text| text.strip_prefix("agent-"));
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|b| b"0123456789abcdef".contains(&b)))
}

/// RFC 3339 in UTC with milliseconds and `Z`.
pub fn is_time(text: &Value) -> bool {
    let shape = "0000-00-00T00:00:00.000Z";
    text.as_str().is_some_and(|text| {
        text.len() == shape.len()
            && text
                .bytes()
                .zip(shape.bytes())
                .all(|(b, like)| if like == b'0' { b.is_ascii_digit() } else { b == like })
    })
}

/// The value of one series in the text of `/metrics`.
pub fn metric(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// A field of a request: what it takes and what it refuses.
pub struct FieldRule {
    pub name: &'static str,
    pub good: Vec<Value>,
    pub bad: Vec<Value>,
}

impl FieldRule {
    /// A text of 1 to `max` characters.
    pub fn text(name: &'static str, max: usize) -> Self {
        Self {
            name,
            good: vec![json!("x"), json!("x".repeat(max)), json!("é".repeat(max))],
            bad: vec![
                json!(""),
                json!("x".repeat(max + 1)),
                json!("é".repeat(max + 1)),
                json!(5),
                json!(1.5),
                json!(true),
                json!(["x"]),
                json!({"x": "y"}),
            ],
        }
    }

    /// A number of at least 0, and at most 100 if it is a percentage.
    pub fn number(name: &'static str, is_percentage: bool) -> Self {
        let mut rule = Self {
            name,
            good: vec![json!(0), json!(0.5), json!(100), json!(99.9)],
            bad: vec![json!(-1), json!(-0.001), json!("5"), json!(true), json!([5]), json!({"x": 5}), json!("")],
        };
        if is_percentage {
            rule.bad.extend([json!(100.001), json!(101), json!(1e300)]);
        } else {
            rule.good.extend([json!(86_400), json!(31_536_000.25)]);
        }
        rule
    }
}
