//! The deployments of `deploy/recipes`, with the recipes' own files: only addresses are others.

mod files;
mod hand_made_cluster;
mod manifests;
mod network;
mod one_sentinel;
mod server;
mod stateful_cluster;
mod virtual_ip;
