//! State of one connection to a node.
