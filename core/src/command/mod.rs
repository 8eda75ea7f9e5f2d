//! The command table and key extraction.
