//! The targets of the Makefile that run or install the server, wherever cargo has put it. Cargo itself is stood for by a
//! script, since a build for release takes minutes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_guardbeat");

/// Runs a target with this script in place of cargo.
fn make(dir: &Path, cargo: &str, args: &[&str]) -> Output {
    let script = dir.join("cargo");
    fs::write(&script, format!("#!/bin/sh\n{cargo}\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let mut make = Command::new("make");
    make.current_dir(env!("CARGO_MANIFEST_DIR")).arg(format!("CARGO={}", script.display())).args(args);
    // What make itself hands down to its recipes, the tests among them.
    for name in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "GUARDBEAT_TEST_TLS"] {
        make.env_remove(name);
    }
    make.env("REDIS_URL", "redis://of-another-program").output().unwrap()
}

#[test]
fn what_make_run_is_given_holds_over_what_it_would_say_by_itself() {
    let dir = TempDir::new().unwrap();
    let checked = |args: &[&str]| {
        let cargo = format!("while [ \"$1\" != serve ]; do shift; done; shift; exec {SERVER} check-config \"$@\"");
        let output = make(dir.path(), &cargo, &[&["run"], args].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = checked(&[]);
    assert!(shown.contains("data_dir = \"./data\"") && shown.contains("url = \"embedded:\""), "{shown}");
    let shown = checked(&["ARGS=--data-dir elsewhere --store memory:"]);
    assert!(shown.contains("data_dir = \"elsewhere\"") && shown.contains("url = \"memory:\""), "{shown}");
}

#[test]
fn what_is_to_be_installed_is_small_and_has_its_debug_information_beside_it() {
    let dir = TempDir::new().unwrap();
    let built = dir.path().join("a target/release/guardbeat");
    fs::create_dir_all(built.parent().unwrap()).unwrap();
    fs::copy(SERVER, &built).unwrap();
    let json = format!("{{\"reason\":\"compiler-artifact\",\"executable\":\"{}\"}}", built.display());
    let output = make(dir.path(), &format!("echo '{json}'"), &["dist"]);
    assert!(output.status.success(), "{output:?}");
    let installed = built.with_file_name("dist").join("guardbeat");
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    // Code that is not optimised is large by itself.
    assert!(size(&installed) * 4 < size(&built) * 3, "{} of {} bytes", size(&installed), size(&built));
    assert!(size(&installed.with_extension("debug")) > 1_000_000);
    let version = Command::new(&installed).arg("--version").output().unwrap();
    assert!(version.status.success() && version.stdout.starts_with(b"guardbeat "), "{version:?}");
}
