//! What an operator sees of the plugins, and what is refused.

use palfrey_tests::{World, component, component_file};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_is_deployed_by_whom_and_what_became_of_it() {
    let world = World::new();
    assert_eq!(world.done(&["plugins"]).await, "nothing is deployed; `palfrey deploy FILE` deploys a plugin\n");

    let [one, two, arith] = ["probe-1", "probe-2", "arith"].map(component_file);
    let [one, two, arith] = [&one, &two, &arith].map(|file| file.to_str().unwrap());
    let deployed = world.done(&["deploy", one, arith]).await;
    assert!(deployed.contains("deployed probe 1.0.0 (sha256:") && deployed.contains("6 operations"), "{deployed}");
    assert!(world.done(&["deploy", one]).await.starts_with("probe 1.0.0 is active already"));
    let deployed = world.done(&["deploy", two]).await;
    assert!(deployed.starts_with("deployed probe 2.0.0 in place of 1.0.0 (sha256:"), "{deployed}");

    let table = world.done(&["plugins"]).await;
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["PLUGIN", "VERSION", "STATE", "OPERATIONS", "SIZE", "DIGEST", "DEPLOYED", "BY"]);
    assert_eq!(rows[1][..3], ["arith", "0.1.0", "active"]);
    assert_eq!(rows[2][..5], ["probe", "2.0.0", "active", "stamp", "measure"]);
    assert_eq!(rows[2].last(), Some(&"tester@here"));

    assert!(world.done(&["rollback", "probe"]).await.starts_with("probe 1.0.0 is active again (sha256:"));
    assert_eq!(world.done(&["undeploy", "probe"]).await, "undeployed probe\n");
    let plugins: Value = serde_json::from_str(&world.done(&["plugins", "--json"]).await).unwrap();
    assert_eq!(plugins.as_array().unwrap().len(), 1);
    assert_eq!(plugins[0]["name"], "arith");

    let history: Value = serde_json::from_str(&world.done(&["inspect", "probe", "--json"]).await).unwrap();
    let events = history["deployment"]["events"].as_array().unwrap();
    let events: Vec<_> = events.iter().map(|event| format!("{} {}", event["what"], event["version"])).collect();
    let expected = [r#""deployed" "1.0.0""#, r#""deployed" "2.0.0""#, r#""rolled back" "1.0.0""#, r#""undeployed" """#];
    assert_eq!(events, expected);

    // A file needs no broker.
    let nowhere = World::at("amqp://127.0.0.1:1/%2f".to_owned());
    let sheet = nowhere.done(&["inspect", two]).await;
    for line in ["probe 2.0.0", "palfrey:plugin/context@0.1.0", "  stamp (postcard, cbor)", "work: u64"] {
        assert!(sheet.contains(line), "{line}: {sheet}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_state_of_the_registry_forbids_is_refused_with_the_reason() {
    let world = World::new();
    world.deploy(&["arith"]).await;
    let refused = async |arguments: &[&str], code: i32, expected: &str| {
        let ran = world.palfrey(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
    };
    refused(&["undeploy", "arit"], 4, "there is no plugin `arit`: did you mean `arith`?").await;
    refused(&["inspect", "text"], 4, "there is no plugin `text`: there are `arith`").await;
    refused(&["rollback", "arith"], 5, "`arith` has no deployment before sha256:").await;
    refused(&["rollback", "arith", "--to", "9.9.9"], 4, "version 9.9.9 of `arith` was never deployed").await;
    let digest = format!("sha256:{}", "0".repeat(64));
    refused(&["rollback", "arith", "--to", &digest], 4, "was never deployed as `arith`").await;
    world.done(&["undeploy", "arith"]).await;
    refused(&["undeploy", "arith"], 5, "plugin `arith` is not deployed").await;
    world.done(&["rollback", "arith"]).await;

    // The same version with other bytes: a custom section more.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("arith.wasm");
    let section = [0, 5, 4, b'm', b'o', b'r', b'e'];
    std::fs::write(&file, [&component("arith")[..], &section].concat()).unwrap();
    let file = file.to_str().unwrap();
    refused(&["deploy", file], 5, "version 0.1.0 of `arith` was deployed before with other bytes").await;
    refused(&["deploy", file], 5, "raise the version, or use --force to replace it").await;
    assert!(world.done(&["deploy", file, "--force"]).await.starts_with("deployed arith 0.1.0 in place of 0.1.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_named_with_what_to_write() {
    let world = World::at("amqp://127.0.0.1:1/%2f".to_owned());
    let refused = async |arguments: &[&str], expected: &[&str]| {
        let ran = world.palfrey(arguments).await;
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stderr);
        for text in expected {
            assert!(ran.stderr.contains(text), "{arguments:?}: {}", ran.stderr);
        }
    };
    refused(&["deploy"], &["<FILE>..."]).await;
    refused(&["rollback", "arith", "--to", "newest"], &["neither a version such as `1.2.0` nor a digest"]).await;
    refused(&["worker", "--limit", "speed=5"], &["use `memory`, `table`, `time`, `output` or `log`"]).await;
    refused(&["worker", "--runtime", "in-memory"], &["use `--runtime amqp`"]).await;
    refused(&["plugins", "--amqp-uri", "http://host"], &["the scheme is `http`", "write amqp://user:"]).await;

    let folder = tempfile::tempdir().unwrap();
    let occupied = folder.path().join("occupied");
    std::fs::write(&occupied, "").unwrap();
    let (occupied, arith) = (occupied.to_str().unwrap(), component_file("arith"));
    let reason = ["the cache folder `", "occupied/machine-code` cannot be made", "choose another one"];
    refused(&["deploy", "--cache-dir", occupied, arith.to_str().unwrap()], &reason).await;
}
