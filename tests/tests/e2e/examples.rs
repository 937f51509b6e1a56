//! The examples do what they say.

use std::{os::unix::fs::symlink, process::Command};

use palfrey_tests::{Ran, World, component_file, example_file};

#[tokio::test(flavor = "multi_thread")]
async fn the_fibonacci_example_is_the_same_in_memory_and_over_rabbitmq() {
    let world = World::new();
    let _workers = world.workers::<2>(&[]).await;
    let plugin = component_file("arith");
    for runtime in ["in-memory", "amqp"] {
        let arguments = ["--plugin", plugin.to_str().unwrap(), "--runtime", runtime];
        let Ran { code, stdout, stderr } = world.run(example_file("fib"), &arguments).await;
        assert_eq!((code, stdout.as_str()), (0, "143\n"), "{runtime}: {stderr}");
    }
}

/// The blocks of code in a document that begin with a line.
fn blocks<'a>(document: &'a str, first_line: &str) -> Vec<&'a str> {
    let begin = format!("```{first_line}\n");
    document.split(&begin).skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

#[test]
fn the_first_operation_of_the_readme_prints_what_the_readme_says() {
    let readme = include_str!("../../../README.md");
    let code = blocks(readme, "rust");
    assert!(code.contains(&include_str!("../../shout/src/lib.rs")), "it is built from tests/shout: change both");
    assert!(code.contains(&include_str!("../../shout/examples/shout.rs")), "it is built from tests/shout: change both");
    let expected = blocks(readme, "console\n$ cargo run --example shout");

    // It finds its component where cargo puts it.
    let folder = tempfile::tempdir().unwrap();
    let target = component_file("shout").ancestors().nth(3).unwrap().to_owned();
    symlink(target, folder.path().join("target")).unwrap();
    let output = Command::new(example_file("shout")).current_dir(folder.path()).output().unwrap();
    assert_eq!(expected, [String::from_utf8(output.stdout).unwrap()], "{}", String::from_utf8_lossy(&output.stderr));
}
