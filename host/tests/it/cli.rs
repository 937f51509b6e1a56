//! The binary as an operator uses it: what it prints, and its exit codes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
    sync::Arc,
};

use palfrey_host::{Config, Runtime, config::Transport};
use palfrey_rabbitmq::shared_vhost;
use serde_json::Value;
use tempfile::TempDir;

/// The binary with a home of its own, and none of the environment's settings.
struct Palfrey {
    home: TempDir,
    uri: String,
}

impl Palfrey {
    fn new(uri: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), uri: uri.to_owned() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palfrey"));
        command.env_clear().env("HOME", self.home.path()).env("USER", "ada").env("HOSTNAME", "engine");
        command.env("PALFREY_AMQP_URI", &self.uri).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        // Nobody here is a terminal.
        for printed in [&output.stdout, &output.stderr] {
            assert!(!printed.contains(&b'\x1b'), "{arguments:?}: {}", String::from_utf8_lossy(printed));
        }
        output
    }

    /// Runs what succeeds, and returns what it printed.
    fn prints(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what fails, and checks its exit code and what it says.
    fn fails(&self, arguments: &[&str], code: i32, expect: &str) {
        let output = self.run(arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(expect), "{arguments:?}: {message}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty());
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// The path of a plugin.
fn plugin(name: &str) -> String {
    crate::component_path(name).to_str().unwrap().to_owned()
}

/// Where nobody listens: port 1 is privileged and unused.
const NOBODY: &str = "amqp://ada:s3cret@127.0.0.1:1/%2f";

#[test]
fn a_file_is_inspected_without_a_broker() {
    let palfrey = Palfrey::new(NOBODY);
    let text = palfrey.prints(&["inspect", &plugin("arith")]);
    for expect in [
        "arith 0.1.0\n",
        "  digest   sha256:",
        "  imports  palfrey:plugin/context@0.1.0\n",
        "  multiply-by (postcard, cbor)\n    Multiplies by a constant.\n      config   MultiplyBy(u64)\n",
        "  sum, a monoid (postcard, cbor)\n    Adds.\n      config   Sum\n      element  u64\n",
    ] {
        assert!(text.contains(expect), "{expect}: {text}");
    }
    assert!(!text.contains("History"), "{text}");
    let json: Value = serde_json::from_str(&palfrey.prints(&["inspect", "--json", &plugin("arith")])).unwrap();
    assert_eq!(json["operations"][0]["name"], "fib-at");
    assert_eq!(json["operations"][0]["input_schema"]["ty"], "U64");
    assert_eq!(json["deployment"], Value::Null);
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_read() {
    let palfrey = Palfrey::new(NOBODY);
    let giant = palfrey.write("giant.wasm", b"");
    // Sparse: it takes no room. To read it takes more memory than the process may have.
    fs::OpenOptions::new().write(true).open(&giant).unwrap().set_len(1 << 40).unwrap();
    let deploy = palfrey.command(&["deploy", &giant]);
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", r#"ulimit -d 67108864 && exec "$0" "$@""#]).arg(deploy.get_program()).args(deploy.get_args());
    let output = limited.env("HOME", palfrey.home.path()).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("the component has 1.0 TiB, and at most 64.0 MiB are allowed"), "{message}");
    assert_eq!(output.status.code(), Some(5), "{message}");
}

#[test]
fn what_a_file_asks_for_is_shown_and_has_to_be_granted_before_the_broker_is_asked() {
    let palfrey = Palfrey::new(NOBODY);
    let text = palfrey.prints(&["inspect", &plugin("asker")]);
    for expect in [
        "  needs    clocks, entropy, env:CARGO_PKG_NAME, dir:/data\n\nOperations\n",
        "  look-plain (postcard, cbor)\n    Asks for nothing.\n      config",
        "  look-at-clocks, impure (postcard, cbor)\n    Asks for the time.\n      needs    clocks\n      config",
        "  latest-if, a monoid, impure (postcard, cbor)\n",
    ] {
        assert!(text.contains(expect), "{expect}: {text}");
    }
    assert!(!text.contains("granted"), "{text}");
    let json: Value = serde_json::from_str(&palfrey.prints(&["inspect", "--json", &plugin("asker")])).unwrap();
    assert_eq!(json["needs"][3], "dir:/data");
    assert_eq!((&json["operations"][0]["pure"], &json["operations"][1]["pure"]), (&true.into(), &false.into()));
    assert_eq!((&json["operations"][1]["needs"][0], &json["grants"]), (&"clocks".into(), &Value::Null));

    let some = ["deploy", &plugin("arith"), &plugin("asker"), "--grant", "clocks", "--grant", "env:CARGO_PKG_NAME"];
    palfrey.fails(&some, 5, "deploy it with --grant entropy --grant dir:/data if it may have that");
    palfrey.fails(
        &["deploy", &plugin("arith"), "--grant", "clocks"],
        2,
        "nothing that is deployed here asks for `clocks`",
    );
    palfrey.fails(&["deploy", &plugin("arith"), "--grant", "time"], 2, "\"time\" is nothing that can be granted");
}

#[test]
fn what_is_not_a_plugin_is_refused_before_the_broker_is_asked() {
    let palfrey = Palfrey::new(NOBODY);
    let text = palfrey.write("notes.wasm", b"not wasm");
    palfrey.fails(&["deploy", &text], 5, "because this is not WebAssembly");
    palfrey.fails(&["deploy", &plugin("arith"), &text], 5, "notes.wasm is not a plugin that workers can execute");
    let module = palfrey.write("module.wasm", b"\0asm\x01\0\0\0");
    palfrey.fails(&["inspect", &module], 5, "because this is a core module and not a component");
    palfrey.fails(&["deploy", "./missing.wasm"], 4, "cannot read ./missing.wasm\n  because No such file");
}

#[test]
fn arguments_that_are_wrong_say_what_to_write() {
    let palfrey = Palfrey::new(NOBODY);
    palfrey.fails(&["deploy"], 2, "required arguments were not provided");
    palfrey.fails(&["plugins", "--runtime", "in-memory"], 2, "use `--runtime amqp`");
    palfrey.fails(&["plugins", "--amqp-uri", "http://host"], 2, "amqp://user:password@host:port/vhost");
    palfrey.fails(&["rollback", "arith", "--to", "newest"], 2, "neither a version such as `1.2.0` nor a digest");
    let occupied = palfrey.write("occupied", b"");
    palfrey.fails(&["inspect", "--cache-dir", &occupied, &plugin("arith")], 2, "occupied");
}

#[test]
fn a_broker_that_is_not_there_is_named_without_its_password() {
    let palfrey = Palfrey::new(NOBODY);
    for arguments in [&["plugins"][..], &["worker"], &["undeploy", "arith"], &["deploy", &plugin("arith")]] {
        palfrey.fails(arguments, 3, "cannot reach the broker at 127.0.0.1:1");
        let output = palfrey.run(arguments);
        assert!(!String::from_utf8(output.stderr).unwrap().contains("s3cret"));
    }
}

#[test]
fn completions_know_the_commands() {
    let script = Palfrey::new(NOBODY).prints(&["completions", "bash"]);
    assert!(script.contains("_palfrey()") && script.contains("rollback"), "{script}");
}

/// A worker process, and its log.
struct Worker {
    process: Child,
    log: BufReader<ChildStderr>,
}

/// What workers warn of that execute everything.
const NO_TRUST: &str = "executing every plugin that is deployed";

impl Worker {
    fn start(palfrey: &Palfrey) -> Self {
        let mut command = palfrey.command(&["worker", "--slots", "1", "--log-format", "json"]);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut worker = Self { process, log };
        worker.logs(NO_TRUST);
        worker.logs("taking tasks");
        worker
    }

    /// Waits for a line of the log.
    fn logs(&mut self, message: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the worker ended before it logged {message:?}");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["fields"]["message"].as_str().is_some_and(|text| text.contains(message)) {
                return event;
            }
        }
    }

    fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    fn exit_code(mut self) -> Option<i32> {
        // Nobody reads its log any more, and that makes no difference.
        drop(self.log);
        self.process.wait().unwrap().code()
    }
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap().success());
}

