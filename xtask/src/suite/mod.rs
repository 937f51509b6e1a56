//! `cargo xtask test`: all checks and tests, in one build that the demo shares.
//!
//! A step that fails does not keep the others from running; all that failed is listed at the end. The features and the
//! profile are the same in every step, because each other combination would be one more build of all dependencies. What has a
//! little build of its own all the same: the interleavings, a workspace of their own, and the cases that must not compile, for
//! which the SDK is checked alone.

mod panics;
mod report;
mod tally;

use anyhow::{Result, bail};

use self::{
    panics::Panics,
    report::{Entry, Outcome, Report},
    tally::{Runner, Tally},
};
use crate::{
    plugins,
    process::{Program, check_interrupted},
    requirements,
    step::timed,
    workspace::{WASM, Workspace},
};

pub(crate) const EXAMPLES: &str = "\
Example:
  cargo xtask test

It needs the target wasm32-wasip2, RabbitMQ and minisign, and installs them where it may: the first by rustup, the others by
apt-get as root. It uses cargo-nextest and cargo-deny if they are installed: `cargo install --locked cargo-nextest cargo-deny`.";

/// What an author of programs must not be made to build by the types of operations.
const NOT_IN_SDK: [&str; 3] = ["wasmtime", "tokio", "lapin"];

// Workspaces beside the one that everything else is in.
const INTERLEAVINGS: &str = "tests/interleavings/Cargo.toml";
/// Its own files. The others are the host's, by paths that rustfmt cannot follow from there.
const OF_INTERLEAVINGS: [&str; 3] = ["src/scenarios.rs", "src/twins.rs", "tests/explore.rs"];
const FUZZ: &str = "tests/fuzz/Cargo.toml";
const PEERS: &str = "tests/peers/Cargo.toml";

/// A check or a test failed, and the report, which ends with the number of them, has said so.
#[derive(Debug, thiserror::Error)]
#[error("a check or a test failed")]
pub(crate) struct Failed;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    // What is missing is found out before anything that takes long.
    requirements::wasm_target(workspace)?;
    requirements::minisign()?;
    let node = requirements::broker(workspace)?;
    let uri = node.uri();

    let mut suite = Suite::default();
    suite.step("format", || {
        workspace.cargo(["fmt", "--all", "--check"]).run()?;
        let own =
            OF_INTERLEAVINGS.map(|file| workspace.root().join("tests/interleavings").join(file).display().to_string());
        Program::new("rustfmt").args(["--check", "--edition", "2024"]).args(own).run()?;
        workspace.cargo(["fmt", "--all", "--check", "--manifest-path", FUZZ]).run()?;
        workspace.cargo(["fmt", "--all", "--check", "--manifest-path", PEERS]).run()
    })?;
    suite.step("light SDK", || check_sdk(workspace))?;
    let components = suite.step("components", || plugins::compile(workspace))?;
    suite
        .step("clippy", || workspace.cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run())?;
    suite.step("clippy, components", || {
        let clippy = workspace.cargo(["clippy", "--release", "--target", WASM]);
        clippy.args(workspace.component_arguments()).args(["--", "-D", "warnings"]).run()
    })?;
    let reason = "all dependencies would be built once more: `cargo clippy` and `cargo test` in tests/peers";
    suite.leave_out("clippy and tests, peers", reason);
    suite.leave_out("fuzzing", "all dependencies would be built once more: `cargo xtask fuzz`");
    // Tests run the programs too, and a runner builds only what it thinks they need.
    let programs =
        suite.step("programs", || workspace.cargo(["build", "--workspace", "--bins", "--examples"]).run())?;
    if components && programs {
        let (runner, program) = runner(workspace)?;
        let program = program.env_unseen("CARGO_TARGET_DIR", workspace.target());
        suite.tests("tests", runner, program.env_unseen(palfrey_rabbitmq::URI_VARIABLE, &uri))?;
    } else {
        suite.fail("tests", "not run, because something that they need was not built");
    }
    let target = workspace.target().join("interleavings").display().to_string();
    let interleavings = workspace.cargo(["test", "--manifest-path", INTERLEAVINGS, "--target-dir", &target]);
    suite.tests("interleavings", Runner::Cargo, interleavings)?;
    let doc_tests = workspace.cargo(["test", "--doc", "--workspace", "--no-fail-fast"]);
    suite.tests("doc tests", Runner::Cargo, doc_tests.env_unseen(palfrey_rabbitmq::URI_VARIABLE, &uri))?;
    suite.step("documentation", || {
        workspace.cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run()
    })?;
    if workspace.cargo(["deny", "--version"]).succeeds()? {
        suite.step("licences, advisories", || check_dependencies(workspace))?;
    } else {
        let reason = "cargo-deny is not installed: `cargo install --locked cargo-deny`, then `cargo deny check`";
        suite.leave_out("licences, advisories", reason);
    }
    drop(node);

    println!("{}", suite.report);
    if suite.report.failures().next().is_some() { Err(Failed.into()) } else { Ok(()) }
}

#[derive(Debug, Default)]
struct Suite {
    report: Report,
}

