//! Events that Sentinels publish [N14].

/// Whether the event `payload`, published on `channel`, may concern the service `name`, so that the Sentinels are asked anew. An event is
/// never more than a reason to ask: one Sentinel that lies moves nothing.
///
/// Payloads are `type name host port`, for other instances than the primary with ` @ service host port` behind it, or
/// `service oldhost oldport newhost newport` (`+switch-master`); `+tilt` and `-tilt` concern everything.
#[must_use]
pub fn concerns(name: &str, channel: &[u8], payload: &[u8]) -> bool {
    if matches!(channel, b"+tilt" | b"-tilt") {
        return true;
    }
    let Ok(payload) = std::str::from_utf8(payload) else {
        return false;
    };
    let service = match payload.split_once(" @ ") {
        Some((_, about)) => about,
        None if channel == b"+switch-master" => payload,
        None => payload.split_once(' ').map_or("", |(_, rest)| rest),
    };
    service
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}
