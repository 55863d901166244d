//! What the tests of the program from the outside have in common.

use std::path::{Path, PathBuf};

/// The program.
pub const LOADTEST: &str = env!("CARGO_BIN_EXE_guardbeat-loadtest");

/// The server beside the load test, where cargo puts both. It is another package's, which `cargo test` builds for the
/// whole workspace only.
pub fn server() -> Option<PathBuf> {
    let server = Path::new(LOADTEST).with_file_name("guardbeat");
    if server.exists() {
        return Some(server);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: run `cargo test --workspace`", server.display());
    eprintln!("skipped: {} is missing; `cargo build` makes it", server.display());
    None
}
