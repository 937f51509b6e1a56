//! Parts of components, and how they are put together.

use bytes::Bytes;
use palfrey_host::{
    plugin::{Assembler, Chunk, RecordError},
    task::Digest,
};

use crate::{
    hostile::{Decoder, Instructions},
    samples::component,
};

pub(crate) fn decoder() -> Decoder<Chunk, RecordError> {
    let component = component();
    Decoder {
        samples: Chunk::split(Digest::of(&component), &component).map(|chunk| chunk.encode()).collect(),
        decode: |bytes| Chunk::decode(&bytes),
        encode: Chunk::encode,
        expansion: 8,
    }
}

pub(crate) fn attack(input: &[u8]) {
    decoder().attack(input);
}

/// Chunks of several uploads that lie about their place, number and bytes.
pub(crate) fn attack_assembler(input: &[u8]) {
    const LIMIT: u64 = 2 << 20;
    let mut instructions = Instructions::new(input);
    let mut assembler = Assembler::new(LIMIT);
    let (part, whole) = (Bytes::from(vec![1; Chunk::SIZE]), Bytes::from(vec![1; 2 * Chunk::SIZE]));
    let truth = Digest::of(&whole);
    while !instructions.is_empty() {
        let upload = instructions.byte();
        let digest = if upload.is_multiple_of(4) { truth } else { Digest::of(&[upload]) };
        let of = match instructions.byte() {
            0 => u32::MAX,
            of => u32::from(of % 16),
        };
        let index = u32::from(instructions.byte() % 4);
        let bytes = part.slice(..part.len() - usize::from(instructions.byte() % 2));
        let mut added = None;
        let chunk = Chunk { digest, index, of, bytes };
        let allocated = allocation_counter::measure(|| added = Some(assembler.add(chunk))).bytes_max;
        // The bytes are shared with the chunk: only the list of parts is new.
        assert!(allocated <= 64 << 10, "{allocated} bytes for a chunk");
        match added.unwrap() {
            Err(error) => assert!(error.to_string().contains(&digest.to_string()), "{error}"),
            Ok(None) => assert!(assembler.progress(&digest).is_some_and(|(arrived, of)| arrived < of)),
            Ok(Some(assembled)) => {
                assert!(index < of);
                if let Ok(component) = assembled.verify() {
                    assert!(Digest::of(&component) == digest && component.len() as u64 <= LIMIT);
                }
            }
        }
    }
}
