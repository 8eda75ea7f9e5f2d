//! A password that never shows itself: not in logs, not in error messages, not in `{:?}`.

use std::fmt;
use std::sync::Arc;

/// A password. `Debug` prints a placeholder, and there is no `Display`: it cannot be printed by accident ([Z7] of the contract).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `password`.
    #[must_use]
    pub fn new(password: &str) -> Self {
        Self(Arc::from(password))
    }

    /// The password itself, for what has to send it or compare it.
    #[must_use]
    pub fn expose(&self) -> &Arc<str> {
        &self.0
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
}
