//! Guests that no compiler makes: core modules in text, turned into plugins. Each is one test.

use palfrey_host::engine::{LoadError, Plugin};

use super::{
    corpus::{Trial, answers, contract, deadline, memory, trap},
    guests::engine,
};

/// A plugin `raw` whose operation `go` returns the outputs `a`, `bc` and nothing, unless a part of it is replaced.
struct Raw {
    /// More definitions.
    fields: &'static str,
    /// The body of `map`: returns the address of its result.
    map: &'static str,
    /// The body of `cabi_realloc`, with the parameters `$old`, `$old-size`, `$align` and `$size`.
    realloc: &'static str,
    /// The result of `map`, at 4096: address and length of the bytes, address and length of the offsets, whether there is
    /// a failure, and that failure.
    result: [u32; 24],
    /// The offsets.
    ends: [u32; 4],
}

const OUTPUTS: [u32; 24] = [4200, 3, 4208, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Default for Raw {
    fn default() -> Self {
        Self {
            fields: "",
            map: "(i32.const 4096)",
            realloc: "(global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                (global.get $heap)
                (global.set $heap (i32.add (global.get $heap) (local.get $size)))",
            result: OUTPUTS,
            ends: [1, 3, 3, 3],
        }
    }
}

impl Raw {
    fn wasm(&self) -> Vec<u8> {
        let Self { fields, map, realloc, result, ends } = self;
        let words = |words: &[u32]| {
            words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect::<String>()
        };
        let description = words(&[1024, 3, 1032, 5, 3072, 1]);
        let descriptor = words(&[1040, 2, 0, 1024, 0, 1064, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let name = "palfrey:plugin/operations@0.1.0";
        let ten = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)";
        let module = format!(
            r#"(module
                (memory (export "memory") 2)
                (global $heap (mut i32) (i32.const 65536))
                (func (export "cabi_realloc")
                    (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
                    {realloc})
                (func (export "{name}#describe") (result i32) (i32.const 2048))
                (func (export "{name}#map") {ten} (result i32) {map})
                (func (export "{name}#fold") {ten} (result i32) unreachable)
                (func (export "{name}#empty") (param i32 i32 i32 i32 i32 i32) (result i32) unreachable)
                (data (i32.const 1024) "raw")
                (data (i32.const 1032) "0.1.0")
                (data (i32.const 1040) "go")
                (data (i32.const 1048) "postcard")
                (data (i32.const 1064) "{}")
                (data (i32.const 2048) "{description}")
                (data (i32.const 3072) "{descriptor}")
                (data (i32.const 4096) "{}")
                (data (i32.const 4200) "abc")
                (data (i32.const 4208) "{}")
                (data (i32.const 4240) "\ff\fe\ff\fe")
                {fields})"#,
            words(&[1048, 8]),
            words(result),
            words(ends),
        );
        crate::foreign::component(&module)
    }
}

fn load(wasm: &[u8]) -> Result<Plugin, LoadError> {
    engine(1).load(wasm)
}

macro_rules! raw_guests {
    ($($name:ident: $raw:expr => $trial:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let engine = engine(1);
                let plugin = engine.load(&$raw.wasm()).unwrap();
                $trial.run(&plugin, "go");
                let behaves = engine.load(&Raw::default().wasm()).unwrap();
                answers("a").run(&behaves, "go");
            }
        )*

        /// All of them, loaded by one engine.
        pub(crate) fn all(engine: &palfrey_host::engine::Engine) -> Vec<(&'static str, Plugin, Trial)> {
            vec![$((stringify!($name), engine.load(&$raw.wasm()).unwrap(), $trial)),*]
        }
    };
}

fn result(result: [u32; 24]) -> Raw {
    Raw { result, ..Raw::default() }
}

fn outputs(change: impl FnOnce(&mut [u32; 24])) -> Raw {
    let mut changed = OUTPUTS;
    change(&mut changed);
    result(changed)
}

fn ends(ends: [u32; 4]) -> Raw {
    Raw { ends, ..Raw::default() }
}

fn map(map: &'static str) -> Raw {
    Raw { map, ..Raw::default() }
}

fn realloc(realloc: &'static str) -> Raw {
    Raw { realloc, ..Raw::default() }
}

const UNREADABLE: &str = "its answer cannot be read";

raw_guests! {
    behaves: Raw::default() => answers("a");

    bytes_beyond_the_memory: outputs(|it| it[0] = 0xffff_fff0) => contract(UNREADABLE);
    bytes_longer_than_the_memory: outputs(|it| it[1] = 0x7fff_ffff) => contract("");
    offsets_beyond_the_memory: outputs(|it| it[2] = 0xffff_fff0) => contract(UNREADABLE);
    more_offsets_than_the_memory_holds: outputs(|it| it[3] = 0x3fff_ffff) => contract("");
    offsets_out_of_line: outputs(|it| it[2] = 4209) => contract(UNREADABLE);
    result_out_of_line: map("(i32.const 4097)") => contract(UNREADABLE);
    result_beyond_the_memory: map("(i32.const -8)") => contract(UNREADABLE);

    too_few_offsets: outputs(|it| it[3] = 2) => contract("it returned 2 outputs for 3 inputs");
    too_many_offsets: outputs(|it| it[3] = 4) => contract("it returned 4 outputs for 3 inputs");
    no_offsets_for_bytes: outputs(|it| it[3] = 0) => contract("the outputs are malformed");
    offsets_that_decrease: ends([3, 1, 3, 3]) => contract("less than the 3 before it");
    offsets_without_end: ends([1, 2, u32::MAX, 3]) => contract("the outputs are malformed");

    neither_failure_nor_none: outputs(|it| it[4] = 7) => contract(UNREADABLE);
    failure_of_no_kind: outputs(|it| (it[4], it[8]) = (1, 9)) => contract(UNREADABLE);
    strategy_that_is_none: outputs(|it| (it[4], it[8], it[10]) = (1, 1, 9)) => contract(UNREADABLE);
    // A fatal failure of element 0, with a message.
    malformed_message: outputs(|it| (it[1], it[3], it[4], it[8], it[20], it[21]) = (0, 0, 1, 3, 4240, 4)) => contract(UNREADABLE);

    arguments_are_put_beyond_the_memory: realloc("(i32.const -16)") => contract("");
    arguments_are_put_out_of_line: realloc("(i32.const 65537)") => contract("");
    allocator_without_end: realloc("(loop $again (br $again)) unreachable") => deadline();
    allocator_that_traps: realloc("unreachable") => trap("unreachable");
    arguments_are_all_put_at_zero: realloc("(i32.const 0)") => answers("a");

    memory_page_by_page: map("(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (i32.const 4096)")
        => memory("it wanted 8.");
    memory_at_once: map("(drop (memory.grow (i32.const 60000))) (i32.const 4096)") => memory("it wanted 3.");
    table_without_end: Raw {
        fields: "(table $table 1 funcref)",
        map: "(loop $again (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1)))) (i32.const 4096)",
        ..Raw::default()
    } => memory("`table` is the limit to raise");
    fills_memory_for_ever: map("(loop $again (memory.fill (i32.const 8192) (i32.const 0) (i32.const 100000)) (br $again)) (i32.const 4096)")
        => deadline();
    divides_by_zero: map("(i32.div_s (i32.const 1) (i32.const 0))") => trap("divide by zero");
    calls_another_type: Raw {
        fields: "(table $table 1 funcref) (elem (i32.const 0) $other) (func $other) (type $wanted (func (result i32)))",
        map: "(call_indirect $table (type $wanted) (i32.const 0))",
        ..Raw::default()
    } => trap("indirect call type mismatch");
    reads_beyond_the_memory: map("(i32.load (i32.const -8))") => trap("out of bounds memory access");
    recurses: Raw {
        fields: "(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (i32.const 1)))",
        map: "(call $deeper (i32.const 0))",
        ..Raw::default()
    } => trap("call stack exhausted");
}

/// A guest that is not even loaded.
fn refused(wasm: &[u8]) -> (LoadError, String) {
    let error = load(wasm).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let message = format!("{error}: {source}");
    (error, message)
}

fn start(body: &'static str, what: &str) {
    let fields = Box::leak(format!("(start $start) (func $start {body})").into_boxed_str());
    let (error, message) = refused(&Raw { fields, ..Raw::default() }.wasm());
    assert!(matches!(error, LoadError::Describe(_)), "{error:?}");
    assert!(message.contains("could not describe itself") && message.contains(what), "{message}");
}

#[test]
fn a_loop_in_a_start_function_ends_at_the_deadline() {
    start("(loop $again (br $again))", "ran longer than the limit of 5s");
}

#[test]
fn a_trap_in_a_start_function_is_told() {
    start("unreachable", "unreachable");
}

#[test]
fn memory_that_a_start_function_takes_is_limited() {
    start("(drop (memory.grow (i32.const 60000)))", "`memory` is the limit to raise");
}

#[test]
fn data_beyond_the_memory_is_a_trap() {
    let raw = Raw { fields: "(data (i32.const 131070) \"beyond\")", ..Raw::default() };
    let (error, message) = refused(&raw.wasm());
    assert!(matches!(error, LoadError::Describe(_)), "{error:?}");
    assert!(message.contains("out of bounds"), "{message}");
}

#[test]
fn what_would_not_be_the_same_everywhere_or_does_not_fit_is_refused() {
    let component = |fields: &str| wat::parse_str(format!("(component (core module {fields}))")).unwrap();
    for (fields, expect) in [
        ("(memory 1 1 shared)", "threads"),
        ("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))", "threads"),
        ("(memory i64 1)", "64"),
        ("(type (struct))", "gc"),
        ("(tag)", "exceptions"),
    ] {
        let (error, message) = refused(&component(fields));
        assert!(matches!(error, LoadError::Malformed { .. }), "{fields}: {error:?}");
        assert!(message.contains(expect), "{fields}: {message}");
    }
    for (fields, expect) in [
        ("(memory 1) (memory 1) (memory 1)".to_owned(), "memories"),
        ("(memory 60000)".to_owned(), "exceeds the limit"),
        ("(table 1 funcref)".repeat(40), "tables"),
        ("(table 5000000 funcref)".to_owned(), "exceeds the limit"),
    ] {
        let (error, message) = refused(&component(&fields));
        assert!(matches!(error, LoadError::TooDemanding { .. }), "{fields}: {error:?}");
        assert!(message.contains(expect), "{fields}: {message}");
    }
}
