//! Guests that want more than they may have.

use std::{
    thread,
    time::{Duration, Instant},
};

use palfrey_host::{engine::Limits, task::Cause};
use tokio_util::sync::CancellationToken;

use super::guests::{call, check, engine_with, inputs, plugin, wasm};

#[test]
fn a_loop_ends_at_the_deadline() {
    let limit = Duration::from_millis(50);
    let mut call = call("spin", "0");
    call.limits.time = limit;
    let start = Instant::now();
    let stopped = plugin().map(&call, &inputs()).unwrap_err();
    assert_eq!(stopped.cause, Cause::Deadline { limit });
    assert!(stopped.to_string().contains("ran longer than the limit of 50ms: it did not return"), "{stopped}");
    assert!(start.elapsed() >= limit);
}

#[test]
fn a_loop_ends_when_it_is_cancelled() {
    let call = call("await-cancellation", "0");
    let cancel = call.cancel.clone();
    let stopped = thread::scope(|scope| {
        let stopped = scope.spawn(|| plugin().map(&call, &inputs()).unwrap_err());
        cancel.cancel();
        stopped.join().unwrap()
    });
    assert_eq!(stopped.cause, Cause::Cancelled);
}

#[test]
fn a_cancelled_call_does_not_start() {
    let mut call = call("echo", "0");
    call.cancel = CancellationToken::new();
    call.cancel.cancel();
    assert_eq!(plugin().map(&call, &inputs()).unwrap_err().cause, Cause::Cancelled);
}

#[test]
fn memory_without_end_is_refused_at_the_limit() {
    let limit = 32 << 20;
    let mut call = call("allocate", "0");
    call.limits.memory = limit;
    let stopped = plugin().map(&call, &inputs()).unwrap_err();
    assert_eq!(stopped.cause, Cause::Memory { limit });
    assert!(stopped.message.contains("`memory` is the limit to raise"), "{stopped}");
    check("allocate", 0, &Cause::Memory { limit: Limits::default().memory }, "it wanted 512.");
}

#[test]
fn a_limit_above_what_the_engine_has_room_for_is_cut() {
    let plugin = engine_with(&["memory=16MiB"]).load(&wasm()).unwrap();
    let mut call = call("allocate", "0");
    call.limits.memory = 1 << 30;
    assert_eq!(plugin.map(&call, &inputs()).unwrap_err().cause, Cause::Memory { limit: 16 << 20 });
}

#[test]
fn a_table_above_the_limit_is_refused() {
    let mut call = call("echo", "0");
    call.limits.table_elements = 3;
    let stopped = plugin().map(&call, &inputs()).unwrap_err();
    assert_eq!(stopped.cause, Cause::Memory { limit: 24 });
    assert!(stopped.message.contains("3 are allowed; `table` is the limit to raise"), "{stopped}");
}

#[test]
fn recursion_without_end_is_a_trap() {
    check("recurse", 0, &Cause::Trap, "in `");
}

#[test]
fn an_output_above_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let limit = 1 << 20;
    let size_of = |size: u64, stopped: &str| {
        let parameter = size.to_string();
        let mut call = call("return-bytes", &parameter);
        call.limits.output = limit;
        let one = inputs().slice(0..1);
        if stopped.is_empty() {
            assert_eq!(plugin().map(&call, &one).unwrap().outputs.bytes().len() as u64, size);
            assert_eq!(plugin().fold(&call, &one).unwrap().unwrap().len() as u64, size);
            assert_eq!(plugin().empty(&call).unwrap().unwrap().len() as u64, size);
        } else {
            for stop in [plugin().map(&call, &one).unwrap_err(), plugin().fold(&call, &one).unwrap_err()] {
                assert_eq!(stop.cause, Cause::OutputTooLarge { limit });
                assert!(stop.message.contains(stopped), "{stop}");
            }
        }
    };
    size_of(limit, "");
    size_of(limit + 1, "it has 1048577 bytes; `output` is the limit to raise");
    // Far too much is not even copied.
    size_of(100 << 20, "it is larger than 1.0 MiB; `output` is the limit to raise");
}
