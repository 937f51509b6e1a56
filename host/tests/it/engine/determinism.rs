//! What a guest finds around it: the same on every machine, and nothing of this one.

use std::time::{Duration, Instant};

use super::{
    guests::{call, engine, inputs, map, plugin, text, wasm},
    raw::computing,
};

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

/// Each is an instruction for which x86-64 and AArch64 have code that disagrees, or does something else than the deterministic profile
/// of the specification says, with operands for which it does.
#[test]
fn relaxed_vector_instructions_do_what_the_deterministic_profile_says() {
    fn check(instruction: &str, operands: &[&str], expected: [u32; 4]) {
        let operands = operands.iter().map(|operand| format!("(v128.const {operand})")).collect::<String>();
        let plugin = engine(1).load(&computing(&format!("({instruction} {operands})"))).unwrap();
        let outcome = plugin.map(&call("go", "0"), &inputs()).unwrap();
        assert_eq!(outcome.outputs.get(0).unwrap()[..], expected.map(u32::to_le_bytes).concat(), "{instruction}");
    }
    let all = |shape: &str, lane: &str| format!("{shape} {lane} {lane} {lane} {lane}");
    // A product that is rounded before the sum leaves nothing.
    let [factor, square, minus] = ["0x1.001p0", "0x1.002p0", "-0x1.002p0"].map(|lane| all("f32x4", lane));
    check("f32x4.relaxed_madd", &[&factor, &factor, &minus], [0x3380_0000; 4]);
    check("f32x4.relaxed_nmadd", &[&factor, &factor, &square], [0xb380_0000; 4]);
    check("i32x4.relaxed_trunc_f32x4_s", &["f32x4 nan inf -inf 1.9"], [0, 0x7fff_ffff, 0x8000_0000, 1]);
    check("i32x4.relaxed_trunc_f32x4_u", &["f32x4 nan inf -1.0 1.9"], [0, 0xffff_ffff, 0, 1]);
    let (zeros, nans) = ("f32x4 0.0 -0.0 1.0 nan", "f32x4 -0.0 0.0 nan 1.0");
    check("f32x4.relaxed_min", &[zeros, nans], [0x8000_0000, 0x8000_0000, 0x7fc0_0000, 0x7fc0_0000]);
    check("f32x4.relaxed_max", &[zeros, nans], [0, 0, 0x7fc0_0000, 0x7fc0_0000]);
    let (lanes, indices) = (all("i32x4", "0x05050505"), "i32x4 0x00000000 0x10101010 0x7f7f7f7f 0x80808080");
    check("i8x16.relaxed_swizzle", &[&lanes, indices], [0x0505_0505, 0, 0, 0]);
    let (mask, selected) = ("i32x4 0x0f0f0f0f 0x70707070 0x80808080 -1", [0x0f0f_0f0f, 0x7070_7070, 0x8080_8080, !0]);
    check("i8x16.relaxed_laneselect", &[&all("i32x4", "-1"), &all("i32x4", "0"), mask], selected);
    let least = all("i32x4", "0x80008000");
    check("i16x8.relaxed_q15mulr_s", &[&least, &least], [0x7fff_7fff; 4]);
    let (two, sign) = (all("i32x4", "0x02020202"), all("i32x4", "0x80808080"));
    check("i16x8.relaxed_dot_i8x16_i7x16_s", &[&two, &sign], [0xfe00_fe00; 4]);
}
