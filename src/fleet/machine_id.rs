//! The identity of a machine, as its firmware or its system tells it.

use uuid::Uuid;

use super::text::Text;
use crate::limits::MACHINE_ID_MAX_CHARS;

/// What a machine is known by.
pub type MachineId = Text<MACHINE_ID_MAX_CHARS>;

/// What firmware holds where nobody has written an identity; many machines have it in common.
const PLACEHOLDERS: &[&str] = &[
    "00020003-0004-0005-0006-000700080009",
    "03000200-0400-0500-0006-000700080009",
    "01234567-8910-abcd-efef-abcdefabcdef",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "0123456789",
    "123456789",
    "1234567890",
    "base board serial number",
    "chassis serial number",
    "default",
    "default string",
    "empty",
    "invalid",
    "n/a",
    "na",
    "nil",
    "none",
    "not applicable",
    "not available",
    "not defined",
    "not present",
    "not provided",
    "not set",
    "not settable",
    "not specified",
    "null",
    "o.e.m.",
    "oem",
    "serial number",
    "system manufacturer",
    "system product name",
    "system serial number",
    "system uuid",
    "to be filled by o.e.m.",
    "to be filled by oem",
    "undefined",
    // What systemd writes into /etc/machine-id of an image that has not been booted.
    "uninitialized",
    "unknown",
    "unspecified",
];

/// The text is no identity that a machine can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitMachineId {
    /// It is too long.
    #[error("a string of at most {MACHINE_ID_MAX_CHARS} characters")]
    TooLong,
    /// It has control characters within.
    #[error("a string without control characters")]
    Control,
}

/// The identity that this text is: trimmed, a UUID in lower case. None if it is one that machines have in common.
pub fn machine_id(text: &str) -> Result<Option<MachineId>, UnfitMachineId> {
    // Too long is too long, whatever it says.
    if text.chars().count() > MACHINE_ID_MAX_CHARS {
        return Err(UnfitMachineId::TooLong);
    }
    let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    if is_placeholder(trimmed) {
        return Ok(None);
    }
    let is_uuid = Uuid::try_parse(trimmed).is_ok();
    let canonical = if is_uuid { trimmed.to_ascii_lowercase() } else { trimmed.to_owned() };
    Text::new(canonical).map(Some).map_err(|_| UnfitMachineId::Control)
}

fn is_placeholder(text: &str) -> bool {
    let mut signs = text.chars().filter(|c| c.is_alphanumeric());
    let Some(first) = signs.next() else {
        return true;
    };
    // A number that is all zeros, or one whose bits are all set, however long and however spaced.
    let is_blank_number = match first {
        '0' => signs.all(|c| c == '0'),
        'f' | 'F' => signs.clone().count() >= 7 && signs.all(|c| c.eq_ignore_ascii_case(&'f')),
        _ => false,
    };
    is_blank_number || PLACEHOLDERS.iter().any(|known| known.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<String> {
        machine_id(text).unwrap().map(|id| id.to_string())
    }

    #[test]
    fn what_factories_leave_is_no_identity() {
        for placeholder in [
            "",
            " ",
            "\t\n",
            "\0",
            "-",
            "........",
            "0",
            "00000000-0000-0000-0000-000000000000",
            "{00000000-0000-0000-0000-000000000000}",
            "00000000000000000000000000000000",
            "00:00:00:00:00:00",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "ffffffffffffffffffffffffffffffff",
            "03000200-0400-0500-0006-000700080009",
            "Not Settable",
            " Not Specified\n",
            "To be filled by O.E.M.",
            "TO BE FILLED BY O.E.M.",
            "Default string",
            "System Serial Number",
            "None",
        ] {
            assert_eq!(canonical(placeholder), None, "{placeholder:?}");
        }
    }

    #[test]
    fn an_identity_is_trimmed_and_a_uuid_has_one_case() {
        for (text, expected) in [
            ("m-1", "m-1"),
            (" m-1\n", "m-1"),
            ("M-1", "M-1"),
            ("4C4C4544-0044-4A10-8057-B7C04F4E3532", "4c4c4544-0044-4a10-8057-b7c04f4e3532"),
            ("B1946AC92492D2347C6235B4D2611184\n", "b1946ac92492d2347c6235b4d2611184"),
            ("{4C4C4544-0044-4A10-8057-B7C04F4E3532}", "{4c4c4544-0044-4a10-8057-b7c04f4e3532}"),
            ("f", "f"),
            ("0001", "0001"),
            ("fff-00", "fff-00"),
            ("é", "é"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_even_if_it_would_count_as_none() {
        for text in ["0".repeat(MACHINE_ID_MAX_CHARS + 1), " ".repeat(MACHINE_ID_MAX_CHARS + 1)] {
            assert!(machine_id(&text).is_err());
            assert!(machine_id(&text[1..]).unwrap().is_none());
        }
        // As it came: that is what the API's document bounds.
        let longest = "x".repeat(MACHINE_ID_MAX_CHARS);
        assert_eq!(*machine_id(&longest).unwrap().unwrap(), *longest);
        assert!(machine_id(&format!(" {longest}")).is_err());
        let refused = machine_id(&(longest + "x")).unwrap_err();
        assert_eq!(refused.to_string(), "a string of at most 128 characters");
        assert!(machine_id("a\nb").unwrap_err().to_string().contains("control characters"));
    }
}
