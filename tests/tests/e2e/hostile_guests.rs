//! Guests that misbehave, on a worker process.

use palfrey_tests::{World, hostile::endure};

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_guest_ends_as_it_should_on_a_worker_that_goes_on_and_holds_no_more_than_before() {
    let world = World::new();
    let endured = endure(&world, 1, |_| {}).await;
    assert!(endured.tasks >= 2 * 42, "{endured}");
}
