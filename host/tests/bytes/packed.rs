//! Packed elements: offsets that may lie about their buffer.

use bytes::Bytes;
use palfrey_host::task::Packed;

use crate::hostile::{Instructions, within};

pub(crate) fn attack(input: &[u8]) {
    let mut instructions = Instructions::new(input);
    let length = usize::from(instructions.byte());
    let bytes: Bytes = (0..length).map(|number| number as u8).collect();
    let mut ends = Vec::new();
    let mut end = 0_u32;
    while !instructions.is_empty() {
        end = match instructions.byte() {
            255 => u32::MAX,
            254 => end.wrapping_sub(1),
            253 => length as u32,
            more => end.saturating_add(u32::from(more % 32)),
        };
        ends.push(end);
    }
    let honest = ends.is_sorted() && ends.last().map_or(0, |&end| end as usize) == length;
    let given = ends.clone();
    // They are taken as they are.
    match within(0, &[], || Packed::new(bytes.clone(), given)) {
        Err(_) => assert!(!honest),
        Ok(packed) => {
            assert!(honest);
            assert_eq!(packed.iter().collect::<Vec<_>>().concat(), bytes);
            assert_eq!(packed.get(ends.len()), None);
            for index in 0..packed.len() {
                assert_eq!(packed.slice(index..index + 1).get(0), packed.get(index));
                let (before, after) = (packed.slice(0..index), packed.slice(index + 1..packed.len()));
                assert_eq!(packed.without(index), before.iter().chain(after.iter()).collect());
            }
        }
    }
}
