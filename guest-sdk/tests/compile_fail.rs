//! Mistakes that the macros answer while compiling. The messages are in the `.stderr` files beside the cases; after a
//! change look at what `TRYBUILD=overwrite cargo test -p palfrey-sdk --test compile_fail` makes of them.

#[test]
fn mistakes_are_answered_with_what_to_do() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
}
