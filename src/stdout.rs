//! What is said on stdout.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Prints it. Whoever was to read it may have gone away (`guardbeat openapi | head`): that is no reason to panic, and a
/// server goes on.
pub fn say(what: impl Display) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{what}").and_then(|()| out.flush());
}
