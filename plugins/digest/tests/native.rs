//! The operations as functions.

use digest::{Mine, Sha256};
use palfrey_sdk::{Blob, Operation, Result};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn sha256_agrees_with_the_standard() -> Result<()> {
    // FIPS 180-2, appendix B.1, and the hash of nothing.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(hex(&Sha256.execute(Blob::from(&b"abc"[..]))?), abc);
    assert_eq!(hex(&Sha256.execute(Blob::default())?), nothing);
    Ok(())
}

#[test]
fn the_nonce_is_the_smallest_that_suffices() -> Result<()> {
    let bytes = b"palfrey";
    let nonce = Mine { bits: 9 }.execute(Blob::from(&bytes[..]))?;
    let hash = |nonce: u64| Sha256.execute(Blob([&bytes[..], &nonce.to_le_bytes()].concat()));
    let suffices = |hash: [u8; 32]| hash[0] == 0 && hash[1] < 0x80;
    assert!(suffices(hash(nonce)?));
    for smaller in 0..nonce {
        assert!(!suffices(hash(smaller)?), "{smaller}");
    }
    Ok(())
}

#[test]
fn no_bits_are_found_at_once() -> Result<()> {
    assert_eq!(Mine { bits: 0 }.execute(Blob::default())?, 0);
    Ok(())
}
