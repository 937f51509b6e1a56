//! Puts components together from the chunks of a log. Pure.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::Chunk;
use crate::task::Digest;

/// Uploads that are incomplete, most of them because they are under way.
///
/// ```
/// use bytes::Bytes;
/// use palfrey_host::{
///     plugin::{Assembler, Chunk},
///     task::Digest,
/// };
///
/// let component = Bytes::from(vec![7; 600 << 10]);
/// let mut assembler = Assembler::new(1 << 20);
/// let mut chunks = Chunk::split(Digest::of(&component), &component);
/// assert!(assembler.add(chunks.next().unwrap())?.is_none(), "two are missing");
/// assert_eq!(assembler.progress(&Digest::of(&component)), Some((1, 3)));
/// for chunk in chunks {
///     if let Some(assembled) = assembler.add(chunk)? {
///         assert_eq!(assembled.verify()?, component);
///     }
/// }
/// # Ok::<(), palfrey_host::plugin::AssemblyError>(())
/// ```
#[derive(Debug)]
pub struct Assembler {
    limit: u64,
    uploads: HashMap<Digest, Upload>,
    /// The one whose chunk came longest ago is at the front.
    idle: VecDeque<Digest>,
}

#[derive(Debug)]
struct Upload {
    parts: Vec<Option<Bytes>>,
    arrived: u32,
    size: u64,
}

/// Chunks that make no component.
///
/// ```
/// use palfrey_host::plugin::{AssemblyError, ComponentError};
///
/// /// Whether uploading the component once more would help.
/// fn is_damaged(error: &ComponentError) -> bool {
///     matches!(error, ComponentError::Damaged(AssemblyError::Digest { .. }))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// The numbers of a chunk contradict each other.
    #[error("chunk {index} of {of} of {digest} does not exist")]
    Index {
        /// The component.
        digest: Digest,
        /// Position of the chunk.
        index: u32,
        /// Number of chunks that it claims.
        of: u32,
    },
    /// More bytes than a component may have.
    #[error("{digest} is larger than the limit of {}", bytesize::ByteSize(*limit))]
    TooLarge {
        /// The component.
        digest: Digest,
        /// The limit in bytes.
        limit: u64,
    },
    /// All chunks arrived, and they are not what was promised.
    #[error("the upload of {promised} is damaged, its bytes are {actual}: deploy it again with --force")]
    Digest {
        /// The component that the chunks claim to be.
        promised: Digest,
        /// What they are.
        actual: Digest,
    },
}

/// Chunks that are all there. Whether they are the component remains to be seen: hashing takes a while, and is better
/// done where that is no harm.
///
/// ```
/// use bytes::Bytes;
/// use palfrey_host::{
///     plugin::{Assembler, Chunk},
///     task::Digest,
/// };
///
/// let promised = Digest::of(b"a component");
/// let chunk = Chunk { digest: promised, index: 0, of: 1, bytes: Bytes::from_static(b"something else") };
/// let assembled = Assembler::new(1 << 20).add(chunk)?.expect("there is one chunk");
/// assert_eq!(assembled.digest(), promised);
/// assert!(assembled.verify().is_err());
/// # Ok::<(), palfrey_host::plugin::AssemblyError>(())
/// ```
#[derive(Debug)]
pub struct Assembled {
    digest: Digest,
    parts: Vec<Bytes>,
}

impl Assembler {
    /// Uploads that can be under way at a time. When one more begins, the one that has waited longest for a chunk is
    /// given up: whoever sent it is gone.
    const UPLOADS: usize = 32;

    /// Components may have `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, uploads: HashMap::new(), idle: VecDeque::new() }
    }

    /// Takes a chunk, in any order and any number of times, and returns the component's when it was the last one missing.
    ///
    /// # Errors
    /// If the chunk contradicts itself, or the component is larger than the limit: its upload is then forgotten.
    pub fn add(&mut self, chunk: Chunk) -> Result<Option<Assembled>, AssemblyError> {
        let Chunk { digest, index, of, bytes } = chunk;
        let most = self.limit.div_ceil(Chunk::SIZE as u64);
        if u64::from(of) > most {
            return Err(AssemblyError::TooLarge { digest, limit: self.limit });
        }
        if index >= of {
            return Err(AssemblyError::Index { digest, index, of });
        }
        self.touch(digest);
        let upload = self.uploads.entry(digest).or_insert_with(|| Upload::new(of));
        if upload.parts.len() != of as usize {
            // Another release cut it in another way.
            *upload = Upload::new(of);
        }
        let part = &mut upload.parts[index as usize];
        if part.is_none() {
            upload.size += bytes.len() as u64;
            upload.arrived += 1;
            *part = Some(bytes);
        }
        if upload.size > self.limit {
            self.forget(&digest);
            return Err(AssemblyError::TooLarge { digest, limit: self.limit });
        }
        if upload.arrived < of {
            return Ok(None);
        }
        let parts = self.forget(&digest).map(|upload| upload.parts.into_iter().flatten().collect());
        Ok(parts.map(|parts| Assembled { digest, parts }))
    }

    /// Chunks of an upload under way that have arrived, and their number in all.
    pub fn progress(&self, digest: &Digest) -> Option<(u32, u32)> {
        self.uploads.get(digest).map(|upload| (upload.arrived, upload.parts.len() as u32))
    }

    fn touch(&mut self, digest: Digest) {
        self.idle.retain(|other| *other != digest);
        self.idle.push_back(digest);
        if self.idle.len() > Self::UPLOADS
            && let Some(given_up) = self.idle.pop_front()
        {
            tracing::warn!(digest = %given_up, "gave up an upload that was cut off");
            self.uploads.remove(&given_up);
        }
    }

    fn forget(&mut self, digest: &Digest) -> Option<Upload> {
        self.idle.retain(|other| other != digest);
        self.uploads.remove(digest)
    }
}

