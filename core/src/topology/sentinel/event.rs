//! Events that Sentinels publish [N14].

use super::super::Address;
use super::Announcement;

/// The channel on which the Sentinel that leads a failover says which replica it is about to promote.
pub const ANNOUNCED_ON: &str = "+failover-state-send-slaveof-noone";

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

/// Which server of the service `name` is about to be promoted, if that is what the event says: `slave name host port @ service host port`.
#[must_use]
pub fn announcement(name: &str, channel: &[u8], payload: &[u8]) -> Option<Announcement> {
    if channel != ANNOUNCED_ON.as_bytes() {
        return None;
    }
    let (promoted, about) = std::str::from_utf8(payload).ok()?.split_once(" @ ")?;
    let primary = about.strip_prefix(name)?.strip_prefix(' ')?;
    let promoted = promoted.strip_prefix("slave ")?;
    let (_, promoted) = promoted.split_once(' ')?;
    Some(Announcement {
        promoted: address(promoted)?,
        primary: address(primary)?,
    })
}

/// `host port`
fn address(text: &str) -> Option<Address> {
    let (host, port) = text.split_once(' ')?;
    format!("{host}:{port}").parse().ok()
}
