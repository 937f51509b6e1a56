//! The operations as functions.

use std::collections::BTreeMap;

use palfrey_sdk::{Monoid, Operation, Result};
use text::{CharToString, Concat, MergeCounts, WordCount};

fn counts(text: &str) -> Result<BTreeMap<String, u64>> {
    WordCount.execute(text.to_owned())
}

#[test]
fn words_are_runs_of_letters_digits_and_underscores_of_every_alphabet() -> Result<()> {
    let check = |text: &str, expected: &[(&str, u64)]| -> Result<()> {
        let expected = expected.iter().map(|&(word, count)| (word.to_owned(), count)).collect::<BTreeMap<_, _>>();
        assert_eq!(counts(text)?, expected, "{text:?}");
        Ok(())
    };
    check("", &[])?;
    check(" \n\t—", &[])?;
    check("fn main() { x_1 += x_1; }", &[("fn", 1), ("main", 1), ("x_1", 2)])?;
    check("don't", &[("don", 1), ("t", 1)])?;
    check("Word word", &[("Word", 1), ("word", 1)])?;
    check("Übermaß… Übermaß, слово；言葉", &[("Übermaß", 2), ("слово", 1), ("言葉", 1)])?;
    check("a\u{a0}b", &[("a", 1), ("b", 1)])
}

#[test]
fn merged_counts_are_those_of_the_joined_text() -> Result<()> {
    let merged = MergeCounts.combine(counts("to be or")?, counts("not to be")?)?;
    assert_eq!(merged, counts("to be or not to be")?);
    Ok(())
}

#[test]
fn the_order_of_merging_does_not_matter() -> Result<()> {
    let (long, short) = (counts("a b c d a")?, counts("a")?);
    assert_eq!(MergeCounts.combine(long.clone(), short.clone())?, MergeCounts.combine(short, long)?);
    Ok(())
}

#[test]
fn identities_change_nothing() -> Result<()> {
    let some = counts("one two two")?;
    assert_eq!(MergeCounts.combine(MergeCounts.empty(), some.clone())?, some);
    assert_eq!(MergeCounts.combine(some.clone(), MergeCounts.empty())?, some);
    assert_eq!(Concat.combine(Concat.empty(), "x".to_owned())?, "x");
    Ok(())
}

#[test]
fn characters_concatenate_in_their_order() -> Result<()> {
    let mut text = Concat.empty();
    for char in "pälfrey".chars() {
        text = Concat.combine(text, CharToString.execute(char)?)?;
    }
    assert_eq!(text, "pälfrey");
    Ok(())
}