impl Suite {
    /// Runs a step and notes what became of it. The error is that of an interruption alone.
    fn step(&mut self, name: &'static str, action: impl FnOnce() -> Result<()>) -> Result<bool> {
        let (result, time) = timed(name, action);
        check_interrupted()?;
        let done = result.is_ok();
        let outcome = result.map_or_else(Outcome::Failed, |()| Outcome::Done);
        self.report.entries.push(Entry { name, outcome, time, tally: None });
        Ok(done)
    }

    /// Runs tests, and counts them.
    fn tests(&mut self, name: &'static str, runner: Runner, program: Program) -> Result<bool> {
        let (mut tally, mut panics) = (Tally::default(), Panics::default());
        let done = self.step(name, || {
            let ran = program.watched(|line| {
                tally.read(runner, line);
                panics.read(line);
            });
            ran??;
            check_tally(tally)
        })?;
        if !done {
            // Those of tests that expect them are not among them: what passes is not shown.
            self.report.panics.extend(panics.lines());
        }
        if let Some(entry) = self.report.entries.last_mut() {
            entry.tally = Some(tally);
        }
        Ok(done)
    }

    fn fail(&mut self, name: &'static str, reason: &'static str) {
        let outcome = Outcome::Failed(anyhow::anyhow!(reason));
        self.report.entries.push(Entry { name, outcome, time: Default::default(), tally: None });
    }

    fn leave_out(&mut self, name: &'static str, reason: &str) {
        eprintln!("» {name}: left out, {reason}");
        let outcome = Outcome::LeftOut(reason.to_owned());
        self.report.entries.push(Entry { name, outcome, time: Default::default(), tally: None });
    }
}

/// Whether a runner that succeeded has run everything.
fn check_tally(Tally { passed, failed, skipped }: Tally) -> Result<()> {
    let all = passed + failed + skipped;
    if all == 0 {
        bail!("no test was run");
    }
    if skipped > 0 {
        bail!("{skipped} of {all} tests are ignored: make them run, or remove them");
    }
    Ok(())
}

/// What runs unit and integration tests: nextest where it is installed. Everything else is the same.
fn runner(workspace: &Workspace) -> Result<(Runner, Program)> {
    if workspace.cargo(["nextest", "--version"]).succeeds()? {
        return Ok((Runner::Nextest, workspace.cargo(["nextest", "run", "--workspace", "--no-fail-fast"])));
    }
    eprintln!("» cargo-nextest is not installed: `cargo test` runs the tests");
    Ok((Runner::Cargo, workspace.cargo(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"])))
}

/// Checks what an author of operations has to build natively.
fn check_sdk(workspace: &Workspace) -> Result<()> {
    let tree =
        workspace.cargo(["tree", "--package", "palfrey-sdk", "--edges", "normal", "--prefix", "none"]).output()?;
    let heavy: Vec<_> = heavy_packages(&tree).collect();
    if !heavy.is_empty() {
        bail!(
            "palfrey-sdk must not depend on {}: see `cargo tree --package palfrey-sdk --invert NAME`",
            heavy.join(", ")
        );
    }
    Ok(())
}

/// Packages in a tree that the SDK must not have, with all that belongs to them (`wasmtime-environ`, `tokio-util`).
fn heavy_packages(tree: &str) -> impl Iterator<Item = &str> {
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| NOT_IN_SDK.iter().any(|heavy| name.split('-').next() == Some(heavy)))
}

/// Licences, sources and duplicates; and known vulnerabilities, where their database can be had.
fn check_dependencies(workspace: &Workspace) -> Result<()> {
    if workspace.cargo(["deny", "fetch", "db"]).succeeds()? {
        return workspace.cargo(["deny", "check"]).run();
    }
    check_interrupted()?;
    eprintln!("» the database of advisories cannot be had: the rest is checked without it");
    workspace.cargo(["deny", "check", "bans", "licenses", "sources"]).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_the_sdk_must_not_have_are_found_by_their_family() {
        let tree = "palfrey-sdk v0.1.0 (/palfrey/guest-sdk)\nserde v1.0.229\ntokio-util v0.7.20\nlapin v4.12.3 (*)\ntokiolike v1.0.0";
        assert_eq!(heavy_packages(tree).collect::<Vec<_>>(), ["tokio-util", "lapin"]);
    }

    #[test]
    fn tests_that_did_not_run_are_not_passed_over() {
        assert!(check_tally(Tally { passed: 1, failed: 0, skipped: 0 }).is_ok());
        let ignored = check_tally(Tally { passed: 2, failed: 0, skipped: 1 }).unwrap_err();
        assert!(ignored.to_string().contains("1 of 3 tests"), "{ignored}");
        assert!(check_tally(Tally::default()).is_err());
    }

    #[test]
    fn a_step_that_fails_is_reported_and_the_next_one_runs() {
        let mut suite = Suite::default();
        assert!(!suite.step("first", || Program::new("false").run()).unwrap());
        assert!(suite.step("second", || Ok(())).unwrap());
        assert_eq!(suite.report.failures().map(|(name, _)| name).collect::<Vec<_>>(), ["first"]);
    }
}
