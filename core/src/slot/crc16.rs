//! CRC16-XMODEM [H1]: polynomial 0x1021, initial value 0, no reflection, no final xor.
//!
//! The usual form takes a byte at a time, each step waiting for the one before. Here `TABLES[n][b]` is the CRC of the byte `b`
//! followed by `n` zero bytes; since a CRC is linear, that of a block is the xor of one independent look-up for each of its bytes
//! ("slicing"). A block has at most 16 bytes, which covers most keys in one round and keeps the tables at 8 KiB.

const POLYNOMIAL: u16 = 0x1021;

/// Bytes taken in one round.
const BLOCK: usize = 16;

static TABLES: [[u16; 256]; BLOCK] = tables();

const fn tables() -> [[u16; 256]; BLOCK] {
    let mut tables = [[0; 256]; BLOCK];
    let mut byte = 0_u16;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ POLYNOMIAL
            };
            bit += 1;
        }
        tables[0][byte as usize] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < BLOCK {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[zeros - 1][byte];
            tables[zeros][byte] = crc << 8 ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// The CRC of `bytes`.
#[inline]
pub(super) fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0;
    for block in bytes.chunks(BLOCK) {
        crc = after_block(crc, block);
    }
    crc
}

/// The CRC of what `crc` is the CRC of, followed by `block`.
#[inline]
fn after_block(crc: u16, block: &[u8]) -> u16 {
    let mut sum = 0;
    // The earlier bytes count as if xored into the first two of the block.
    let mut carry = crc;
    for (byte, table) in block
        .iter()
        .zip(TABLES[..block.len().min(BLOCK)].iter().rev())
    {
        let [high, low] = carry.to_be_bytes();
        sum ^= table[usize::from(byte ^ high)];
        carry = u16::from_be_bytes([low, 0]);
    }
    // A block of one byte leaves half of them.
    sum ^ carry
}
