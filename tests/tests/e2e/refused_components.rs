//! Files that are no plugin are refused before anything reaches the broker, and the operator is told what to do.

use std::fs::File;

use palfrey_tests::{World, component};

/// The bytes with each occurrence of a text replaced by one as long.
fn changed(mut wasm: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths are written elsewhere in the component");
    let places: Vec<_> = wasm.windows(from.len()).enumerate().filter(|(_, part)| *part == from.as_bytes()).collect();
    let places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
    assert!(!places.is_empty(), "{from} is not in the component");
    places.iter().for_each(|&place| wasm[place..place + to.len()].copy_from_slice(to.as_bytes()));
    wasm
}

/// A component that speaks another version of the contract.
fn speaking(version: &str) -> Vec<u8> {
    let name = |interface: &str, version: &str| format!("palfrey:plugin/{interface}@{version}");
    ["operations", "context", "types"]
        .into_iter()
        .fold(component("arith"), |wasm, interface| changed(wasm, &name(interface, "0.1.0"), &name(interface, version)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_plugin_is_refused_with_what_is_wrong_and_what_to_do() {
    let world = World::new();
    let guests = component("palfrey-test-guests");
    let mode = |mode: &str| format!("palfrey-test-guests describe:{mode:<7}");
    let table: [(&str, Vec<u8>, &[&str]); 9] = [
        ("a script", b"#!/bin/sh".to_vec(), &["this is not WebAssembly", "deploy the `.wasm` file"]),
        ("a core module", b"\0asm\x01\0\0\0".to_vec(), &["a core module and not a component", "`wasm32-wasip2`"]),
        (
            "another world",
            b"\0asm\x0d\0\x01\0".to_vec(),
            &["does not export `palfrey:plugin/operations@0.1.0`", "it exports nothing", "the world `plugin`"],
        ),
        ("a newer contract", speaking("0.2.0"), &["operations@0.2.0`", "speaks `palfrey", "update the workers"]),
        ("an older contract", speaking("0.0.9"), &["operations@0.0.9`", "build it again with a newer SDK"]),
        (
            "an import",
            changed(guests.clone(), "wasi:cli/environment@0.2", "acme:gpu/environment@0.2"),
            &["imports `acme:gpu/environment@0.2", "which is not granted", "command-line subset of WASI 0.2"],
        ),
        (
            "two of one name",
            changed(guests.clone(), &mode("normal"), &mode("twice")),
            &["description is invalid", "two operations have the name `echo`"],
        ),
        ("half a component", guests[..guests.len() / 2].to_vec(), &["malformed or cut off"]),
        ("one that panics", changed(guests, &mode("normal"), &mode("panic")), &["could not describe itself"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let refused = async |name: &str, code: i32, expected: &[&str]| {
        let file = folder.path().join(name);
        let ran = world.palfrey(&["deploy", file.to_str().unwrap()]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{name}: {}", ran.stderr);
        // What the guest itself said may come before it.
        let error = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(error.contains(name), "the file is named: {}", ran.stderr);
        for text in expected {
            assert!(ran.stderr.contains(text), "{name}: {text}: {}", ran.stderr);
        }
    };
    for (name, bytes, expected) in table {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        refused(name, 5, expected).await;
    }
    // Sparse: it takes no room.
    File::create(folder.path().join("a giant")).unwrap().set_len((64 << 20) + 1).unwrap();
    refused("a giant", 5, &["67108865 bytes", "at most 67108864 bytes are allowed", "strip it"]).await;
    refused("no file", 4, &["cannot read", "No such file"]).await;

    // A good one does not get through in bad company.
    let script = folder.path().join("a script");
    let arith = palfrey_tests::component_file("arith");
    assert_eq!(world.palfrey(&["deploy", arith.to_str().unwrap(), script.to_str().unwrap()]).await.code, 5);
    assert!(world.done(&["plugins"]).await.starts_with("nothing is deployed"));
}
