//! Starts real servers for the integration tests and stops them again.
