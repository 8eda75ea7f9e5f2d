//! CRC16-XMODEM [H1]: polynomial 0x1021, initial value 0, no reflection, no final xor.
//!
//! The usual form takes a byte at a time, each step waiting for the one before. Here `TABLES[n][b]` is the CRC of the byte `b`
//! followed by `n` zero bytes; since a CRC is linear, that of a block is the xor of one independent look-up for each of its bytes
//! ("slicing"). A block of 16 bytes covers most keys in one round and keeps the tables at 8 KiB.

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
    let (head, blocks) = bytes.as_rchunks::<BLOCK>();
    let mut crc = crc_of_head(head);
    for block in blocks {
        let block = u128::from_be_bytes(*block);
        // The bytes before it count as if their CRC were xored into the first two of the block.
        crc = crc_of_block(block ^ u128::from(crc) << 112);
    }
    crc
}

/// The CRC of fewer than [`BLOCK`] bytes. Zero bytes in front do not change a CRC, so they are taken as one number.
#[inline]
fn crc_of_head(head: &[u8]) -> u16 {
    if let (Some(first), Some(last), true) = (
        head.first_chunk::<8>(),
        head.last_chunk::<8>(),
        head.len() > 8,
    ) {
        // Where the two overlap they hold the same bytes in the same place.
        let first = u128::from(u64::from_be_bytes(*first)) << (8 * (head.len() - 8));
        crc_of_block(first | u128::from(u64::from_be_bytes(*last)))
    } else if let (Some(first), Some(last)) = (head.first_chunk::<4>(), head.last_chunk::<4>()) {
        let first = u64::from(u32::from_be_bytes(*first)) << (8 * (head.len() - 4));
        crc_of_half_block(first | u64::from(u32::from_be_bytes(*last)))
    } else {
        let step = |crc: u16, byte: &u8| crc << 8 ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
        head.iter().fold(0, step)
    }
}

#[inline]
fn crc_of_block(block: u128) -> u16 {
    let bytes = block.to_be_bytes();
    bytes
        .iter()
        .zip(TABLES.iter().rev())
        .fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)])
}

#[inline]
fn crc_of_half_block(half: u64) -> u16 {
    let bytes = half.to_be_bytes();
    bytes
        .iter()
        .zip(TABLES[..BLOCK / 2].iter().rev())
        .fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)])
}
