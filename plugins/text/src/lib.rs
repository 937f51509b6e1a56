//! Words and texts.

use std::collections::{BTreeMap, HashMap};

use palfrey_sdk::{Monoid, Operation, RemoteExecute, Result, Schema};
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

palfrey_sdk::registry!(WordCount, MergeCounts, Concat, CharToString);

/// Counts the words of a text: longest runs of letters, digits and underscores, case-sensitive.
///
/// Letters and digits are what Unicode calls alphanumeric.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct WordCount;

impl Operation for WordCount {
    type Input = String;
    type Output = BTreeMap<String, u64>;

    fn execute(&self, text: String) -> Result<BTreeMap<String, u64>> {
        let mut counts: HashMap<_, _, FxBuildHasher> = HashMap::default();
        let between_words = |char: char| !char.is_alphanumeric() && char != '_';
        for word in text.split(between_words).filter(|word| !word.is_empty()) {
            *counts.entry(word).or_default() += 1;
        }
        Ok(counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect())
    }
}

/// Adds up counts, such as those of words.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct MergeCounts;

impl Monoid for MergeCounts {
    type Elem = BTreeMap<String, u64>;

    fn empty(&self) -> Self::Elem {
        BTreeMap::new()
    }

    fn combine(&self, left: Self::Elem, right: Self::Elem) -> Result<Self::Elem> {
        let (mut sums, addends) = if left.len() < right.len() { (right, left) } else { (left, right) };
        for (word, count) in addends {
            *sums.entry(word).or_default() += count;
        }
        Ok(sums)
    }
}

/// Joins texts, in their order.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Concat;

impl Monoid for Concat {
    type Elem = String;

    fn empty(&self) -> String {
        String::new()
    }

    fn combine(&self, left: String, right: String) -> Result<String> {
        Ok(left + &right)
    }
}

/// Makes a text of a single character.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct CharToString;

impl Operation for CharToString {
    type Input = char;
    type Output = String;

    fn execute(&self, char: char) -> Result<String> {
        Ok(char.to_string())
    }
}
