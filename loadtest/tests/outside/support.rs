//! What the tests of the program from the outside have in common.

use std::borrow::Cow;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The program.
pub const LOADTEST: &str = env!("CARGO_BIN_EXE_guardbeat-loadtest");

/// A load of a second, as sections of a scenario.
pub const SMALL: &str = r#"
[fleet]
agents = 50
interval = "500ms"
[server]
timeout_ms = 5_000
store = "memory"
[load]
warm_up = "100ms"
connections = 4
duration = "1s"
"#;

/// Whether the server is beside the load test, where cargo puts both. It is another package's, which `cargo test` builds
/// for the whole workspace only.
pub fn has_server() -> bool {
    let server = Path::new(LOADTEST).with_file_name("guardbeat");
    let exists = server.exists();
    assert!(
        exists || std::env::var_os("CI").is_none(),
        "{} is missing: run `cargo test --workspace`",
        server.display()
    );
    if !exists {
        eprintln!("skipped: {} is missing; `cargo build` makes it", server.display());
    }
    exists
}

/// Where the load test runs, with a scenario of its own.
pub struct Place(pub TempDir);

impl Place {
    pub fn with(scenario: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("small.toml"), scenario).expect("a file");
        Self(folder)
    }

    /// The program with these arguments.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(LOADTEST);
        command.current_dir(self.0.path()).args(arguments.split_whitespace()).env_remove("GUARDBEAT_TOKEN");
        command
    }

    /// Carries out the scenario, with more arguments.
    pub fn run(&self, more: &str) -> Output {
        self.command(&format!("run small.toml --out out {more}")).output().expect("started")
    }

    pub fn result(&self) -> Value {
        serde_json::from_str(&self.read("result.json")).expect("JSON")
    }

    pub fn page(&self) -> String {
        self.read("report.html")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join("out").join(name)).expect(name)
    }
}

pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
