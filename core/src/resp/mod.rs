//! RESP2 and RESP3 bytes to frame boundaries and back.
