//! A short stand-in for the key set of a request, for telling whether two requests of one session conflict.

/// Hash of one key, or a mark for several keys. Two requests on one slot conflict if their hashes are equal or one is the mark;
/// a collision only makes a request wait needlessly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Several keys of one slot: conflicts with every key of the slot.
    pub const SEVERAL: Self = Self(0);

    /// The hash of `key`.
    #[must_use]
    #[inline]
    pub fn of(key: &[u8]) -> Self {
        const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut hash = key.len() as u64;
        let mut words = key.chunks_exact(8);
        for word in &mut words {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            hash = (hash.rotate_left(29) ^ u64::from_le_bytes(bytes)).wrapping_mul(MULTIPLIER);
        }
        for byte in words.remainder() {
            hash = (hash.rotate_left(9) ^ u64::from(*byte)).wrapping_mul(MULTIPLIER);
        }
        Self(hash | 1)
    }

    /// Whether two requests of one slot may share a key.
    #[must_use]
    pub const fn may_share_key(self, other: Self) -> bool {
        self.0 == other.0 || self.0 == Self::SEVERAL.0 || other.0 == Self::SEVERAL.0
    }
}
