//! State of one client connection.
