//! What a guest finds around it: the same on every machine, and nothing of this one.

use std::time::{Duration, Instant};

use super::guests::{call, engine, inputs, map, plugin, text, wasm};

#[test]
fn two_engines_look_the_same_from_within() {
    let look = |plugin: &palfrey_host::engine::Plugin, config| {
        text(&plugin.map(&call("look-around", config), &inputs()).unwrap())
    };
    let other = engine(1).load(&wasm()).unwrap();
    let seen = look(plugin(), "1");
    assert_eq!(seen, look(&other, "1"));
    assert_eq!(seen, look(plugin(), "1"));
    assert!(seen.contains("environment [] arguments [] stdin Some(0)"), "{seen}");
    assert!(seen.contains("now 946684800.000001s again 946684800.000002s elapsed 3µs"), "{seen}");
}

#[test]
fn random_numbers_follow_the_operation_and_its_config_and_not_the_batch() {
    let random = |config, inputs| {
        let seen = text(&plugin().map(&call("look-around", config), &inputs).unwrap());
        seen.split(']').next().unwrap().to_owned()
    };
    assert_ne!(random("1", inputs()), random("2", inputs()));
    assert_eq!(random("1", inputs()), random("1", inputs().slice(1..2)));
}

#[test]
fn sleeping_takes_no_time() {
    let start = Instant::now();
    assert_eq!(text(&map("sleep", 3600).unwrap()), "3600");
    assert!(start.elapsed() < Duration::from_secs(60));
    // Six hundred years, beyond what the clock can count.
    assert!(map("sleep", 600 * 365 * 24 * 3600).is_ok());
}

#[test]
fn files_and_network_are_refused() {
    assert_eq!(
        text(&map("look-outside", 0).unwrap()),
        "read refused write refused list refused tcp refused udp refused"
    );
}

#[test]
fn the_attempt_is_told() {
    let mut call = call("ask-context", "0");
    call.attempt = 7;
    assert_eq!(text(&plugin().map(&call, &inputs()).unwrap()), "attempt 7 cancelled false");
}
