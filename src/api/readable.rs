//! Whether every reader of JSON can read a text that is JSON by its grammar.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// The grammar has escapes that stand for no text (half a surrogate pair) and numbers that are none (`1e999`). One threat
/// with such a thing would spoil the whole page that shows it.
pub(super) fn is_readable(json: &str) -> bool {
    serde_json::from_str::<Anything>(json).is_ok()
}

/// Any JSON, decoded and dropped.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_json_is_detected_wherever_it_is() {
        for good in ["{}", r#"{"a":[1,-2,1e300,true,null,"\ud83d\ude00",123456789012345678901234567890]}"#] {
            assert!(is_readable(good), "{good}");
        }
        for bad in [r#"{"a":"\ud800"}"#, r#"{"\udc00":1}"#, r#"{"a":[{"b":1e999}]}"#] {
            assert!(serde_json::from_str::<&serde_json::value::RawValue>(bad).is_ok(), "by its grammar it is JSON");
            assert!(!is_readable(bad), "{bad}");
        }
    }
}
