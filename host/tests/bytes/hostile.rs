//! How hostile bytes are made, and what must hold for them.

use std::fmt::{Debug, Display};

use bytes::Bytes;

/// An error is a line in a log. What it is about may be a hundred megabytes.
pub(crate) const LONGEST_ERROR: usize = 1000;

/// Bytes by which a decoder may exceed the multiple of its input: serde reserves up to 1 MiB for a list whose length the
/// input claims, and lists nest two deep.
const RESERVED: u64 = 4 << 20;

/// Reads an input of any kind as instructions; behind its end there are zeros.
pub(crate) struct Instructions<'a>(&'a [u8]);

impl<'a> Instructions<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    pub(crate) fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Does something with some bytes that takes no more memory than a multiple of them, above what is always allowed.
pub(crate) fn within<T>(expansion: u64, bytes: &[u8], work: impl FnOnce() -> T) -> T {
    let mut done = None;
    let allocated = allocation_counter::measure(|| done = Some(work())).bytes_max;
    let bound = expansion * bytes.len() as u64 + RESERVED;
    assert!(allocated <= bound, "{allocated} bytes for {} of input, more than {bound}", bytes.len());
    done.unwrap()
}

/// The input itself, or one of the samples with some edits.
pub(crate) fn hostile(samples: &[Bytes], input: &[u8]) -> Bytes {
    let mut instructions = Instructions::new(input);
    let choice = usize::from(instructions.byte());
    let Some(sample) = samples.get(choice % (samples.len() + 1)) else {
        return instructions.rest().to_vec().into();
    };
    let mut bytes = sample.to_vec();
    while !instructions.is_empty() {
        edit(&mut bytes, &mut instructions);
    }
    bytes.into()
}

fn edit(bytes: &mut Vec<u8>, instructions: &mut Instructions<'_>) {
    let operation = instructions.byte();
    let at = instructions.number() % (bytes.len() + 1);
    let end = |length: usize| bytes.len().min(at + length);
    match operation % 8 {
        0 => bytes.truncate(at),
        1 => drop(bytes.splice(at..end(1), [instructions.byte()])),
        2 => bytes.insert(at, instructions.byte()),
        3 => drop(bytes.drain(at..end(usize::from(instructions.byte())))),
        // Four bytes as a length has them.
        4 => drop(bytes.splice(at..end(4), [0, 0, instructions.byte(), instructions.byte()])),
        // A number that is as large as it can be, in both encodings.
        5 => drop(bytes.splice(at..end(1), [0xff, 0xff, 0xff, 0xff, 0x0f])),
        6 => drop(bytes.splice(at..end(1), [0x9b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])),
        // A part many times: long texts and lists.
        _ => {
            let part = bytes[at..end(usize::from(instructions.byte() % 16) + 1)].to_vec();
            let times = instructions.number() % 4096;
            drop(bytes.splice(at..at, part.repeat(times)));
        }
    }
}

/// A decoder under attack.
pub(crate) struct Decoder<T, E> {
    pub(crate) samples: Vec<Bytes>,
    pub(crate) decode: fn(Bytes) -> Result<T, E>,
    pub(crate) encode: fn(&T) -> Bytes,
    /// Bytes of memory that a byte of the input may take, above what serde reserves.
    pub(crate) expansion: u64,
}

impl<T: PartialEq + Debug, E: Display + Debug> Decoder<T, E> {
    /// What must hold for all bytes: no panic, memory within bounds, an error that fits into a line, and what was decoded
    /// encodes to bytes that mean the same and that end where they end.
    pub(crate) fn attack(&self, input: &[u8]) {
        let bytes = hostile(&self.samples, input);
        match self.decode_within_bounds(&bytes) {
            Ok(value) => {
                let again = (self.encode)(&value);
                assert_eq!(&(self.decode)(again).expect("what was decoded is encoded"), &value);
                self.refused(&bytes[..bytes.len() - 1]);
                self.refused(&[&bytes, &[0][..]].concat());
            }
            Err(error) => {
                let text = error.to_string();
                assert!(!text.is_empty() && text.len() <= LONGEST_ERROR, "{} bytes: {text:.200}", text.len());
            }
        }
    }

    /// Each part of each sample is refused, and each sample with more behind it, with a number in the error: where.
    pub(crate) fn refuses_what_is_cut_or_continued(&self) {
        for sample in &self.samples {
            assert!((self.decode)(sample.clone()).is_ok(), "a sample is valid");
            for end in 0..sample.len() {
                let error = self.refused(&sample[..end]);
                assert!(end == 0 || error.contains(char::is_numeric), "{error}");
            }
            let error = self.refused(&[sample, &b"more"[..]].concat());
            assert!(error.contains(char::is_numeric), "{error}");
        }
    }

    fn refused(&self, bytes: &[u8]) -> String {
        match (self.decode)(Bytes::copy_from_slice(bytes)) {
            Ok(value) => panic!("{} bytes were taken for {value:?}", bytes.len()),
            Err(error) => error.to_string(),
        }
    }

    fn decode_within_bounds(&self, bytes: &Bytes) -> Result<T, E> {
        let input = bytes.clone();
        within(self.expansion, bytes, || (self.decode)(input))
    }
}
