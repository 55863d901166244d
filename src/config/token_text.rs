//! What a text must be to serve as the administrator's token, wherever it comes from.

use std::{fmt, ops::RangeInclusive};

use crate::limits::{ADMIN_TOKEN_MAX_CHARS, ADMIN_TOKEN_MIN_CHARS};

const CHARS: RangeInclusive<usize> = ADMIN_TOKEN_MIN_CHARS..=ADMIN_TOKEN_MAX_CHARS;

/// The token in this text: without a byte order mark and line ends around it, 8 to 256 visible ASCII characters, so
/// that it survives an HTTP header, a shell and a file.
pub fn cleaned(text: &str) -> Result<&str, TokenFault> {
    let token = text.trim_matches(['\u{feff}', '\r', '\n']);
    if let Some((at, found)) = token.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic()) {
        return Err(TokenFault::Character { at: at + 1, found });
    }
    // Of a token that something else has made they may be a part; around one they come from a shell or an editor.
    let mut ends = token.chars();
    if let (Some(first), Some(last)) = (ends.next(), ends.next_back())
        && first == last
        && matches!(first, '"' | '\'' | '`')
    {
        return Err(TokenFault::Quoted(first));
    }
    if CHARS.contains(&token.len()) { Ok(token) } else { Err(TokenFault::Length(token.len())) }
}

/// Why a text is no token for an administrator. Says no more of the text than the character that cannot stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// It has so many characters.
    Length(usize),
    /// This stands at both ends.
    Quoted(char),
    /// A character that cannot be in a token.
    Character {
        /// Which one; the first is 1.
        at: usize,
        found: char,
    },
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it must be {} to {} visible ASCII characters", CHARS.start(), CHARS.end())?;
        match self {
            Self::Length(0) => f.write_str(", and is empty"),
            Self::Length(chars) => write!(f, ", and has {chars}"),
            Self::Quoted(quote) => {
                write!(f, "; the quotes around it ({quote}, the first character and the last) must go")
            }
            Self::Character { at, found } => {
                write!(f, "; character {at} is {} (U+{:04X})", name_of(*found), u32::from(*found))
            }
        }
    }
}

impl std::error::Error for TokenFault {}

/// What people call it.
fn name_of(c: char) -> &'static str {
    match c {
        ' ' => "a space",
        '\t' => "a tab",
        '\r' | '\n' => "a line end: a token is one line",
        '\0' => "a zero byte: the text may be UTF-16",
        '\u{a0}' => "a no-break space",
        '\u{feff}' => "a byte order mark",
        '\u{fffd}' => "no UTF-8",
        '\u{2018}'..='\u{201f}' | '«' | '»' => "a typographic quotation mark",
        c if c.is_control() => "a control character",
        _ => "not ASCII",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse";

    #[test]
    fn a_byte_order_mark_and_line_ends_around_a_token_are_no_part_of_it() {
        for text in ["", "\n", "\r\n", "\n\n"].map(|end| format!("{TOKEN}{end}")) {
            assert_eq!(cleaned(&text), Ok(TOKEN));
            assert_eq!(cleaned(&format!("\u{feff}{text}")), Ok(TOKEN));
        }
        for whole in ["12345678", "\"quoted-at-one-end", "it's-inside", &"x".repeat(256)] {
            assert_eq!(cleaned(whole), Ok(whole));
        }
    }

    #[test]
    fn an_error_names_the_character_and_its_position() {
        for (text, expected) in [
            ("", "and is empty"),
            ("\r\n", "and is empty"),
            ("x", "and has 1"),
            (&"x".repeat(257), "and has 257"),
            ("\"correct-horse\"", "the quotes around it (\", the first character and the last) must go"),
            ("'correct-horse'\n", "the quotes around it (', "),
            ("“correct-horse”", "character 1 is a typographic quotation mark (U+201C)"),
            ("correct-horse ", "character 14 is a space (U+0020)"),
            ("correct\thorse", "character 8 is a tab (U+0009)"),
            ("correct\nhorse", "character 8 is a line end: a token is one line (U+000A)"),
            ("correct\r\nhorse", "character 8 is a line end: a token is one line (U+000D)"),
            ("corr\u{e9}ct-horse", "character 5 is not ASCII (U+00E9)"),
            ("correct\u{a0}horse", "character 8 is a no-break space (U+00A0)"),
            ("c\0o\0r\0r\0e\0c\0t\0", "character 2 is a zero byte"),
            ("correct\u{fffd}horse", "character 8 is no UTF-8"),
        ] {
            let told = cleaned(text).unwrap_err().to_string();
            assert!(told.starts_with("it must be 8 to 256 visible ASCII characters"), "{told}");
            assert!(told.contains(expected), "{text:?}: {told}");
            assert!(!told.contains("horse"), "{told}");
        }
    }
}
