//! A password that never shows itself: not in logs, not in error messages, not in `{:?}`.

use std::fmt;

/// A password. `Debug` prints a placeholder, there is no `Display`: it cannot be printed
/// by accident ([Z7] of the contract).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps `bytes`.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for sending to a node or comparing with what a client sent.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `candidate` is this password, in a time that depends only on the length of `candidate`, so that a client cannot
    /// find the password byte by byte.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let mut difference = u8::from(self.0.len() != candidate.len());
        for (index, byte) in candidate.iter().enumerate() {
            // A stand-in byte past the end keeps the work the same for every candidate of this length.
            difference |= byte ^ self.0.get(index).copied().unwrap_or(!byte);
        }
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_password() {
        let shown = format!("{:?}", Some(Secret::new("hunter2")));
        assert_eq!(shown, "Some(Secret(hidden))");
    }

    #[test]
    fn matches_only_the_same_bytes() {
        let secret = Secret::new("pass");
        assert!(secret.matches(b"pass"));
        for wrong in [&b""[..], b"pas", b"passs", b"pasS", b"xass"] {
            assert!(!secret.matches(wrong), "{wrong:?}");
        }
    }
}
