//! A password that can be compared but not printed [Z7].

use std::fmt;

/// A password. `Debug` hides it; comparing takes a time that does not depend on where the difference is.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Keeps `password`.
    #[must_use]
    pub fn new(password: &[u8]) -> Self {
        Self(password.into())
    }

    /// Is `candidate` this password? The time depends on the length of `candidate` only: every byte of it is looked at,
    /// against a byte of the password or, beyond its end, against 0.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let mut difference = u8::from(candidate.len() != self.0.len());
        let expected = self.0.iter().copied().chain(std::iter::repeat(0));
        for (given, wanted) in candidate.iter().zip(expected) {
            // `black_box` keeps the compiler from leaving the loop once a difference is known.
            difference = std::hint::black_box(difference | (given ^ wanted));
        }
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new(b"pa\0ss");
        assert!(secret.matches(b"pa\0ss"));
        for wrong in [
            b"".as_slice(),
            b"pa",
            b"pa\0ss\0",
            b"pa\0sS",
            b"Pa\0ss",
            b"pa\0sspa\0ss",
        ] {
            assert!(!secret.matches(wrong), "{wrong:?}");
        }
        assert!(Secret::new(b"").matches(b""));
        assert!(!Secret::new(b"").matches(b"\0"));
    }

    #[test]
    fn z7_debug_hides_the_password() {
        assert!(!format!("{:?}", Secret::new(b"hunter2")).contains("hunter2"));
    }
}
