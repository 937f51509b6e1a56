//! Counting words, fast. A text is scanned byte by byte. A word is looked up by its first sixteen bytes, as one number;
//! only longer words are compared as texts. It is copied once, when all are counted.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// Counts the words of a text.
pub(crate) fn count(text: &str) -> BTreeMap<String, u64> {
    let mut counts: HashMap<Word<'_>, u64, BuildHasherDefault<WordHasher>> = HashMap::default();
    counts.reserve((text.len() / 64).min(1 << 12));
    let mut start = length_of_run(text, false);
    while start < text.len() {
        let end = start + length_of_run(&text[start..], true);
        *counts.entry(Word::new(text, start, end)).or_default() += 1;
        start = end + length_of_run(&text[end..], false);
    }
    // With the first byte as the highest, heads are in the order of the words.
    let mut counts: Vec<_> =
        counts.into_iter().map(|(word, count)| (word.head.swap_bytes(), word.text, count)).collect();
    counts.sort_unstable();
    counts.into_iter().map(|(_, word, count)| (word.to_owned(), count)).collect()
}

/// Bytes up to the first character that does not belong to a word, or does.
fn length_of_run(text: &str, in_word: bool) -> usize {
    let bytes = text.as_bytes();
    let mut length = 0;
    while let Some(&byte) = bytes.get(length) {
        if byte.is_ascii() {
            if IN_WORD[byte as usize] != in_word {
                break;
            }
            length += 1;
        } else {
            match text[length..].chars().next() {
                Some(char) if char.is_alphanumeric() == in_word => length += char.len_utf8(),
                _ => break,
            }
        }
    }
    length
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

/// Bytes of a word that are compared as one number.
const HEAD: usize = size_of::<u128>();

#[derive(Eq)]
struct Word<'a> {
    /// The first bytes, little-endian; zero behind the end. No word contains a zero.
    head: u128,
    text: &'a str,
}

impl<'a> Word<'a> {
    fn new(text: &'a str, start: usize, end: usize) -> Self {
        let head = match text.as_bytes()[start..].first_chunk::<HEAD>() {
            Some(head) => u128::from_le_bytes(*head) & MASKS[(end - start).min(HEAD)],
            None => text.as_bytes()[start..end].iter().rev().fold(0, |head, &byte| head << 8 | u128::from(byte)),
        };
        Self { head, text: &text[start..end] }
    }

    fn fits_into_head(&self) -> bool {
        self.head >> (8 * (HEAD - 1)) == 0
    }
}

/// For each length, the bytes of a number that belong to a word of that length.
const MASKS: [u128; HEAD + 1] = {
    let mut masks = [u128::MAX; HEAD + 1];
    let mut length = 0;
    while length < HEAD {
        masks[length] = (1 << (8 * length)) - 1;
        length += 1;
    }
    masks
};

impl PartialEq for Word<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.head == other.head && (self.fits_into_head() || self.text == other.text)
    }
}

impl Hash for Word<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.head as u64);
        state.write_u64((self.head >> 64) as u64);
        if !self.fits_into_head() {
            state.write(self.text.as_bytes());
        }
    }
}

/// Hashes eight bytes at a time, as FxHash does, and mixes at the end because hash tables look at the upper bits. Texts are
/// not chosen to make it collide, and if they were, only their sender would wait.
#[derive(Default)]
struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write_u64(&mut self, bits: u64) {
        self.0 = (self.0.rotate_left(5) ^ bits).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write(&mut self, bytes: &[u8]) {
        let (chunks, tail) = bytes.as_chunks();
        for chunk in chunks {
            self.write_u64(u64::from_le_bytes(*chunk));
        }
        self.write_u64(tail.iter().fold(0, |bits, &byte| bits << 8 | u64::from(byte)));
    }

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
    fn words_that_begin_alike_are_told_apart() {
        let sixteen = "abcdefghijklmnop";
        check(
            &format!("{sixteen} {sixteen}q {sixteen} {sixteen}r {sixteen}r {}", &sixteen[..15]),
            &[(&sixteen[..15], 1), (sixteen, 2), (&format!("{sixteen}q"), 1), (&format!("{sixteen}r"), 2)],
        );
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
