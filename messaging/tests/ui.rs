//! What the macros accept, and what they say to what they do not: one file per mistake.

#[test]
fn correct_uses_compile() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}

#[test]
#[rustversion::attr(not(stable(1.95)), ignore = "the wording is that of the compiler, here 1.95")]
fn mistakes_are_told_where_they_are() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}
