//! Hash slots and hash tags.
