//! Random numbers that are the same wherever and however often a call is executed: they come from a seed. With a grant, the seed
//! is the system's, and nobody can foresee them.

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use sha2::{Digest as _, Sha256};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

/// What a guest may ask for at once, in bytes. The host holds as much for a moment.
const MAX_BYTES: u64 = 16 << 20;

/// Where the random numbers of a call come from.
pub(in crate::engine) struct Seed([u8; 32]);

impl Seed {
    /// The operation and its config decide, not the batch: how elements are grouped must not decide what hash maps, which
    /// take their seed when an instance starts, look like.
    pub(in crate::engine) fn of(plugin: &str, operation: &str, config: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [b"palfrey random numbers 1", plugin.as_bytes(), operation.as_bytes(), config] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Another one each time.
    pub(super) fn of_system() -> Self {
        let mut seed = [0; 32];
        wasmtime_wasi::random::thread_rng().fill_bytes(&mut seed);
        Self(seed)
    }
}

/// The random numbers of one instance.
pub(super) struct Random {
    seed: (u64, u64),
    secure: ChaCha12Rng,
    insecure: ChaCha12Rng,
    /// Whether the guest has seen any.
    pub(super) drawn: bool,
}

impl Random {
    pub(super) fn new(Seed(seed): Seed) -> Self {
        let [low, high] = [0, 8].map(|at| seed[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
        let mut insecure = seed;
        insecure[0] ^= 1;
        Self {
            seed: (low, high),
            secure: ChaCha12Rng::from_seed(seed),
            insecure: ChaCha12Rng::from_seed(insecure),
            drawn: false,
        }
    }
}

fn bytes(rng: &mut ChaCha12Rng, len: u64) -> wasmtime::Result<Vec<u8>> {
    if len > MAX_BYTES {
        wasmtime::bail!("it asked for {len} random bytes at once, and at most {MAX_BYTES} are given");
    }
    let mut bytes = vec![0; len as usize];
    rng.fill_bytes(&mut bytes);
    Ok(bytes)
}

impl random::Host for Random {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.drawn = true;
        bytes(&mut self.secure, len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.drawn = true;
        Ok(self.secure.next_u64())
    }
}

impl insecure::Host for Random {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.drawn = true;
        bytes(&mut self.insecure, len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.drawn = true;
        Ok(self.insecure.next_u64())
    }
}

impl insecure_seed::Host for Random {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        // It is always the same. But whoever takes a seed makes a stream of it, and then a place in that stream matters:
        // standard libraries count the hash maps that they have made.
        self.drawn = true;
        Ok(self.seed)
    }
}
