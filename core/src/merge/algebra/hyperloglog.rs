//! HyperLogLogs as servers keep them in strings, merged and counted exactly as PFCOUNT does.
//!
//! ```text
//!   "HYLL" | encoding | 3 unused | cached count, 8 bytes | registers
//! ```
//! Encoding 0 is dense: 16384 registers of 6 bits, the lowest bits first. 1 is sparse, a row of runs:
//! `00xxxxxx` x+1 zeros; `01xxxxxx yyyyyyyy` xy+1 zeros; `1vvvvvxx` x+1 registers with the value v+1.
//! The count is the estimator of Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (arXiv:1702.01284),
//! in the order of operations of the servers' `hllCount`, so that the same double comes out.

const REGISTERS: usize = 16_384;
const HEADER: usize = 16;
const DENSE_BYTES: usize = HEADER + REGISTERS * 6 / 8;
/// Bits of the hash that are counted.
const Q: usize = 50;
const ALPHA_INF: f64 = 0.721_347_520_444_481_7;

/// Why a string is not merged, with what servers say then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NotOne,
    Corrupt,
}

impl Fault {
    pub(super) const fn text(self) -> &'static [u8] {
        match self {
            Self::NotOne => b"WRONGTYPE Key is not a valid HyperLogLog string value.",
            Self::Corrupt => b"INVALIDOBJ Corrupted HLL object detected",
        }
    }
}

/// The greatest of each register so far.
#[derive(Debug)]
pub(super) struct Registers(Vec<u8>);

impl Default for Registers {
    fn default() -> Self {
        Self(vec![0; REGISTERS])
    }
}

impl Registers {
    /// Takes the string of a key in.
    pub(super) fn merge(&mut self, string: &[u8]) -> Result<(), Fault> {
        let header = string.get(..HEADER).ok_or(Fault::NotOne)?;
        let body = string.get(HEADER..).unwrap_or_default();
        match header {
            [b'H', b'Y', b'L', b'L', 0, ..] if string.len() == DENSE_BYTES => {
                self.merge_dense(body);
                Ok(())
            }
            [b'H', b'Y', b'L', b'L', 1, ..] => self.merge_sparse(body),
            _ => Err(Fault::NotOne),
        }
    }

    fn merge_dense(&mut self, body: &[u8]) {
        // Four registers in three bytes.
        for (four, bytes) in self.0.chunks_exact_mut(4).zip(body.chunks_exact(3)) {
            let bits = bytes
                .iter()
                .rev()
                .fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
            for (register, shift) in four.iter_mut().zip([0, 6, 12, 18]) {
                let value = u8::try_from((bits >> shift) & 0x3f).unwrap_or_default();
                *register = value.max(*register);
            }
        }
    }

    fn merge_sparse(&mut self, body: &[u8]) -> Result<(), Fault> {
        let mut at = 0;
        let mut bytes = body.iter().copied();
        while let Some(code) = bytes.next() {
            let (length, value) = match code >> 6 {
                0 => (usize::from(code & 0x3f) + 1, 0),
                1 => {
                    let low = bytes.next().ok_or(Fault::Corrupt)?;
                    ((usize::from(code & 0x3f) << 8 | usize::from(low)) + 1, 0)
                }
                _ => (usize::from(code & 0x3) + 1, ((code >> 2) & 0x1f) + 1),
            };
            let run = self.0.get_mut(at..at + length).ok_or(Fault::Corrupt)?;
            run.iter_mut()
                .for_each(|register| *register = value.max(*register));
            at += length;
        }
        if at == REGISTERS {
            Ok(())
        } else {
            Err(Fault::Corrupt)
        }
    }

    /// How many different elements were added to what was merged, about.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as the servers' llroundl; the estimate is far below 2^63, and `as` saturates"
    )]
    pub(super) fn count(&self) -> i64 {
        let mut with_value = [0_u32; 64];
        for register in &self.0 {
            if let Some(count) = with_value.get_mut(usize::from(*register)) {
                *count += 1;
            }
        }
        let of = |value: usize| f64::from(with_value.get(value).copied().unwrap_or_default());
        let m = 16_384.0;
        let mut z = m * tau((m - of(Q + 1)) / m);
        for value in (1..=Q).rev() {
            z += of(value);
            z *= 0.5;
        }
        z += m * sigma(of(0) / m);
        (ALPHA_INF * m * m / z).round() as i64
    }
}

#[expect(
    clippy::float_cmp,
    reason = "runs until nothing changes any more, as the servers do"
)]
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

#[expect(
    clippy::float_cmp,
    reason = "runs until nothing changes any more, as the servers do"
)]
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}
