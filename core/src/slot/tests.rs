//! Tests of slots and tags.
