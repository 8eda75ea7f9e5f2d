//! Every metric the proxy exports: its name, kind, labels and meaning, each in one place.
//!
//! Names are `slotway_<area>_<what>_<unit or total>`; seconds and bytes. "Downstream" is the side of the clients, "upstream" the
//! side of the nodes. Labels come from bounded sets: command names of the table, the enums of
//! [`counters`](super::counters), and the nodes and workers that exist at the time. All that belongs to an upstream has the label
//! `upstream` as well, if upstreams have names.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows while the process lives.
    Counter,
    /// A value now.
    Gauge,
    /// Counts of durations by upper bound, with their sum.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// Names of its labels but for `upstream`, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it means, for people who read the endpoint.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($name:ident $kind:ident $text:literal [$($label:literal),*] $help:literal;)+) => {
        $(#[doc = $help]
        pub const $name: Metric =
            Metric { name: $text, kind: MetricKind::$kind, labels: &[$($label),*], help: $help };)+
        /// Every metric, in the order of this file.
        pub const ALL: &[Metric] = &[$($name),+];
    };
}

metrics! {
    BUILD_INFO Gauge "slotway_build_info" ["version"] "Always 1; the label says which version runs.";
    READY Gauge "slotway_ready" [] "1 if /readyz answers 200, as far as it depends on the upstream: listening, every slot has an owner, not shutting down.";
    WORKERS Gauge "slotway_workers" [] "Threads that serve clients.";

    LEARNED_COMMANDS Gauge "slotway_learned_commands" [] "Commands, of modules as a rule, that the proxy knows only because the servers told of them.";
    LEARNED_COMMAND_CONFLICTS Counter "slotway_learned_command_conflicts_total" []
        "Times primaries were found to disagree about such a command; what the last one said counts.";
    CONFIG_RELOADS Counter "slotway_config_reloads_total" ["result"]
        "Times SIGHUP had the configuration read anew: applied, or failed because it has faults and the old one stays.";

    PROCESS_START_TIME Gauge "slotway_process_start_time_seconds" [] "Start of the process, in seconds since 1970.";
    PROCESS_CPU Counter "slotway_process_cpu_seconds_total" [] "Processor time used, user and system.";
    PROCESS_RESIDENT Gauge "slotway_process_resident_memory_bytes" [] "Memory of the process that is in RAM.";
    PROCESS_OPEN_FDS Gauge "slotway_process_open_fds" [] "Open file descriptors.";
    PROCESS_MAX_FDS Gauge "slotway_process_max_fds" [] "File descriptors the process may open; connections need one each.";

    COMMANDS Counter "slotway_commands_total" ["command", "outcome"]
        "Commands of clients that were answered, by name (unknown for names in no table) and by how they ended.";
    REQUESTS_IN_FLIGHT Gauge "slotway_requests_in_flight" [] "Commands read from clients and not answered yet.";
    REQUESTS_HELD Counter "slotway_requests_held_total" []
        "Requests that waited for an earlier request of the same client, to keep the order of execution.";
    REQUESTS_SPLIT Counter "slotway_requests_split_total" [] "Commands split into one part per slot.";
    PUBSUB_MESSAGES Counter "slotway_pubsub_messages_total" []
        "Messages of channels given to clients, each counted for every client that got it.";
    PUBSUB_TOPICS Gauge "slotway_pubsub_topics" []
        "Channels and patterns that clients of this proxy have subscribed to, each counted once for every worker.";
    REQUESTS_PARKED Counter "slotway_requests_parked_total" [] "Requests that had to wait for a usable node.";
    REQUEST_TIMEOUTS Counter "slotway_request_timeouts_total" []
        "Requests that a node did not answer within limits.request_timeout.";
    BLOCKED_CLIENTS Gauge "slotway_blocked_clients" [] "Clients that wait at a node now (BLPOP and all its kind).";
    PARKED_REQUESTS Gauge "slotway_parked_requests" [] "Requests that wait for a usable node now.";
    PARKED_BYTES Gauge "slotway_parked_bytes" [] "Bytes of the requests that wait for a usable node now.";
    REDIRECTS Counter "slotway_redirects_total" ["kind"] "Requests that a node did not execute, by what it answered.";
    RETRIES Counter "slotway_retries_total" ["reason"] "Requests that were sent again, by why that was safe.";

    REQUEST_DURATION Histogram "slotway_request_duration_seconds" []
        "From reading a command to its reply being ready for the client.";
    UPSTREAM_DURATION Histogram "slotway_upstream_duration_seconds" [] "From sending a request to a node to its reply.";
    PROXY_DURATION Histogram "slotway_proxy_duration_seconds" []
        "The part of slotway_request_duration_seconds that was not spent waiting for a node.";

    DOWNSTREAM_CONNECTIONS Gauge "slotway_downstream_connections" ["worker"] "Connections of clients, by the worker that serves them.";
    DOWNSTREAM_ACCEPTED Counter "slotway_downstream_connections_accepted_total" [] "Connections of clients accepted.";
    DOWNSTREAM_REJECTED Counter "slotway_downstream_connections_rejected_total" ["reason"]
        "Connections of clients that were not served: too many of them (max_clients), or of their address (max_clients_per_ip), or the system would not accept them (accept_error).";
    DOWNSTREAM_ACCEPT_PAUSES Counter "slotway_downstream_accept_pauses_total" []
        "Times connections of clients had to wait in the kernel's queue because of limits.accepts_per_second.";
    SENTINEL_CONNECTIONS Gauge "slotway_sentinel_connections" [] "Connections of clients that ask the proxy as a Sentinel.";
    DOWNSTREAM_CLOSED Counter "slotway_downstream_connections_closed_total" ["reason"] "Connections of clients that ended, by why.";
    DOWNSTREAM_READ Counter "slotway_downstream_read_bytes_total" [] "Bytes read from clients.";
    DOWNSTREAM_WRITTEN Counter "slotway_downstream_written_bytes_total" [] "Bytes written to clients.";
    DOWNSTREAM_REPLY_BYTES Gauge "slotway_downstream_reply_bytes" []
        "Replies that clients have not read yet, and those expected for requests under way.";
    DOWNSTREAM_REQUEST_BYTES Gauge "slotway_downstream_request_bytes" []
        "Requests that were read from clients, in part or whole, until they are answered and the memory of big ones is given back.";

    UPSTREAM_OPENED Counter "slotway_upstream_connections_opened_total" [] "Connections to nodes opened.";
    UPSTREAM_LOST Counter "slotway_upstream_connections_lost_total" [] "Connections to nodes lost, or closed for a fault.";
    UPSTREAM_READ Counter "slotway_upstream_read_bytes_total" [] "Bytes read from nodes.";
    UPSTREAM_WRITTEN Counter "slotway_upstream_written_bytes_total" [] "Bytes written to nodes.";

    UPSTREAM_PRIVATE Gauge "slotway_upstream_private_connections" []
        "Connections to nodes that are lent to one client at a time, for commands that wait and for WATCH; idle ones included.";

    NODE_CONNECTIONS Gauge "slotway_node_connections" ["node", "address"] "Workers that are connected to the node.";
    NODE_UP Gauge "slotway_node_up" ["node", "address"] "0 if the cluster counts the node as failed, or requests wait for a connection to it; else 1.";
    NODE_IN_FLIGHT Gauge "slotway_node_requests_in_flight" ["node", "address"]
        "Requests written to the node, or queued for it, and not answered yet.";
    NODE_ANSWERED Counter "slotway_node_requests_total" ["node", "address"] "Requests the node answered.";
    NODE_DURATION Histogram "slotway_node_duration_seconds" ["node", "address"] "From sending a request to the node to its reply.";

    REPLICA_READABLE Gauge "slotway_replica_readable" ["node", "address", "primary"]
        "1 if reads may go to the replica, 0 if it lags, loads or cannot be reached; absent while nobody reads from replicas. /topology says why.";
    PRIMARY_READABLE_REPLICAS Gauge "slotway_primary_readable_replicas" ["primary"]
        "Replicas of the primary that reads may go to: 0 also if it has none; absent while nobody reads from replicas.";
    REPLICA_BEHIND Gauge "slotway_replica_behind_seconds" ["node", "address"]
        "The replica has everything that was written this long ago, or later; absent while that is not known.";
    REPLICA_BEHIND_BYTES Gauge "slotway_replica_behind_bytes" ["node", "address"]
        "Bytes of the replication stream that the replica did not have yet when it was asked last.";

    TOPOLOGY_GENERATION Gauge "slotway_topology_generation" [] "Number of the topology in use; a change makes a new one.";
    TOPOLOGY_AGE Gauge "slotway_topology_age_seconds" [] "Time since the nodes last confirmed the topology; absent before the first time.";
    TOPOLOGY_UNCOVERED Gauge "slotway_topology_uncovered_slots" [] "Slots without an owner.";
    TOPOLOGY_NODES Gauge "slotway_topology_nodes" ["role"] "Nodes of the topology.";
    TOPOLOGY_REFRESHES Counter "slotway_topology_refreshes_total" ["result"] "Times the nodes were asked for the topology.";
    TOPOLOGY_REFRESH_REQUESTS Counter "slotway_topology_refresh_requests_total" ["reason"]
        "Events that call for asking the nodes; many of them lead to one refresh.";
    TOPOLOGY_QUERY_FAILURES Counter "slotway_topology_query_failures_total" ["reason"] "Questions for the topology that gave no answer of use.";
    TOPOLOGY_UNFIT_VIEWS Counter "slotway_topology_unfit_views_total" ["reason"] "Answers of nodes that are in no state to know the topology.";
    TOPOLOGY_PATCHES Counter "slotway_topology_patches_total" [] "Topologies corrected by MOVED answers ahead of a refresh.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let mut seen = std::collections::HashSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(seen.insert(name), "{name} is there twice");
            assert!(name.starts_with("slotway_"), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            assert_eq!(
                metric.kind == MetricKind::Counter,
                name.ends_with("_total"),
                "{name}"
            );
            assert!(
                metric.kind != MetricKind::Histogram || name.ends_with("_seconds"),
                "{name}"
            );
            assert!(
                metric.help.ends_with('.') && !metric.help.contains('\n'),
                "{name}"
            );
        }
    }
}
