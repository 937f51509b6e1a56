//! Bad messages by the thousand.

use palfrey_tests::{World, soak::soak};

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_bad_messages_become_dead_letters_and_good_tasks_in_between_are_answered() {
    let world = World::new();
    let soaked = soak(&world, 4000, |_| {}).await;
    assert_eq!(soaked.doubled, 0);
    assert_eq!((soaked.dead, soaked.replayed, soaked.good, soaked.oversized), (3000, 1000, 40, 3));
    let reasons: Vec<_> = soaked.reasons.keys().collect();
    for expected in ["too few for a message", "format version", "the header should have", "malformed", "last offset"] {
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{expected}: {reasons:?}");
    }
}