#[test]
fn an_operator_deploys_to_a_running_worker_and_changes_their_mind() {
    let vhost = shared_vhost().unwrap();
    let uri = vhost.uri().to_owned();
    let palfrey = Palfrey::new(&uri);
    let mut worker = Worker::start(&palfrey);
    assert_eq!(palfrey.prints(&["plugins"]), "nothing is deployed; `palfrey deploy FILE` deploys a plugin\n");

    let printed = palfrey.prints(&["deploy", &plugin("arith"), &plugin("text")]);
    let lines: Vec<_> = printed.lines().collect();
    assert!(lines[0].starts_with("deployed arith 0.1.0 (sha256:") && lines[0].ends_with("6 operations)"), "{printed}");
    assert!(lines[1].starts_with("deployed text 0.1.0 (sha256:"), "{printed}");
    assert_eq!(worker.logs("loaded")["fields"]["version"], "0.1.0");
    let printed = palfrey.prints(&["deploy", &plugin("arith")]);
    assert!(printed.starts_with("arith 0.1.0 is active already (sha256:"), "{printed}");

    let table = palfrey.prints(&["plugins"]);
    assert!(table.lines().nth(1).unwrap().contains("fib-at multiply-by sum"), "{table}");
    let json: Value = serde_json::from_str(&palfrey.prints(&["plugins", "--json"])).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["deployed_by"]), (&"arith".into(), &"ada@engine".into()));
    assert_eq!(json.as_array().unwrap().len(), 2);

    palfrey.fails(&["rollback", "arith"], 5, "`arith` has no deployment before sha256:");
    palfrey.fails(&["rollback", "arith", "--to", "9.0.0"], 4, "version 9.0.0 of `arith` was never deployed");
    palfrey.fails(&["undeploy", "arit"], 4, "there is no plugin `arit`: did you mean `arith`?");
    palfrey.fails(&["inspect", "digest"], 4, "there is no plugin `digest`: there are `arith`, `text`");
    assert_eq!(palfrey.prints(&["undeploy", "arith"]), "undeployed arith\n");
    palfrey.fails(&["undeploy", "arith"], 5, "plugin `arith` is not deployed");
    assert!(!palfrey.prints(&["plugins"]).contains("arith"));
    assert!(palfrey.prints(&["plugins", "--all"]).lines().nth(1).unwrap().contains("undeployed"));
    let printed = palfrey.prints(&["rollback", "arith"]);
    assert!(printed.starts_with("arith 0.1.0 is active again (sha256:"), "{printed}");
    let sheet = palfrey.prints(&["inspect", "arith"]);
    assert!(sheet.starts_with("arith 0.1.0, active\n"), "{sheet}");
    let history = sheet.split_once("History\n").unwrap().1;
    let events: Vec<_> = ["deployed", "undeployed", "rolled back"].iter().map(|what| history.find(what)).collect();
    assert!(events.is_sorted() && events[0].is_some(), "{sheet}");
    assert!(history.contains("ada@engine"), "{sheet}");

    let quiet = palfrey.command(&["worker", "--quiet"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while palfrey.prints(&["workers"]).lines().count() < 3 {}
    for process in [worker.process.id(), quiet.id()] {
        signal(process, "TERM");
    }
    assert_eq!(worker.exit_code(), Some(0));
    let quiet = quiet.wait_with_output().unwrap();
    assert!(quiet.status.success());
    let [printed, said] = [quiet.stdout, quiet.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!((printed.as_str(), said.as_str()), ("", ""));
    let wrong = uri.replace("palfrey:palfrey@", "palfrey:s3cret@");
    palfrey.fails(&["plugins", "--amqp-uri", &wrong], 3, "refused user `palfrey`: check the name and the password");
    let wrong = format!("{}/elsewhere", uri.rsplit_once('/').unwrap().0);
    palfrey.fails(&["plugins", "--amqp-uri", &wrong], 3, "has no virtual host `elsewhere`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_drains_at_the_first_signal_and_exits_at_the_second() {
    let vhost = shared_vhost().unwrap();
    let uri = vhost.uri().to_owned();
    let palfrey = Palfrey::new(&uri);
    palfrey.prints(&["deploy", &plugin("digest")]);
    let config = Config {
        runtime: Transport::Amqp,
        amqp_uri: uri.parse().unwrap(),
        cache_dir: Some(Path::new(palfrey.home.path()).join("orchestrator")),
        ..Config::default()
    };
    let runtime = Runtime::from_config(&config).await.unwrap();
    let mut worker = Worker::start(&palfrey);
    let mut other = Worker::start(&palfrey);

    // More zero bits than anybody will ever find: it ends with the worker, or with the job.
    let serializer = runtime.serializer();
    let endless = serializer.to_bytes(&200_u8).unwrap();
    let input = serializer.to_bytes(&b"block".to_vec()).unwrap();
    let runtime = Arc::new(runtime);
    let caller = runtime.clone();
    let call = tokio::spawn(async move { caller.call("digest/mine", endless, input).await });
    // Whichever of the two has the task keeps it until it is told for the second time.
    while !runtime.workers().await.unwrap().iter().any(|worker| worker.executing() == 1) {}
    tokio::task::spawn_blocking(move || {
        for worker in [&worker, &other] {
            worker.signal("INT");
        }
        let under_way =
            [&mut worker, &mut other].map(|it| it.logs("taking no more tasks")["fields"]["under_way"].clone());
        let (busy, idle) = if under_way == [1, 0] { (worker, other) } else { (other, worker) };
        assert_eq!(under_way.iter().filter(|count| **count == 1).count(), 1, "{under_way:?}");
        assert_eq!(idle.exit_code(), Some(0));
        busy.signal("INT");
        assert_eq!(busy.exit_code(), Some(130));
    })
    .await
    .unwrap();
    call.abort();
}
