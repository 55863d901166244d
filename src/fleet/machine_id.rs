//! The identity of a machine, from its firmware or its system.

use uuid::Uuid;

use super::text::Text;
use crate::limits::MACHINE_ID_MAX_CHARS;

/// What a machine is known by.
pub type MachineId = Text<MACHINE_ID_MAX_CHARS>;

/// What firmware holds where nobody has written an identity, and what is written in its place until somebody does; many
/// machines have it in common. Letters and digits count, in any case.
const PLACEHOLDERS: &[&str] = &[
    "00020003-0004-0005-0006-000700080009",
    "01010101-0101-0101-0101-010101010101",
    "01234567-8910-abcd-efef-abcdefabcdef",
    "03000200-0400-0500-0006-000700080009",
    "12345678-1234-1234-1234-123456789abc",
    "12345678-1234-1234-1234-123456789012",
    "12345678-1234-5678-90ab-cddeefaabbcc",
    "12345678-1234-5678-1234-567812345678",
    "6ab5b300-538d-1014-9fb5-b0684d007b53",
    "fefefefe-fefe-fefe-fefe-fefefefefefe",
    "012345678",
    "0123456789",
    "0123456789abcdef0123456789abcdef",
    "12345",
    "123456",
    "1234567",
    "12345678",
    "123456789",
    "1234567890",
    "asset tag",
    "base board serial number",
    "bios",
    "change me",
    "chassis serial number",
    "default",
    "default string",
    "empty",
    "eval",
    "example",
    "invalid",
    "machine id",
    "n/a",
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
    "null string",
    "o.e.m.",
    "oem serial",
    "placeholder",
    "product name",
    "serial",
    "serial number",
    "sn-12345",
    "sys-1234567890",
    "sys-9876543210",
    "system manufacturer",
    "system product name",
    "system serial number",
    "system uuid",
    "system version",
    "tbd",
    "to be filled by o.e.m.",
    "to be filled",
    "todo",
    "undefined",
    // What systemd writes into /etc/machine-id of an image that has not been booted.
    "uninitialized",
    "unknown",
    "unspecified",
    "uuid",
    "your machine id",
];

/// The text is no identity that a machine can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitMachineId {
    #[error("a string of at most {MACHINE_ID_MAX_CHARS} characters")]
    TooLong,
    /// It has control characters within.
    #[error("a string without control characters")]
    Control,
}

/// The identity that this text is: trimmed, a UUID in lower case. None if it is one that machines have in common.
pub fn machine_id(text: &str) -> Result<Option<MachineId>, UnfitMachineId> {
    // Too long is too long, placeholder or not.
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
    let signs = || text.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase());
    let (Some(first), count) = (signs().next(), signs().count()) else {
        return true;
    };
    // One sign over and over: zeros, bits that are all set, x for what is to be filled in.
    let is_monotonous = (first == '0' || count == 1 || count >= REPEATED_MIN) && signs().all(|sign| sign == first);
    let is_known = |known: &&str| known.chars().filter(|c| c.is_alphanumeric()).eq(signs());
    is_monotonous || is_template(text) || PLACEHOLDERS.iter().any(is_known)
}

/// So many times the same sign are no identity.
const REPEATED_MIN: usize = 7;

/// Whether something was to be put in place of the text, or of a part of it, and was not.
fn is_template(text: &str) -> bool {
    let has = |start: &str, end: &str| text.split_once(start).is_some_and(|(_, rest)| rest.contains(end));
    let is_between = |start: &str, end: &str| {
        let inner = text.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        inner.is_some_and(|inner| !inner.is_empty())
    };
    let is_shell_variable =
        text.strip_prefix('$').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()));
    let is_in_signs =
        [("%", "%"), ("<", ">"), ("@", "@"), ("__", "__")].iter().any(|(start, end)| is_between(start, end));
    has("${", "}") || has("$(", ")") || has("{{", "}}") || has("<%", "%>") || is_shell_variable || is_in_signs
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
            "(none)",
            "N/A",
            "to-be-filled-by-oem",
            "SYS-1234567890",
            "11111111-1111-1111-1111-111111111111",
            "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
            "FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE",
            "12345678-1234-5678-1234-567812345678",
            "{03000200-0400-0500-0006-000700080009}",
            "03000200040005000006000700080009",
        ] {
            assert_eq!(canonical(placeholder), None, "{placeholder:?}");
        }
    }

    #[test]
    fn a_template_that_was_not_filled_in_is_no_identity() {
        for template in [
            "${MACHINE_ID}",
            "${MACHINE_ID:-}",
            "host-${MACHINE_ID}",
            "$MACHINE_ID",
            "$(cat /etc/machine-id)",
            "{{ .MachineID }}",
            "{{machine_id}}",
            "<%= machine_id %>",
            "%MACHINE_ID%",
            "<machine-id>",
            "@MACHINE_ID@",
            "__MACHINE_ID__",
            "YOUR_MACHINE_ID",
            "changeme",
        ] {
            assert_eq!(canonical(template), None, "{template:?}");
        }
        for identity in ["50%", "a%b%c", "{web-1}", "a<b>c", "costs $5", "$50", "web@rack", "_ab_"] {
            assert_eq!(canonical(identity).as_deref(), Some(identity));
        }
    }

    #[test]
    fn one_sign_alone_is_no_identity() {
        for sign in ["f", "F", "7", "x", "\u{e9}", "-1-", " a\n"] {
            assert_eq!(canonical(sign), None, "{sign:?}");
        }
        for identity in ["m1", "ff", "x7", "\u{e9}1"] {
            assert_eq!(canonical(identity).as_deref(), Some(identity));
        }
    }

    #[test]
    fn every_placeholder_of_the_list_is_one() {
        for placeholder in PLACEHOLDERS {
            assert_eq!(*placeholder, placeholder.to_ascii_lowercase(), "in lower case");
            assert_eq!(canonical(&placeholder.to_uppercase()), None, "{placeholder:?}");
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
            ("0001", "0001"),
            ("fff-00", "fff-00"),
            ("ffffff", "ffffff"),
            ("111111", "111111"),
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
        let longest = "xy".repeat(MACHINE_ID_MAX_CHARS / 2);
        assert_eq!(*machine_id(&longest).unwrap().unwrap(), *longest);
        assert!(machine_id(&format!(" {longest}")).is_err());
        let refused = machine_id(&(longest + "x")).unwrap_err();
        assert_eq!(refused.to_string(), "a string of at most 128 characters");
        assert!(machine_id("a\nb").unwrap_err().to_string().contains("control characters"));
    }
}
