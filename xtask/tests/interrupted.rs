//! Ctrl-C.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// In place of cargo: it knows of no packages, and builds for ever.
const CARGO: &str = r#"#!/bin/sh
case "$1" in
metadata) echo '{"target_directory": "/nowhere", "packages": []}' ;;
*) sleep 1000 & echo building; wait ;;
esac
"#;

#[test]
fn ctrl_c_ends_everything_that_was_started_and_says_so() {
    let cargo = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cargo");
    fs::write(&cargo, CARGO).unwrap();
    fs::set_permissions(&cargo, Permissions::from_mode(0o755)).unwrap();
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.arg("plugins").env("CARGO", cargo).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut xtask = xtask.spawn().unwrap();
    let mut stdout = BufReader::new(xtask.stdout.take().unwrap());
    let mut printed = String::new();
    stdout.read_line(&mut printed).unwrap();
    assert_eq!(printed, "building\n");

    kill_process(Pid::from_child(&xtask), Signal::INT).unwrap();
    // The end of the output: nobody has it open any more, the sleeper included.
    stdout.read_to_string(&mut printed).unwrap();
    let output = xtask.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.ends_with("xtask: interrupted; everything that was started has been stopped\n"), "{said}");
}
