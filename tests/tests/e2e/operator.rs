//! What an operator is told of changes, and of those that are refused.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
};

use palfrey_tests::{World, component, component_file, soon};
use serde_json::Value;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_told_when_it_is_made_and_remembered() {
    let world = World::new();
    let [one, two] = ["probe-1", "probe-2"].map(component_file);
    let [one, two] = [&one, &two].map(|file| file.to_str().unwrap());
    let told = async |arguments: &[&str], expected: &str| {
        let told = world.done(arguments).await;
        assert!(told.starts_with(expected), "{arguments:?}: {told}");
    };
    told(&["deploy", one], "deployed probe 1.0.0 (sha256:").await;
    told(&["deploy", two], "deployed probe 2.0.0 in place of 1.0.0 (sha256:").await;
    told(&["rollback", "probe"], "probe 1.0.0 is active again (sha256:").await;
    told(&["rollback", "probe", "--to", "2.0.0"], "probe 2.0.0 is active again (sha256:").await;
    told(&["rollback", "probe", "--to", "2.0.0"], "probe 2.0.0 is active already (sha256:").await;
    told(&["undeploy", "probe"], "undeployed probe\n").await;

    let sheet: Value = serde_json::from_str(&world.done(&["inspect", "probe", "--json"]).await).unwrap();
    let events = sheet["deployment"]["events"].as_array().unwrap();
    let text = |event: &Value| {
        let field = |name: &str| event[name].as_str().unwrap().to_owned();
        format!("{} {} by {}", field("what"), field("version"), field("who"))
    };
    assert_eq!(
        events.iter().map(text).collect::<Vec<_>>(),
        [
            "deployed 1.0.0 by tester@here",
            "deployed 2.0.0 by tester@here",
            "rolled back 1.0.0 by tester@here",
            "rolled back 2.0.0 by tester@here",
            "undeployed  by tester@here",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_other_bytes_is_refused_unless_it_is_forced() {
    let world = World::new();
    world.deploy(&["arith"]).await;
    // A custom section more: its ID, its size, its name.
    let section = [0, 5, 4, b'm', b'o', b'r', b'e'];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("arith.wasm");
    std::fs::write(&file, [&component("arith")[..], &section].concat()).unwrap();
    let file = file.to_str().unwrap();
    let refused = world.palfrey(&["deploy", file]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (5, ""));
    assert!(
        refused.stderr.starts_with("error: version 0.1.0 of `arith` was deployed before with other bytes (sha256:")
    );
    assert!(refused.stderr.ends_with("): raise the version, or use --force to replace it\n"), "{}", refused.stderr);
    let forced = world.done(&["deploy", file, "--force"]).await;
    assert!(forced.starts_with("deployed arith 0.1.0 in place of 0.1.0 (sha256:"), "{forced}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_folder_that_cannot_be_written_is_named() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    // Not even root can make a folder below a file.
    let occupied = folder.path().join("occupied");
    std::fs::write(&occupied, "").unwrap();
    let (occupied, arith) = (occupied.to_str().unwrap(), component_file("arith"));
    for arguments in [&["worker"][..], &["deploy", arith.to_str().unwrap()]] {
        let refused = world.palfrey(&[arguments, &["--cache-dir", occupied]].concat()).await;
        assert_eq!(refused.code, 2, "{arguments:?}: {}", refused.stderr);
        let expected = format!("error: the cache folder `{occupied}/machine-code` cannot be made");
        assert!(refused.stderr.contains(&expected), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("choose another one, or run without a cache"), "{}", refused.stderr);
    }
}

/// For root nothing is forbidden, so the binary runs as another user: from a place that everybody can reach, on a folder of
/// that user's.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_folder_that_is_not_writable_is_named() {
    let world = World::new();
    let place = tempfile::tempdir().unwrap();
    let (binary, cache) = (place.path().join("palfrey"), place.path().join("cache"));
    let folder = cache.join("machine-code");
    fs::copy(palfrey_tests::palfrey_file(), &binary).unwrap();
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o500)).unwrap();
    let mut command = Command::new(&binary);
    if fs::metadata(&folder).unwrap().uid() == 0 {
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["worker", "--amqp-uri", world.uri(), "--cache-dir", cache.to_str().unwrap()]).kill_on_drop(true);
    let refused = soon(command.output()).await.unwrap();
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    let expected = format!("error: the cache folder `{}` is not writable (Permission denied", folder.display());
    assert!(stderr.contains(&expected), "{stderr}");
    assert!(stderr.contains("choose another one, or run without a cache"), "{stderr}");
}

/// A user that owns nothing.
const NOBODY: u32 = 65534;
