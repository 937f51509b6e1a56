//! What a guest has of the world outside: what it was granted, and nothing else.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, sync::LazyLock, time::Duration};

use asker::{
    Action, LatestIf, LookAtAll, LookAtClocks, LookAtData, LookAtEntropy, LookAtValue, LookPlain, ReadBetweenData,
    Seen, TouchData,
};
use palfrey_host::{
    engine::{Call, Grants, Limits, Plugin, Stopped},
    plugin::UnixMillis,
    task::{Cause, Packed},
};
use palfrey_sdk::{RemoteExecute, Serializer};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::guests::{changed, engine};

/// Without any grants.
fn asker() -> &'static Plugin {
    static PLUGIN: LazyLock<Plugin> = LazyLock::new(|| engine(2).load(&crate::component("asker")).unwrap());
    &PLUGIN
}

fn allowed(allowances: &[&str]) -> Plugin {
    let allowances: Vec<_> = allowances.iter().map(|allowance| allowance.parse().unwrap()).collect();
    asker().granted(Grants::allowed(&allowances).unwrap())
}

/// A directory with `one.txt`, a folder with `two.txt`, and links; beside it what nobody may see.
struct Data {
    folder: TempDir,
    plugin: Plugin,
}

impl Data {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("data/folder")).unwrap();
        fs::write(path("data/one.txt"), "one").unwrap();
        fs::write(path("data/folder/two.txt"), "two").unwrap();
        fs::write(path("secret"), "hidden").unwrap();
        symlink("folder/two.txt", path("data/inward")).unwrap();
        symlink("../secret", path("data/outward")).unwrap();
        symlink(path("secret"), path("data/absolute")).unwrap();
        symlink("..", path("data/upward")).unwrap();
        symlink("circle", path("data/circle")).unwrap();
        let all = format!("dir:/data={}", path("data").display());
        let plugin = allowed(&["clocks", "entropy", "env:CARGO_PKG_NAME", &all]);
        Self { folder, plugin }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn touch(&self, action: Action, path: &str) -> String {
        call(&self.plugin, &TouchData(action), &path.to_owned()).unwrap()
    }
}

fn call<Op: RemoteExecute>(plugin: &Plugin, operation: &Op, input: &Op::Input) -> Result<Op::Output, Stopped>
where
    Op::Output: DeserializeOwned,
{
    let config = Serializer::Postcard.to_bytes(operation).unwrap();
    let limits = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let inputs = Packed::single(Serializer::Postcard.to_bytes(input).unwrap());
    let outcome = plugin.map(&Call::new(Op::NAME, &config, limits), &inputs)?;
    assert_eq!(outcome.failure, None);
    Ok(Serializer::Postcard.from_bytes(&outcome.outputs.get(0).unwrap()).unwrap())
}

/// What there is without any grant: the year 2000 began an hour ago, for which it slept. Random numbers differ between operations, and not between calls.
fn nothing(random: u64) -> Seen {
    Seen { wall: 946_688_400, step: 1000, slept: 3600, random, environment: vec![], data: None, more: false }
}

#[test]
fn an_operation_that_was_not_granted_what_it_needs_is_not_executed() {
    let refused = |plugin: &Plugin, expect: &str, stopped: Result<Seen, Stopped>| {
        let stopped = stopped.unwrap_err();
        assert_eq!(stopped.cause, Cause::PluginUnavailable, "{plugin:?}");
        assert_eq!(stopped.message, format!("it needs `{expect}`, which was not granted"));
    };
    let plugin = asker();
    refused(plugin, "clocks", call(plugin, &LookAtClocks, &0));
    refused(plugin, "entropy", call(plugin, &LookAtEntropy, &0));
    refused(plugin, "env:CARGO_PKG_NAME", call(plugin, &LookAtValue, &0));
    refused(plugin, "dir:/data", call(plugin, &LookAtData, &0));
    let some = allowed(&["clocks", "env:CARGO_PKG_NAME", "entropy"]);
    refused(&some, "dir:/data", call(&some, &LookAtAll, &0));
    // Those that need nothing are, and folding is no way around it.
    let seen = call(plugin, &LookPlain, &0).unwrap();
    assert_eq!(seen, nothing(seen.random));
    let fold = Call::new(LatestIf::NAME, &[7], Limits::default());
    let stopped =
        [plugin.fold(&fold, &[[1], [2]].into_iter().collect()).unwrap_err(), plugin.empty(&fold).unwrap_err()];
    assert!(stopped.iter().all(|stopped| stopped.message == "it needs `clocks`, which was not granted"));
}

