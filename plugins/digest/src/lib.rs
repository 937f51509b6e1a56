//! SHA-256, once and very often.

use palfrey_sdk::{Blob, FatalError, Operation, RemoteExecute, Result, Schema, context};
use serde::{Deserialize, Serialize};
use sha2::Digest;

palfrey_sdk::registry!(Sha256, Mine);

/// Computes the SHA-256 of bytes.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Sha256;

impl Operation for Sha256 {
    type Input = Blob;
    type Output = [u8; 32];

    fn execute(&self, bytes: Blob) -> Result<[u8; 32]> {
        Ok(sha2::Sha256::digest(&*bytes).into())
    }
}

/// Finds the smallest nonce that, behind the bytes, gives a SHA-256 with a number of leading zero bits.
///
/// The nonce is appended as eight bytes, little-endian. The work doubles with each bit, and varies much from input to input.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Mine {
    /// Leading zero bits, at the least.
    pub bits: u8,
}

/// Nonces between two questions whether to go on: about 10 ms.
const PERIOD: u64 = 1 << 15;

impl Operation for Mine {
    type Input = Blob;
    type Output = u64;

    fn execute(&self, bytes: Blob) -> Result<u64> {
        let prefix = sha2::Sha256::new_with_prefix(&*bytes);
        for nonce in 0..=u64::MAX {
            let hash = prefix.clone().chain_update(nonce.to_le_bytes()).finalize();
            if leading_zeros(&hash) >= u32::from(self.bits) {
                return Ok(nonce);
            }
            if nonce % PERIOD == PERIOD - 1 {
                if context::cancelled() {
                    return Err(FatalError::msg(format!("cancelled after {} nonces", nonce + 1)).into());
                }
                context::progress_in(nonce + 1, 0, "nonces");
            }
        }
        Err(FatalError::msg(format!("no nonce gives {} leading zero bits", self.bits)).into())
    }
}

fn leading_zeros(hash: &[u8]) -> u32 {
    let zeros = hash.iter().take_while(|&&byte| byte == 0).count();
    8 * zeros as u32 + hash.get(zeros).map_or(0, |byte| byte.leading_zeros())
}
