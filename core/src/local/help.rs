//! HELP of the containers: the subcommands that this proxy answers or passes on, as an array of simple strings like the
//! servers' own.

use super::{Call, write_not_yet};
use crate::command::Spec;
use crate::resp::write;

/// One line per entry: usage, then what it does, indented.
type Entries = &'static [(&'static str, &'static str)];

const ACL: Entries = &[
    (
        "CAT [<category>]",
        "The ACL categories, or the commands of one.",
    ),
    (
        "GENPASS [<bits>]",
        "A random password of that many bits (256) in hex.",
    ),
    ("WHOAMI", "The user of this connection."),
];
const CLIENT: Entries = &[
    (
        "CACHING (YES|NO)",
        "Whether the next command is tracked, in OPTIN or OPTOUT mode.",
    ),
    (
        "CAPA <capability> [<capability> ...]",
        "Accepted, without effect: the proxy redirects no client.",
    ),
    ("GETNAME", "The name of this connection."),
    (
        "GETREDIR",
        "The client that gets the invalidation messages: 0 this one, -1 there are none.",
    ),
    ("ID", "The id of this connection, unique in this proxy."),
    ("INFO", "This connection's line of CLIENT LIST."),
    (
        "KILL <ip:port>",
        "Close the connection of this proxy made from that address.",
    ),
    (
        "KILL <option> <value> [<option> <value> ...]",
        "Close connections of this proxy. Options: ID, ADDR, LADDR, TYPE, USER, MAXAGE, SKIPME.",
    ),
    (
        "LIST [<option> <value> ...]",
        "Connections of this proxy. Options as for KILL; ID takes several.",
    ),
    (
        "NO-EVICT (ON|OFF)",
        "Accepted; connections to the servers are shared.",
    ),
    (
        "NO-TOUCH (ON|OFF)",
        "Accepted; connections to the servers are shared.",
    ),
    (
        "PAUSE <milliseconds> [WRITE|ALL]",
        "Have the clients of this proxy wait, those that write or all.",
    ),
    (
        "REPLY (ON|OFF|SKIP)",
        "Whether this connection gets replies.",
    ),
    (
        "SETINFO (LIB-NAME|LIB-VER) <value>",
        "What the client library is.",
    ),
    ("SETNAME <name>", "Name this connection."),
    (
        "TRACKING (ON|OFF) [<option> ...]",
        "Be told of keys that change. ON only where listener.tracking is on.",
    ),
    ("TRACKINGINFO", "The state of tracking."),
    ("UNPAUSE", "End a pause of clients."),
];
const CLUSTER: Entries = &[
    ("COUNT-FAILURE-REPORTS <node-id>", "0."),
    ("COUNTKEYSINSLOT <slot>", "Number of keys in a slot."),
    ("GETKEYSINSLOT <slot> <count>", "Keys in a slot."),
    (
        "INFO",
        "The state of the cluster this proxy shows: one node that serves every slot.",
    ),
    ("KEYSLOT <key>", "The slot of a key."),
    ("LINKS", "Connections to other nodes: none."),
    ("MYID", "The id of the node this proxy shows."),
    ("MYSHARDID", "The id of its shard."),
    (
        "NODES",
        "The node this proxy shows, in the servers' line format.",
    ),
    (
        "REPLICAS <node-id>",
        "Replicas of the node: none are shown.",
    ),
    ("SHARDS", "All slots and the node, as one shard."),
    ("SLOTS", "All slots and the node, as one range."),
];
const COMMANDLOG: Entries = &[
    ("GET <count> <type>", "Entries of the log."),
    ("LEN <type>", "Number of entries."),
    ("RESET <type>", "Forget the entries."),
];
const CONFIG: Entries = &[(
    "GET <pattern> [<pattern> ...]",
    "Settings of this proxy whose names match.",
)];
const FUNCTION: Entries = &[
    ("DELETE <library>", "Delete a library from all primaries."),
    ("DUMP", "All libraries, serialized, from one primary."),
    (
        "FLUSH [ASYNC|SYNC]",
        "Delete all libraries from all primaries.",
    ),
    ("KILL", "Stop the function that runs, on whichever primary."),
    (
        "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
        "The libraries of one primary.",
    ),
    (
        "LOAD [REPLACE] <code>",
        "Create a library on all primaries.",
    ),
    (
        "RESTORE <payload> [FLUSH|APPEND|REPLACE]",
        "Create the libraries of a dump on all primaries.",
    ),
    ("STATS", "The function that runs, if any."),
];
const LATENCY: Entries = &[
    ("DOCTOR", "A report on slow requests."),
    ("GRAPH <event>", "The samples of an event as a graph."),
    (
        "HISTOGRAM [<command> ...]",
        "Histograms of commands: none are kept here; see the proxy's metrics.",
    ),
    (
        "HISTORY <event>",
        "The samples of an event; the one there is is 'command'.",
    ),
    ("LATEST", "The latest sample of every event."),
    ("RESET [<event> ...]", "Forget the samples of events."),
];
const MEMORY: Entries = &[(
    "USAGE <key> [SAMPLES <count>]",
    "Bytes a key takes at its node.",
)];
const MODULE: Entries = &[("LIST", "Modules of one primary.")];
const OBJECT: Entries = &[
    ("ENCODING <key>", "How the value is stored."),
    (
        "FREQ <key>",
        "How often the key is used, on a logarithmic scale.",
    ),
    ("IDLETIME <key>", "Seconds since the key was last used."),
    ("REFCOUNT <key>", "Number of references to the value."),
];
const PUBSUB: Entries = &[
    ("CHANNELS [<pattern>]", "Channels with subscribers."),
    ("NUMPAT", "Number of patterns subscribed to."),
    (
        "NUMSUB [<channel> ...]",
        "Number of subscribers of channels.",
    ),
    (
        "SHARDCHANNELS [<pattern>]",
        "Sharded channels with subscribers.",
    ),
    (
        "SHARDNUMSUB [<channel> ...]",
        "Number of subscribers of sharded channels.",
    ),
];
const SCRIPT: Entries = &[
    (
        "EXISTS <sha1> [<sha1> ...]",
        "Which scripts all primaries know.",
    ),
    ("FLUSH [ASYNC|SYNC]", "Forget all scripts on all primaries."),
    ("KILL", "Stop the script that runs, on whichever primary."),
    ("LOAD <script>", "Make a script known to all primaries."),
];
const SENTINEL: Entries = &[
    (
        "CKQUORUM <master-name>",
        "Always fine: the address never changes.",
    ),
    (
        "GET-MASTER-ADDR-BY-NAME <master-name>",
        "Where clients of the service connect to: this proxy.",
    ),
    (
        "MASTER <master-name>",
        "The service, which has this proxy for its primary.",
    ),
    ("MASTERS", "All of them."),
    ("MYID", "The id of this proxy."),
    (
        "REPLICAS <master-name>",
        "None: the proxy sends everything where it belongs.",
    ),
    ("SENTINELS <master-name>", "None besides this one."),
];
const SLOWLOG: Entries = &[
    ("GET [<count>]", "Entries of the log."),
    ("LEN", "Number of entries."),
    ("RESET", "Forget the entries."),
];
const XGROUP: Entries = &[
    (
        "CREATE <key> <group> <id|$> [MKSTREAM] [ENTRIESREAD <n>]",
        "Create a consumer group.",
    ),
    (
        "CREATECONSUMER <key> <group> <consumer>",
        "Create a consumer.",
    ),
    ("DELCONSUMER <key> <group> <consumer>", "Delete a consumer."),
    ("DESTROY <key> <group>", "Delete a consumer group."),
    (
        "SETID <key> <group> <id|$> [ENTRIESREAD <n>]",
        "Set the last id a group has delivered.",
    ),
];
const XINFO: Entries = &[
    ("CONSUMERS <key> <group>", "The consumers of a group."),
    ("GROUPS <key>", "The groups of a stream."),
    ("STREAM <key> [FULL [COUNT <n>]]", "A stream."),
];

