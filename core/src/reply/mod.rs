//! Classification of error replies of nodes.