#[test]
fn each_operation_has_what_it_needs_and_nothing_else() {
    let data = Data::new();
    let plugin = &data.plugin;
    let plain = call(plugin, &LookPlain, &0).unwrap();
    assert_eq!(plain, nothing(call(asker(), &LookPlain, &0).unwrap().random));

    let seconds = || UnixMillis::now().0 / 1000;
    let before = seconds();
    let seen = call(plugin, &LookAtClocks, &0).unwrap();
    assert!((before..=seconds()).contains(&seen.wall), "{seen:?}");
    // Sleeping takes no time, and the monotonic clock knows of it.
    assert!((3600..3660).contains(&seen.slept), "{seen:?}");
    assert_eq!(Seen { wall: 946_688_400, step: 1000, slept: 3600, ..seen.clone() }, nothing(seen.random));
    assert_eq!(seen.random, call(plugin, &LookAtClocks, &0).unwrap().random);

    let seen = [(); 2].map(|()| call(plugin, &LookAtEntropy, &0).unwrap());
    assert_ne!(seen[0].random, seen[1].random);
    assert_eq!(seen[0], nothing(seen[0].random));

    let seen = call(plugin, &LookAtValue, &0).unwrap();
    let environment = vec![("CARGO_PKG_NAME".to_owned(), "palfrey-host".to_owned())];
    assert_eq!(seen, Seen { environment: environment.clone(), ..nothing(seen.random) });

    let seen = call(plugin, &LookAtData, &0).unwrap();
    let names = ["absolute", "circle", "folder", "inward", "one.txt", "outward", "upward"].map(String::from).to_vec();
    assert_eq!(seen, Seen { data: Some(names.clone()), ..nothing(seen.random) });

    let seen = call(plugin, &LookAtAll, &0).unwrap();
    assert_eq!((seen.environment, seen.data, seen.more), (environment, Some(names), false));
    assert!((before..=seconds()).contains(&seen.wall));
}

#[test]
fn a_directory_is_read_as_it_is() {
    let data = Data::new();
    assert_eq!(data.touch(Action::Read, "/data/one.txt"), "ok one");
    assert_eq!(data.touch(Action::Read, "/data/folder/two.txt"), "ok two");
    assert_eq!(data.touch(Action::Read, "/data/folder/../one.txt"), "ok one");
    assert_eq!(data.touch(Action::Read, "/data/inward"), "ok two");
    assert_eq!(data.touch(Action::List, "/data/folder"), "ok 1");
    assert_eq!(data.touch(Action::Size, "/data/one.txt"), "ok 3");
    assert_eq!(data.touch(Action::ReadLink, "/data/inward"), "ok folder/two.txt");
    assert_eq!(data.touch(Action::Read, "/data/none"), "NotFound");
    // What changes outside is seen by the next call.
    fs::write(data.path("data/one.txt"), "other").unwrap();
    assert_eq!(data.touch(Action::Read, "/data/one.txt"), "ok other");

    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(data.path("data/large"), &large).unwrap();
    let read = |start, count| call(&data.plugin, &ReadBetweenData { start, count }, &"large".to_owned()).unwrap();
    assert!(read(0, u64::MAX) == large);
    assert!(read(1_234_567, 2_000_000) == large[1_234_567..3_234_567]);
    assert!(read(11_999_999, 5) == large[11_999_999..]);
    assert!(read(12_000_000, 5).is_empty());
}

#[test]
fn nothing_outside_of_a_directory_is_reached() {
    let data = Data::new();
    let outside = [
        "/data/../secret",
        "/data/outward",
        "/data/absolute",
        "/data/upward/secret",
        "/data/folder/../../secret",
        "/secret",
        "/etc/passwd",
        "/data/upward/upward/etc/passwd",
        "secret",
        "../secret",
        "/data/circle",
        "/proc/self/environ",
    ];
    for action in [Action::Read, Action::List, Action::Size, Action::Write, Action::Truncate] {
        for path in outside {
            let said = data.touch(action, path);
            assert!(!said.starts_with("ok"), "{action:?} {path}: {said}");
        }
    }
    assert_eq!(data.touch(Action::ReadLink, "/data/upward/data/inward").get(..2), Some("Pe"), "it is not followed");
    assert_eq!(fs::read_to_string(data.path("secret")).unwrap(), "hidden");
}

