//! The configuration file and its validated form.
