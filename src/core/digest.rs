//! Short digests that are stored on objects, so they must not change between versions.

use sha2::{Digest as _, Sha256};

/// The first eight bytes of a hash, as a number.
pub fn head(hash: Sha256) -> u64 {
    let bytes: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes(*bytes.first_chunk::<8>().expect("a hash has more than 8 bytes"))
}
