//! What a Sentinel says of a primary: the fields of Redis 7.0 and Valkey 9.1, in their order.

use super::{Call, SentinelService};
use crate::resp::write;

/// Writes the fields of the service, which looks like a primary that is well and has no replica.
pub(super) fn write(service: &SentinelService, call: &mut Call<'_>) {
    let uptime = call.env.process().uptime_seconds;
    let uptime_millis = uptime.saturating_mul(1000).to_string();
    let (host, port) = (service.host(call.client), service.port.to_string());
    let fields: [(&str, &str); 20] = [
        ("name", &service.name),
        ("ip", &host),
        ("port", &port),
        ("runid", &service.run_id),
        ("flags", "master"),
        ("link-pending-commands", "0"),
        ("link-refcount", "1"),
        ("last-ping-sent", "0"),
        ("last-ok-ping-reply", "0"),
        ("last-ping-reply", "0"),
        ("down-after-milliseconds", "30000"),
        ("info-refresh", "0"),
        ("role-reported", "master"),
        ("role-reported-time", &uptime_millis),
        ("config-epoch", "0"),
        ("num-slaves", "0"),
        ("num-other-sentinels", "0"),
        ("quorum", "1"),
        ("failover-timeout", "180000"),
        ("parallel-syncs", "1"),
    ];
    write::map(call.out, fields.len(), call.client.protocol);
    for (name, value) in fields {
        write::bulk(call.out, name.as_bytes());
        write::bulk(call.out, value.as_bytes());
    }
}
