//! Workers that execute only what a trusted key has signed: real keys, worker processes, and the public tool.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use palfrey_host::{
    JobError, Runtime,
    engine::{Engine, EngineConfig},
    plugin::{Action, Activation, CheckedComponent, Chunk, Record},
    queue::{Connection, QueueKind, QueueSpec},
    task::{Cause, Digest},
};
use palfrey_tests::{World, component, soon};
use tempfile::TempDir;

/// A folder with keys and components, which are copies: signatures lie beside them.
struct Desk {
    world: World,
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { world: World::new(), folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.text(name)
    }

    async fn keygen(&self, name: &str) {
        self.world.done(&["keygen", &self.text(name), "--no-password"]).await;
    }

    async fn sign(&self, key: &str, file: &str) -> String {
        self.world.done(&["sign", "--key", &self.text(&format!("{key}.key")), &self.text(file)]).await
    }

    async fn deploy(&self, file: &str) -> String {
        self.world.done(&["deploy", "--force", &self.text(file)]).await
    }

    fn signature(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{file}.minisig"))).unwrap()
    }

    fn unsign(&self, file: &str) {
        std::fs::remove_file(self.path(&format!("{file}.minisig"))).unwrap();
    }
}

/// The bytes of a component with a custom section more: its ID, its size, its name.
fn changed(mut component: Vec<u8>, name: u8) -> Vec<u8> {
    component.extend([0, 2, 1, name]);
    component
}

async fn fib(runtime: &Runtime, plugin: &str) -> Result<Vec<u8>, JobError> {
    soon(runtime.call(&format!("{plugin}/fib-at"), &[][..], vec![10])).await.map(|output| output.to_vec())
}

async fn executes(runtime: &Runtime) {
    assert_eq!(fib(runtime, "arith").await.unwrap(), [55]);
}

