//! Which families of commands a client's program may use.

/// What the proxy does not offer, by the names of the programs' functions (`"pubsub"`): left out in front of it, and tried
/// straight at a server instead.
pub(crate) const NOT_OFFERED: &[&str] = &[];

/// What makes no sense without a cluster.
const OF_CLUSTERS: &[&str] = &["crossslot"];

/// The families that are left out.
#[derive(Clone, Copy)]
pub(crate) struct Offer(&'static [&'static str]);

impl Offer {
    pub(crate) const PROXY: Self = Self(NOT_OFFERED);
    pub(crate) const SERVER: Self = Self(OF_CLUSTERS);
    pub(crate) const CLUSTER: Self = Self(&[]);

    pub(crate) fn has(self, family: &str) -> bool {
        !self.0.contains(&family)
    }

    /// For the environment of a program: the families it leaves out.
    pub(crate) fn variable(self) -> (String, String) {
        ("SLOTWAY_LEAVE_OUT".to_owned(), self.0.join(","))
    }
}

/// True if the proxy has all of these.
pub(crate) fn proxy_offers(families: &[&str]) -> bool {
    families.iter().all(|family| Offer::PROXY.has(family))
}

/// True if the proxy lacks something that is to be tried straight at a server.
pub(crate) fn proxy_lacks_any() -> bool {
    !NOT_OFFERED.is_empty()
}
