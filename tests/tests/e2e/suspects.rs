//! Tasks that come back again and again, and are not to blame. What kills workers is a fault: see `faults`.

use palfrey_host::{
    directive::*,
    queue::{Connection, QueueKind, QueueSpec},
};
use palfrey_tests::{World, soon};
use probe_1::Stamp;

use crate::batches_of;

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_were_fetched_and_never_begun_are_not_to_blame_for_the_death_of_workers() {
    let world = World::new();
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let source = IndexedStream::from(0..12_u64).options(batches_of(1));
    let results = source.map(&Stamp::QUICK).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.into_values_sorted());
    // One of them holds the slot, the others wait for it: all come back with the worker. Soon all are suspects, and at the end
    // one of them has been attempted twice, the others never.
    for _ in 0..5 {
        let mut doomed = world.start_failing_worker(&["--slots", "1", "--prefetch", "16"], "before-execution=pause");
        doomed.log().until(&["the task goes no further"]).await;
        doomed.signal("KILL");
        assert_eq!(doomed.ended().await, 128 + 9);
    }
    let _worker = world.worker(&["--slots", "1"]).await;
    let results = soon(job).await.unwrap().unwrap();
    assert_eq!(results, (0..12).map(|number| (1, number)).collect::<Vec<_>>());
    let connection = world.connection().await;
    let dead = connection.handle(&QueueSpec::new("default", QueueKind::Tasks).dead_letters().unwrap());
    assert_eq!(soon(dead.status()).await.unwrap().messages, 0);
}