/// COMMAND HELP is answered with the rest of COMMAND.
fn entries(container: &str) -> Option<Entries> {
    Some(match container {
        "acl" => ACL,
        "client" => CLIENT,
        "cluster" => CLUSTER,
        "commandlog" => COMMANDLOG,
        "config" => CONFIG,
        "function" => FUNCTION,
        "latency" => LATENCY,
        "memory" => MEMORY,
        "module" => MODULE,
        "object" => OBJECT,
        "pubsub" => PUBSUB,
        "script" => SCRIPT,
        "slowlog" => SLOWLOG,
        "xgroup" => XGROUP,
        "xinfo" => XINFO,
        _ => return None,
    })
}

/// SENTINEL HELP, of a Sentinel.
pub(super) fn sentinel_help(call: &mut Call<'_>) {
    write_help("sentinel", SENTINEL, call);
}

pub(super) fn help(container: &str, spec: &Spec, call: &mut Call<'_>) {
    match entries(container) {
        Some(entries) => write_help(container, entries, call),
        None => write_not_yet(spec, call.out),
    }
}

fn write_help(container: &str, entries: Entries, call: &mut Call<'_>) {
    let out = &mut *call.out;
    write::array(out, entries.len() * 2 + 3);
    let title = format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        container.to_ascii_uppercase()
    );
    write::simple(out, title.as_bytes());
    for (usage, meaning) in entries
        .iter()
        .copied()
        .chain([("HELP", "Print this help.")])
    {
        write::simple(out, usage.as_bytes());
        write::simple(out, format!("    {meaning}").as_bytes());
    }
}