async fn refuses(runtime: &Runtime, plugin: &str, expect: &str) {
    let error = fib(runtime, plugin).await.unwrap_err();
    assert_eq!(error.execution().expect("a worker refused it").cause, Cause::PluginUnavailable, "{error}");
    assert!(error.to_string().contains(expect), "{expect}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_executes_what_a_trusted_key_signed_and_names_its_reason_for_refusing_the_rest() {
    let desk = Desk::new();
    let arith = component("arith");
    desk.write("arith.wasm", &arith);
    desk.keygen("release").await;
    desk.keygen("mallory").await;
    let release = desk.text("release.pub");
    let mut worker = desk.world.worker(&["--trust", &release]).await;
    assert!(!worker.log().has(&["executing every plugin"]));

    // Unsigned. What was decided does not stick: a signature heals it, without a restart.
    desk.deploy("arith.wasm").await;
    let runtime = desk.world.runtime().await;
    refuses(
        &runtime,
        "arith",
        &format!("`arith` 0.1.0 is not signed, and this worker executes only what {release} signed"),
    )
    .await;
    worker.log().until(&["cannot load a plugin", "`arith` 0.1.0 is not signed"]).await;
    let signed = desk.sign("mallory", "arith.wasm").await;
    let mallory = signed.split("by key ").nth(1).unwrap().split(':').next().unwrap().to_owned();
    desk.deploy("arith.wasm").await;
    refuses(&runtime, "arith", &format!("is signed by key {mallory}, which is not trusted here: only {release} is"))
        .await;
    desk.sign("release", "arith.wasm").await;
    desk.deploy("arith.wasm").await;
    executes(&runtime).await;

    // Other bytes under the same signature.
    let signature = desk.signature("arith.wasm");
    desk.write("arith.wasm", &changed(arith.clone(), b'x'));
    let told = desk.world.palfrey(&["deploy", "--force", "--trust", &release, &desk.text("arith.wasm")]).await;
    assert_eq!((told.code, told.stdout.as_str()), (5, ""));
    assert!(told.stderr.contains("is not of these bytes, or was changed"), "{}", told.stderr);
    desk.deploy("arith.wasm").await;
    refuses(&runtime, "arith", "is not of these bytes, or was changed").await;

    // The genuine signature, of the genuine bytes, for what they are not: a new version, and another plugin.
    let claims = [("arith", "0.2.0", signature.clone()), ("other", "0.1.0", signature)];
    for (name, version, signature) in claims {
        activate(&desk.world, &arith, name, version, signature).await;
        soon(runtime.registry().caught_up()).await.unwrap();
        let expect = format!("these bytes were signed as `arith` 0.1.0 and are deployed as `{name}` {version}");
        refuses(&runtime, name, &expect).await;
    }
    assert!(worker.is_running());
}

/// Writes to the registry what no `palfrey deploy` would.
async fn activate(world: &World, component: &[u8], name: &str, version: &str, signature: String) {
    let engine = Engine::new(&EngineConfig::default()).unwrap();
    let CheckedComponent { mut description, imports } = CheckedComponent::from(&engine.load(component).unwrap());
    description.name = name.to_owned();
    description.version = version.parse().unwrap();
    let (size, chunks) = (component.len() as u64, Chunk::count(component.len()));
    let digest = Digest::of(component);
    let signature = Some(signature);
    let activation =
        Activation { digest, size, chunks, description, imports, force: true, signature, grants: [].into() };
    let connection = world.connection().await;
    let log = soon(connection.declare(&QueueSpec::new("palfrey.registry", QueueKind::Log))).await.unwrap();
    let record = Record::new("mallory", Action::Activate(activation)).encode();
    soon(async { log.publisher().await.unwrap().publish(record).await }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_without_a_pause_and_revoked_by_taking_them_away() {
    let desk = Desk::new();
    desk.write("arith.wasm", &component("arith"));
    desk.write("text.wasm", &component("text"));
    desk.keygen("old").await;
    desk.keygen("new").await;
    std::fs::create_dir(desk.path("trusted")).unwrap();
    let trusted = |name: &str| desk.path("trusted").join(name);
    let trust = |name: &str| std::fs::copy(desk.path(name), trusted(name)).unwrap();
    trust("old.pub");
    for file in ["arith.wasm", "text.wasm"] {
        desk.sign("old", file).await;
        desk.deploy(file).await;
    }
    let folder = desk.text("trusted");
    let mut worker = desk.world.worker(&["--trust", &folder]).await;
    let runtime = desk.world.runtime().await;
    executes(&runtime).await;

    // Both keys are trusted, and what was signed by the old one gets a signature by the new one as well.
    trust("new.pub");
    restart(&mut worker, desk.world.worker(&["--trust", &folder]).await).await;
    executes(&runtime).await;
    desk.sign("new", "arith.wasm").await;
    let done = desk.world.done(&["deploy", &desk.text("arith.wasm")]).await;
    assert!(done.starts_with("arith 0.1.0 was active already, and has one more signature"), "{done}");
    assert!(desk.world.done(&["deploy", &desk.text("arith.wasm")]).await.starts_with("arith 0.1.0 is active already"));
    assert!(desk.world.done(&["inspect", "arith"]).await.contains("signed"));
    executes(&runtime).await;

    // The old key is revoked: what only it has signed is refused, until the new one signs it.
    std::fs::remove_file(trusted("old.pub")).unwrap();
    restart(&mut worker, desk.world.worker(&["--trust", &folder]).await).await;
    executes(&runtime).await;
    let concat = async || soon(runtime.call("text/char-to-string", &[][..], vec![1, b'a'])).await;
    let error = concat().await.unwrap_err().to_string();
    assert!(error.contains("`text` 0.1.0 is signed by key") && error.contains("which is not trusted here"), "{error}");
    desk.sign("new", "text.wasm").await;
    desk.world.done(&["deploy", &desk.text("text.wasm")]).await;
    assert!(concat().await.is_ok());
}

/// Lets a worker finish when its successor takes tasks.
async fn restart(worker: &mut palfrey_tests::Worker, successor: palfrey_tests::Worker) {
    let mut before = std::mem::replace(worker, successor);
    before.signal("TERM");
    assert_eq!(before.ended().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_a_worker_executes_everything_and_says_so_once() {
    let desk = Desk::new();
    desk.write("arith.wasm", &component("arith"));
    let worker = desk.world.worker(&[]).await;
    desk.deploy("arith.wasm").await;
    executes(&desk.world.runtime().await).await;
    let said = worker.log().words_after("executing every plugin that is deployed, whoever deployed it; `--trust ");
    assert_eq!(said, ["KEYFILE`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_signatures_that_do_not_fit_are_named_before_anything_is_deployed() {
    let desk = Desk::new();
    desk.write("arith.wasm", &component("arith"));
    let (password, wrong) = (desk.write("password", b"correct horse\n"), desk.write("wrong", b"battery\n"));
    let (key, name) = (desk.text("release.key"), desk.text("release"));
    desk.world.done(&["keygen", &name, "--password-file", &password]).await;
    let refused = async |arguments: &[&str], code: i32, expect: &str| {
        let ran = desk.world.palfrey(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expect), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("correct horse") && !ran.stderr.contains("battery"), "{}", ran.stderr);
    };
    let arith = desk.text("arith.wasm");
    refused(&["keygen", &name, "--no-password"], 5, "exists, and a key that is lost cannot be made again").await;
    refused(&["sign", "--key", &key, &arith, "--password-file", &wrong], 2, "this is not the password of the key")
        .await;
    refused(&["sign", "--key", &key, &arith], 2, "there is no terminal to ask for the password").await;
    refused(&["sign", "--key", &desk.text("release.pub"), &arith, "--password-file", &wrong], 2, "no secret key").await;
    refused(&["worker", "--trust", &key], 2, "is not a public key of minisign").await;
    refused(&["worker", "--trust", &arith], 2, "cannot read the trusted key").await;
    refused(&["worker", "--trust", &desk.text("nowhere.pub")], 2, "nowhere.pub").await;
    refused(&["deploy", "--trust", &desk.text("release.pub"), &arith], 5, "`arith` 0.1.0 is not signed").await;

    desk.write("text.wasm", &component("text"));
    let signed = desk.world.done(&["sign", "--key", &key, &desk.text("text.wasm"), "--password-file", &password]).await;
    assert!(signed.starts_with("signed text 0.1.0 by key "), "{signed}");
    std::fs::rename(desk.path("text.wasm.minisig"), desk.path("arith.wasm.minisig")).unwrap();
    refused(&["deploy", &arith], 5, "these bytes were signed as `text` 0.1.0 and are deployed as `arith` 0.1.0").await;
    desk.write("arith.wasm.minisig", b"nonsense");
    refused(&["deploy", &arith], 5, "is not one of minisign 0.10 or later").await;
    desk.unsign("arith.wasm");
    assert!(desk.world.done(&["deploy", &arith]).await.starts_with("deployed arith 0.1.0"));
}

/// Runs the public tool, which reads passwords from its input where that is no terminal.
fn minisign(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("minisign");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().expect("minisign is not installed: on Debian and Ubuntu, `apt-get install minisign`");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "minisign {}: {said}", arguments.join(" "));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_tool_and_ours_understand_each_other() {
    let desk = Desk::new();
    let arith = desk.write("arith.wasm", &component("arith"));
    let password = desk.write("password", b"correct horse\n");
    let signature = desk.text("arith.wasm.minisig");
    desk.world.done(&["keygen", &desk.text("ours"), "--password-file", &password]).await;
    minisign(&["-G", "-p", &desk.text("theirs.pub"), "-s", &desk.text("theirs.key")], "correct horse\ncorrect horse\n");

    // Keys of both, signatures by ours: the public tool verifies them.
    for key in ["ours", "theirs"] {
        let (public, secret) = (desk.text(&format!("{key}.pub")), desk.text(&format!("{key}.key")));
        desk.world.done(&["sign", "--key", &secret, "--password-file", &password, &arith]).await;
        let said = minisign(&["-V", "-p", &public, "-m", &arith, "-x", &signature], "");
        assert!(said.contains("Trusted comment: plugin:arith version:0.1.0"), "{said}");
        desk.world.done(&["deploy", "--trust", &public, &arith]).await;
    }
    // Signatures by the public tool with keys of both: workers execute it.
    for key in ["ours", "theirs"] {
        let (public, secret) = (desk.text(&format!("{key}.pub")), desk.text(&format!("{key}.key")));
        let comment = ["-t", "plugin:arith version:0.1.0"];
        minisign(&[&["-S", "-s", &secret, "-m", &arith, "-x", &signature], &comment[..]].concat(), "correct horse\n");
        desk.world.done(&["deploy", "--force", "--trust", &public, &arith]).await;
        let worker = desk.world.worker(&["--trust", &public]).await;
        executes(&desk.world.runtime().await).await;
        drop(worker);
    }
    assert!(Path::new(&signature).exists());
}
