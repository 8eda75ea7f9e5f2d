//! Hash slots and hash tags [H1]-[H5]: which of the 16384 parts of the key space a key belongs to.

mod crc16;

use self::crc16::crc16;
use memchr::memchr;

#[cfg(test)]
mod tests;

/// Parts the key space of a cluster is divided into.
pub const SLOT_COUNT: u16 = 16_384;

/// Bytes from which on `memchr` finds a byte sooner than a loop over words.
const LONG_KEY: usize = 64;

/// One part of the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// Slot `number`, if it is below [`SLOT_COUNT`].
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOT_COUNT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The slot's number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The slot's number as an index into a table of [`SLOT_COUNT`] entries.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The slot of `key` [H1], or of the part of it that its hash tag marks [H2]. Sharded channels have the same slot as a key of
    /// that name [H4].
    #[must_use]
    #[inline]
    pub fn of_key(key: &[u8]) -> Self {
        Self::of_bytes(hash_tag(key).unwrap_or(key))
    }

    /// The only slot in which keys that match the glob `pattern` can be, if there is just one [H5].
    ///
    /// It is what servers of Redis 7.4 and Valkey 8 on conclude (`patternHashSlot`), reading from left to right:
    /// * `*`, `?`, `[` or `\` before a complete tag that is not empty: no single slot;
    /// * such a tag first: the slot of the tag, whatever comes after it;
    /// * `{}` first: braces mean nothing in the rest of the pattern;
    /// * neither: the pattern is a literal key.
    #[must_use]
    pub fn of_pattern(pattern: &[u8]) -> Option<Self> {
        let mut tag_start = None;
        let mut tags_count = true;
        for (i, byte) in pattern.iter().enumerate() {
            match (byte, tag_start) {
                (b'*' | b'?' | b'[' | b'\\', _) => return None,
                (b'{', None) if tags_count => tag_start = Some(i + 1),
                (b'}', Some(start)) if start == i => {
                    tags_count = false;
                    tag_start = None;
                }
                (b'}', Some(start)) => return pattern.get(start..i).map(Self::of_bytes),
                _ => {}
            }
        }
        Some(Self::of_bytes(pattern))
    }

    #[inline]
    fn of_bytes(bytes: &[u8]) -> Self {
        Self(crc16(bytes) & (SLOT_COUNT - 1))
    }
}

/// The bytes between the first `{` and the first `}` after it, if there are any [H2].
#[inline]
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let after = key.get(position::<b'{'>(key)? + 1..)?;
    match position::<b'}'>(after)? {
        0 => None,
        end => after.get(..end),
    }
}

/// Where `BYTE` is first. Most keys are too short for `memchr` to be worth its preparations.
#[inline]
fn position<const BYTE: u8>(bytes: &[u8]) -> Option<usize> {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().position(|byte| *byte == BYTE);
    };
    if bytes.len() > LONG_KEY {
        return memchr(BYTE, bytes);
    }
    // The last word may overlap the one before: what is in both is not `BYTE`, then.
    let (words, _) = bytes.split_last()?.1.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        if let Some(offset) = position_in_word::<BYTE>(*word) {
            return Some(8 * index + offset);
        }
    }
    Some(bytes.len() - 8 + position_in_word::<BYTE>(*last)?)
}

#[inline]
fn position_in_word<const BYTE: u8>(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // A byte that is equal becomes 0; only at one of these, or after it, is there a borrow into a highest bit that was not set.
    let differing = u64::from_le_bytes(word) ^ u64::from_ne_bytes([BYTE; 8]);
    let equal = differing.wrapping_sub(ONES) & !differing & (ONES << 7);
    (equal != 0).then(|| equal.trailing_zeros() as usize / 8)
}