impl Upload {
    fn new(of: u32) -> Self {
        Self { parts: vec![None; of as usize], arrived: 0, size: 0 }
    }
}

impl Assembled {
    /// The component that the chunks claim to be.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Joins the chunks and hashes them. Takes about a millisecond for each megabyte.
    ///
    /// # Errors
    /// [`AssemblyError::Digest`] if they are not the component.
    pub fn verify(self) -> Result<Bytes, AssemblyError> {
        let mut component = BytesMut::with_capacity(self.parts.iter().map(Bytes::len).sum());
        self.parts.iter().for_each(|part| component.extend_from_slice(part));
        match Digest::of(&component) {
            actual if actual == self.digest => Ok(component.freeze()),
            actual => Err(AssemblyError::Digest { promised: self.digest, actual }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(seed: u8) -> (Digest, Bytes, Vec<Chunk>) {
        let bytes =
            Bytes::from((0..3 * Chunk::SIZE + 5).map(|index| (index as u8).wrapping_mul(seed)).collect::<Vec<_>>());
        let digest = Digest::of(&bytes);
        (digest, bytes.clone(), Chunk::split(digest, &bytes).collect())
    }

    #[test]
    fn chunks_in_any_order_and_number_make_the_component() {
        let (digest, bytes, chunks) = component(3);
        let mut assembler = Assembler::new(u64::MAX);
        for index in [2, 2, 0, 3, 0] {
            assert!(assembler.add(chunks[index].clone()).unwrap().is_none());
        }
        assert_eq!(assembler.progress(&digest), Some((3, 4)));
        let assembled = assembler.add(chunks[1].clone()).unwrap().unwrap();
        assert_eq!(assembled.verify(), Ok(bytes));
        assert_eq!(assembler.progress(&digest), None);
    }

    #[test]
    fn interleaved_uploads_do_not_disturb_each_other() {
        let ((_, one, first), (_, two, second)) = (component(3), component(5));
        let mut assembler = Assembler::new(u64::MAX);
        let mut complete = Vec::new();
        for chunk in first.into_iter().zip(second).flat_map(|(one, two)| [one, two]) {
            complete.extend(assembler.add(chunk).unwrap().map(|assembled| assembled.verify().unwrap()));
        }
        assert_eq!(complete, [one, two]);
    }

    #[test]
    fn bytes_that_are_not_the_digests_are_refused() {
        let (_, _, mut chunks) = component(3);
        let mut flipped = chunks[1].bytes.to_vec();
        flipped[7] ^= 1;
        chunks[1].bytes = flipped.into();
        let mut assembler = Assembler::new(u64::MAX);
        let last = chunks.into_iter().filter_map(|chunk| assembler.add(chunk).unwrap()).next().unwrap();
        let message = last.verify().unwrap_err().to_string();
        assert!(message.contains("is damaged, its bytes are sha256:"), "{message}");
        assert!(message.contains("deploy it again"), "{message}");
    }

    #[test]
    fn chunks_that_lie_are_refused() {
        let (digest, _, chunks) = component(3);
        let lie = |index, of, bytes: usize| Chunk { digest, index, of, bytes: vec![0; bytes].into() };
        let limit = 4 * Chunk::SIZE as u64;
        let check = |chunk: Chunk, expect: &str| {
            let message = Assembler::new(limit).add(chunk).unwrap_err().to_string();
            assert!(message.contains(expect), "{message}");
        };
        check(lie(4, 4, 1), "chunk 4 of 4");
        check(lie(0, 0, 1), "chunk 0 of 0");
        check(lie(0, u32::MAX, 1), "larger than the limit of 1.0 MiB");
        check(lie(0, 1, 5 * Chunk::SIZE), "larger than the limit of 1.0 MiB");
        let mut assembler = Assembler::new(limit);
        assert!(assembler.add(lie(0, 1, 5 * Chunk::SIZE)).is_err());
        assert!(
            chunks.into_iter().any(|chunk| assembler.add(chunk).unwrap().is_some()),
            "the component itself is fine"
        );
    }

    #[test]
    fn uploads_that_were_cut_off_do_not_pile_up() {
        let mut assembler = Assembler::new(u64::MAX);
        for number in 0..100_u8 {
            let digest = Digest::of(&[number]);
            assembler.add(Chunk { digest, index: 0, of: 2, bytes: Bytes::new() }).unwrap();
        }
        assert_eq!(assembler.uploads.len(), Assembler::UPLOADS);
        assert_eq!(assembler.progress(&Digest::of(&[0])), None);
        assert_eq!(assembler.progress(&Digest::of(&[99])), Some((1, 2)));
    }
}
