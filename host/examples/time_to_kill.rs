//! How long a guest that never ends goes on after it is cancelled, and after its deadline, while all slots are busy with such
//! guests. One line for each.
//!
//! ```sh
//! cargo xtask plugins
//! cargo run --example time_to_kill -- target/wasm32-wasip2/release/palfrey_test_guests.wasm
//! ```

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use palfrey_host::{
    engine::{Call, Engine, EngineConfig, Limits, Plugin},
    task::Packed,
};

const KILLS: usize = 300;
const DEADLINE: Duration = Duration::from_millis(20);

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("usage: time_to_kill FILE")?;
    let slots = thread::available_parallelism()?.get();
    let engine = Engine::new(&EngineConfig { slots, ..EngineConfig::default() })?;
    let plugin = engine.load(&std::fs::read(&path).with_context(|| path.clone())?)?;
    // All slots but one are busy for the whole time, and the last one has the guest that is killed.
    let forever = Call::new("spin", &[], Limits { time: Duration::from_secs(3600), ..Limits::default() });
    println!("{slots} slots on {slots} processors, all of them in endless loops, {KILLS} kills");
    thread::scope(|scope| {
        for _ in 1..slots {
            scope.spawn(|| plugin.map(&forever, &input()));
        }
        report("cancelled", (0..KILLS).map(|_| cancelled(&plugin)).collect());
        report("deadline", (0..KILLS).map(|_| late(&plugin)).collect());
        forever.cancel.cancel();
    });
    Ok(())
}

fn input() -> Packed {
    [[0]].into_iter().collect()
}

/// From the cancellation of a guest to the end of its call.
fn cancelled(plugin: &Plugin) -> Duration {
    let call = Call::new("spin", &[], Limits::default());
    let cancel = call.cancel.clone();
    thread::scope(|scope| {
        let end = scope.spawn(move || {
            plugin.map(&call, &input()).expect_err("it never ends by itself");
            Instant::now()
        });
        #[expect(clippy::disallowed_methods, reason = "the guest should be in its loop by then")]
        thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        cancel.cancel();
        end.join().map_or(Duration::MAX, |end| end - start)
    })
}

/// From the deadline of a guest to the end of its call.
fn late(plugin: &Plugin) -> Duration {
    let call = Call::new("spin", &[], Limits { time: DEADLINE, ..Limits::default() });
    let start = Instant::now();
    plugin.map(&call, &input()).expect_err("it never ends by itself");
    start.elapsed().saturating_sub(DEADLINE)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what:10} median {:.1?}, 99 of 100 within {:.1?}, slowest {:.1?}", at(0.5), at(0.99), at(1.0));
}
