//! Counting words, fast: the texts are scanned byte by byte, and a word is copied once, when it is seen first.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

/// Counts the words of a text.
pub(crate) fn count(text: &str) -> BTreeMap<String, u64> {
    let mut counts: HashMap<&str, u64, BuildHasherDefault<WordHasher>> = HashMap::default();
    let mut rest = text;
    while let Some(start) = find(rest, true) {
        let end = find(&rest[start..], false).map_or(rest.len(), |length| start + length);
        *counts.entry(&rest[start..end]).or_default() += 1;
        rest = &rest[end..];
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

/// Offset of the first character that belongs to a word, or does not.
fn find(text: &str, wanted: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        if byte.is_ascii() {
            if IN_WORD[byte as usize] == wanted {
                return Some(i);
            }
            i += 1;
        } else {
            let char = text[i..].chars().next()?;
            if char.is_alphanumeric() == wanted {
                return Some(i);
            }
            i += char.len_utf8();
        }
    }
    None
}

/// Whether an ASCII character belongs to a word.
const IN_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_';
        byte += 1;
    }
    table
};

/// Hashes eight bytes at a time, as FxHash does, with a final mix because hash tables look at the upper bits. Texts are
/// not chosen to make it collide, and if they were, only their sender would wait.
#[derive(Default)]
struct WordHasher(u64);

impl WordHasher {
    fn add(&mut self, bits: u64) {
        self.0 = (self.0.rotate_left(5) ^ bits).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, tail) = bytes.as_chunks();
        for chunk in chunks {
            self.add(u64::from_le_bytes(*chunk));
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.add(u64::from_le_bytes(last));
    }

    /// The terminator that strings have when they are hashed; a word needs none.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, u64)]) {
        let expected = expected.iter().map(|&(word, count)| (word.to_owned(), count)).collect::<BTreeMap<_, _>>();
        assert_eq!(count(text), expected, "{text:?}");
    }

    #[test]
    fn words_are_runs_of_letters_digits_and_underscores() {
        check("", &[]);
        check(" \n\t—", &[]);
        check("fn main() { x_1 += x_1; }", &[("fn", 1), ("main", 1), ("x_1", 2)]);
        check("don't", &[("don", 1), ("t", 1)]);
        check("Word word", &[("Word", 1), ("word", 1)]);
    }

    #[test]
    fn letters_of_every_alphabet_count() {
        check("Übermaß… Übermaß, слово；言葉", &[("Übermaß", 2), ("слово", 1), ("言葉", 1)]);
        check("a\u{a0}b", &[("a", 1), ("b", 1)]);
    }

    #[test]
    fn it_counts_what_the_plain_definition_counts() {
        let text = include_str!("words.rs");
        let mut expected = BTreeMap::new();
        for word in text.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty()) {
            *expected.entry(word.to_owned()).or_default() += 1;
        }
        assert_eq!(count(text), expected);
    }
}
