//! The commands the proxy answers itself.
