//! Jobs come out right, whoever executes them.

use arith::{FibAt, MultiplyBy, Sum};
use futures::future::join_all;
use palfrey_host::{Config, Runtime, directive::*};
use palfrey_sdk::Serializer;
use palfrey_tests::{World, soon};
use text::{CharToString, Concat, MergeCounts, WordCount};

use crate::{batches_of, long_text};

#[tokio::test(flavor = "multi_thread")]
async fn jobs_on_worker_processes_have_the_results_of_plain_loops() {
    let world = World::new();
    let _workers = world.workers::<2>(&[]).await;
    world.deploy(&["arith", "text"]).await;
    let runtime = world.runtime().await;

    let fibonacci = IndexedStream::from(1..=10).map(&FibAt).fold(&Sum).run(&runtime);
    assert_eq!(soon(fibonacci).await.unwrap(), 143);

    let products = IndexedStream::from(0..3000_u64).map(&MultiplyBy(3)).run(&runtime).await.unwrap();
    let expected: Vec<_> = (0..3000).map(|number| number * 3).collect();
    assert_eq!(soon(products.into_values_sorted()).await.unwrap(), expected);

    let literal = Literal::new(10).map(&FibAt).map(&MultiplyBy(2)).run(&runtime);
    assert_eq!(soon(literal).await.unwrap(), 110);

    let nothing = IndexedStream::from(Vec::<char>::new()).map(&CharToString).fold(&Concat).run(&runtime);
    assert_eq!(soon(nothing).await.unwrap(), "");

    let called = runtime.call("arith/fib-at", &[][..], vec![10]);
    assert_eq!(soon(called).await.unwrap()[..], [55]);

    let lines = long_text(20_000).lines().map(str::to_owned).collect::<Vec<_>>();
    let counts = IndexedStream::from(lines).map(&WordCount).fold(&MergeCounts).run(&runtime);
    assert_eq!(soon(counts).await.unwrap()["17"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monoid_that_is_not_commutative_comes_out_in_order_from_worker_processes() {
    let world = World::new();
    let _workers = world.workers::<3>(&["--slots", "1"]).await;
    world.deploy(&["text"]).await;
    let runtime = world.runtime().await;
    let text = long_text(5000);
    for options in [batches_of(7), JobOptions::default()] {
        let source = IndexedStream::from(text.chars().collect::<Vec<_>>()).options(options);
        assert_eq!(soon(source.map(&CharToString).fold(&Concat).run(&runtime)).await.unwrap(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_share_workers_and_get_their_own_results() {
    let world = World::new();
    let _workers = world.workers::<2>(&[]).await;
    world.deploy(&["arith"]).await;
    let programs = (1..=5_u64).map(|factor| {
        // In turn, since workers understand whatever a program speaks.
        let serializer = if factor % 2 == 0 { Serializer::Cbor } else { Serializer::Postcard };
        let config = Config { serializer, ..world.config() };
        async move {
            let runtime = Runtime::from_config(&config).await.unwrap();
            let multiply = MultiplyBy(factor);
            let job = |until: u64| {
                let source = IndexedStream::from(0..until).options(batches_of(11));
                source.map(&multiply).fold(&Sum).run(&runtime)
            };
            let (some, more) = futures::try_join!(job(500), job(1000)).unwrap();
            runtime.close().await.unwrap();
            (some, more)
        }
    });
    let sums = soon(join_all(programs)).await;
    let expected: Vec<_> = (1..=5_u64).map(|factor| (factor * 124_750, factor * 499_500)).collect();
    assert_eq!(sums, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_later_has_what_was_deployed_before_it() {
    let world = World::new();
    world.deploy(&["probe-1", "arith"]).await;
    world.deploy(&["probe-2"]).await;
    let runtime = world.runtime().await;
    // The tasks are there before the worker as well.
    let job = IndexedStream::from(0..100_u64).options(batches_of(9)).map(&MultiplyBy(2)).fold(&Sum).run(&runtime);
    let late = async {
        let worker = world.worker(&[]).await;
        worker.log().until(&["loaded", "plugin=\"probe\"", "version=2.0.0"]).await;
        worker
    };
    let (sum, _worker) = soon(async { futures::join!(job, late) }).await;
    assert_eq!(sum.unwrap(), 9900);
    let earlier = runtime.call("probe/measure@^1", &[][..], vec![7]);
    assert_eq!(soon(earlier).await.unwrap()[..], [7]);
}
