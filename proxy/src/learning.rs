//! The commands learned from the servers [K14], and the wish of clients for more of them [K15]: between the workers, who look names up,
//! and the control thread, which asks the servers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use slotway_core::command::learned::LearnedTable;

use crate::wish::Wish;

/// The learned commands, shared by all threads.
#[derive(Debug, Default)]
pub struct Learning {
    table: ArcSwap<LearnedTable>,
    wish: Wish,
}

impl Learning {
    /// The table in force.
    #[must_use]
    pub fn table(&self) -> Arc<LearnedTable> {
        self.table.load_full()
    }

    /// Replaces it.
    pub fn publish(&self, table: LearnedTable) {
        self.table.store(Arc::new(table));
    }

    /// A client used a name that is in no table. Clients may use wrong names all day long.
    pub fn want(&self) {
        self.wish.want();
    }

    /// Waits for the wish of a client; it stays until [`Self::take_wish`].
    pub async fn wish(&self) {
        self.wish.wanted().await;
    }

    /// Whether there was a wish. From here on there is none.
    pub fn take_wish(&self) -> bool {
        self.wish.take()
    }
}