#[test]
fn nothing_within_a_directory_is_changed() {
    fn snapshot(path: &Path) -> Vec<String> {
        let mut entries: Vec<_> = walkdir::WalkDir::new(path)
            .sort_by_file_name()
            .into_iter()
            .map(|entry| {
                let entry = entry.unwrap();
                let metadata = fs::symlink_metadata(entry.path()).unwrap();
                let text = metadata.is_file().then(|| fs::read_to_string(entry.path()).unwrap());
                format!("{} {text:?} {:?} {:?}", entry.path().display(), metadata.modified(), metadata.permissions())
            })
            .collect();
        entries.sort();
        entries
    }
    let data = Data::new();
    // The worker itself may write there.
    fs::write(data.path("data/one.txt"), "one").unwrap();
    let before = snapshot(data.folder.path());
    let attempts = [
        (Action::Write, "/data/one.txt"),
        (Action::Write, "/data/new"),
        (Action::Write, "/data/inward"),
        (Action::Append, "/data/one.txt"),
        (Action::Truncate, "/data/one.txt"),
        (Action::SetLength, "/data/one.txt"),
        (Action::SetTimes, "/data/one.txt"),
        (Action::SetTimes, "/data/folder"),
        (Action::CreateFolder, "/data/new"),
        (Action::Remove, "/data/one.txt"),
        (Action::Remove, "/data/inward"),
        (Action::RemoveFolder, "/data/folder"),
        (Action::Rename, "/data/one.txt"),
        (Action::Link, "/data/one.txt"),
    ];
    for (action, path) in attempts {
        let said = data.touch(action, path);
        // The C library has no way to set times by a file.
        assert!(["ReadOnlyFilesystem", "Unsupported"].contains(&said.as_str()), "{action:?} {path}: {said}");
    }
    assert_eq!(snapshot(data.folder.path()), before);
}

#[test]
fn what_could_make_the_thread_wait_is_not_opened() {
    let data = Data::new();
    let pipe = data.path("data/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(data.path("data/socket")).unwrap();
    symlink("pipe", data.path("data/to-pipe")).unwrap();
    for path in ["/data/pipe", "/data/socket", "/data/to-pipe"] {
        assert_eq!(data.touch(Action::Read, path), "PermissionDenied", "{path}");
    }
}

#[test]
fn a_guest_that_opens_too_many_files_is_stopped_and_leaves_none_open() {
    let data = Data::new();
    let open = || {
        let files = fs::read_dir("/proc/self/fd").unwrap();
        let path = data.path("data/one.txt");
        files.filter(|file| fs::read_link(file.as_ref().unwrap().path()).is_ok_and(|target| target == path)).count()
    };
    let stopped = call(&data.plugin, &TouchData(Action::OpenMany), &"/data/one.txt".to_owned()).unwrap_err();
    assert_eq!(stopped.cause, Cause::Trap, "{stopped}");
    assert_eq!(open(), 0);
    assert_eq!(data.touch(Action::Read, "/data/one.txt"), "ok one");
}

#[test]
fn a_directory_that_is_gone_is_named() {
    let data = Data::new();
    fs::rename(data.path("data"), data.path("moved")).unwrap();
    let stopped = call(&data.plugin, &LookAtData, &0).unwrap_err();
    assert_eq!(stopped.cause, Cause::Worker);
    let expect = format!("`dir:/data` is allowed here, but {} cannot be opened", data.path("data").display());
    assert!(stopped.message.starts_with(&expect), "{stopped}");
    // Who does not need it does not miss it.
    assert!(call(&data.plugin, &LookAtValue, &0).is_ok());
    fs::rename(data.path("moved"), data.path("data")).unwrap();
    assert!(call(&data.plugin, &LookAtData, &0).is_ok());
}

#[test]
fn a_component_that_needs_what_nobody_can_give_is_refused() {
    let wasm = changed(crate::component("asker"), "env:CARGO_PKG_NAME", "gpu:CARGO_PKG_NAME");
    let error = engine(1).load(&wasm).unwrap_err();
    let chain: Vec<_> = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).collect();
    let chain = chain.iter().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let expect =
        "the operation `look-at-value` needs what this release cannot give: \"gpu:CARGO_PKG_NAME\" is nothing that";
    assert!(chain.contains(expect), "{chain}");
}

#[test]
fn what_an_operation_needs_is_part_of_its_description() {
    let description = asker().description();
    let needs = |name: &str| {
        let operation = description.operation(name).unwrap();
        (operation.needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), operation.is_pure())
    };
    assert_eq!(needs(LookPlain::NAME), (String::new(), true));
    assert_eq!(needs(LookAtAll::NAME), ("clocks entropy env:CARGO_PKG_NAME dir:/data".to_owned(), false));
    assert_eq!(description.needs().len(), 4);
}
