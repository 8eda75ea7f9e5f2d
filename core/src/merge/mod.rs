//! How the parts of a split or fanned-out command become one reply.
