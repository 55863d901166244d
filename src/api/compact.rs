//! JSON of others that is kept as it was written.

/// The same JSON without the whitespace between its tokens. It must be valid.
///
/// Nothing is taken apart: what a number or an escape means is for the reader, and a text that goes through
/// [`serde_json::Value`] may come out as another one.
pub fn compact_json(json: &str) -> Box<str> {
    let mut compact = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => continue,
            _ => {}
        }
        compact.push(byte);
    }
    String::from_utf8(compact).expect("only ASCII is left out of UTF-8").into()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// The tokens of a value, and text that may stand between them.
    fn tokens() -> impl Strategy<Value = Vec<String>> {
        let string = ".*".prop_map(|text| serde_json::to_string(&text).unwrap());
        let written = select(&[r#""\ud800""#, r#""a \" b""#, r#"" \\""#, "1e400", "-0.10", "1e2", "true", "null"][..]);
        let scalar = prop_oneof![string, written.prop_map(String::from)].prop_map(|token| vec![token]);
        scalar.prop_recursive(4, 32, 4, |inner| {
            let list = |open: &'static str, name: &'static [&'static str], close: &'static str| {
                move |items: Vec<Vec<String>>| {
                    let mut tokens = vec![open.to_owned()];
                    for (place, item) in items.into_iter().enumerate() {
                        tokens.extend((place > 0).then(|| ",".to_owned()));
                        tokens.extend(name.iter().copied().map(String::from));
                        tokens.extend(item);
                    }
                    tokens.push(close.to_owned());
                    tokens
                }
            };
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(list("[", &[], "]")),
                vec(inner, 0..4).prop_map(list("{", &[r#""$serde_json::private::RawValue""#, ":"], "}")),
            ]
        })
    }

    proptest! {
        #[test]
        fn only_whitespace_between_tokens_is_left_out(tokens in tokens(), blanks in vec("[ \t\r\n]{0,3}", 1..9)) {
            let spaced: String = tokens.iter().zip(blanks.iter().cycle()).map(|(token, blank)| format!("{blank}{token}{blank}")).collect();
            let compact = compact_json(&spaced);
            prop_assert_eq!(&*compact, &*tokens.concat());
            prop_assert_eq!(compact_json(&compact), compact);
        }
    }
}
