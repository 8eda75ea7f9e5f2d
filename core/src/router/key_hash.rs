//! A short stand-in for the key set of a request, for telling whether two requests of one session conflict.

/// Hash of one key, or a bit mask of the hashes of several. Two requests on one slot may conflict if the hashes are equal or the
/// masks meet; a chance meeting only makes a request wait needlessly.
///
/// The lowest bit tells the two apart: set for one key, clear for a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Every key: conflicts with all requests of the slot.
    pub const ALL: Self = Self(!1);

    /// No key: conflicts with nothing.
    pub const NONE: Self = Self(0);

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

    /// The keys of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        if self.0 == other.0 {
            self
        } else {
            Self(self.mask() | other.mask())
        }
    }

    /// Whether two requests of one slot may share a key.
    #[must_use]
    pub const fn may_share_key(self, other: Self) -> bool {
        if self.is_one_key() && other.is_one_key() {
            self.0 == other.0
        } else {
            self.mask() & other.mask() != 0
        }
    }

    /// Whether this is the hash of one key.
    #[must_use]
    pub const fn is_one_key(self) -> bool {
        self.0 & 1 == 1
    }

    /// The mask itself, or one of the bits 1 to 63 for one key.
    const fn mask(self) -> u64 {
        if self.is_one_key() {
            1 << (1 + (self.0 >> 32) % 63)
        } else {
            self.0
        }
    }
}
