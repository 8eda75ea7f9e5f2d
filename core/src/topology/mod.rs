//! Snapshots of the cluster, their sources, and how views are merged.
