//! Handles into the engine's tables.

macro_rules! key {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// The handle with this number.
            #[must_use]
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The handle of table position `index`.
            #[must_use]
            #[expect(clippy::cast_possible_truncation, reason = "no table holds four thousand million entries")]
            pub const fn from_index(index: usize) -> Self {
                Self(index as u32)
            }

            /// The position in its table.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

key! {
    /// A client session.
    SessionKey
}
key! {
    /// An outstanding request, or one part of it.
    RequestKey
}
key! {
    /// The parts of a split or fanned-out request.
    GroupKey
}
key! {
    /// A node as one worker knows it.
    NodeKey
}
key! {
    /// A connection to a node.
    LinkKey
}
key! {
    /// What sessions are subscribed to: a channel or a pattern.
    TopicKey
}
