//! The examples do what they say.

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
