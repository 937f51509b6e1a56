//! Threads, and calls side by side.

use std::sync::Arc;

use super::guests::{call, engine, inputs, wasm};

#[tokio::test]
async fn guests_run_on_the_threads_of_slots_under_the_callers_span() {
    let engine = engine(1);
    let name = engine.run(|| std::thread::current().name().map(ToOwned::to_owned)).await;
    assert_eq!(name.as_deref(), Some("palfrey-slot-0"));
}

#[tokio::test]
async fn more_calls_than_slots_wait_for_their_turn() {
    let engine = engine(2);
    let plugin = engine.load(&wasm()).unwrap();
    let calls = (0..50).map(|_| {
        let plugin = plugin.clone();
        engine.run(move || plugin.fold(&call("echo", "0"), &inputs()).unwrap().unwrap())
    });
    assert!(futures::future::join_all(calls).await.iter().all(|element| element == "abc"));
}

#[test]
fn more_threads_than_slots_do_not_exhaust_the_pool() {
    let plugin = engine(1).load(&wasm()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    plugin.fold(&call("echo", "0"), &inputs()).unwrap().unwrap();
                }
            });
        }
    });
}

#[tokio::test]
async fn plugins_load_while_every_slot_is_busy() {
    let engine = engine(1);
    let plugin = engine.load(&wasm()).unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    let busy = engine.run({
        let (plugin, cancel) = (plugin.clone(), cancel.clone());
        move || {
            let mut call = call("spin", "0");
            call.cancel = cancel;
            plugin.map(&call, &inputs())
        }
    });
    let loads = async {
        let engine = Arc::new(engine.clone());
        let loads = (0..3).map(|_| {
            let engine = Arc::clone(&engine);
            tokio::task::spawn_blocking(move || engine.load(&wasm()).unwrap().digest())
        });
        let digests = futures::future::join_all(loads).await;
        cancel.cancel();
        digests
    };
    let (busy, digests) = tokio::join!(busy, loads);
    assert!(busy.is_err());
    assert!(digests.into_iter().all(|digest| digest.unwrap() == plugin.digest()));
}

#[test]
fn an_engine_for_a_large_machine_starts_on_a_small_one() {
    assert_eq!(engine(256).slots(), 256);
}
