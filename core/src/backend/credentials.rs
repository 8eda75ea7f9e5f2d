//! How the proxy authenticates to nodes.

use std::sync::Arc;

/// User and password of the proxy at the nodes.
#[derive(Clone, Default)]
pub struct Credentials {
    /// ACL user; `None` for the default user.
    pub user: Option<Arc<str>>,
    /// Password; `None` for no authentication.
    pub password: Option<Arc<str>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}
