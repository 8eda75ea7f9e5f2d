//! From a command and a snapshot to the plan of where it goes.
