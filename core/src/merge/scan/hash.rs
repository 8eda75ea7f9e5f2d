//! The hash that fingerprints in cursors are made of.

/// FNV-1a, 64 bits: the same at every instance and in every release.
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// The bytes and their number, so that no two lists of items read alike.
    pub(super) fn feed(&mut self, item: &[u8]) {
        let len = u64::try_from(item.len()).unwrap_or(u64::MAX).to_le_bytes();
        for byte in item.iter().chain(&len) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// 1 to `most`, from the high half, which is the better mixed one.
    pub(super) fn folded(&self, most: u64) -> u64 {
        (self.0 >> 32) % most + 1
    }
}
