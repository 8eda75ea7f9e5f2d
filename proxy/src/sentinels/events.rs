//! Hears what a Sentinel publishes [N14].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::resp::{Value, parse_value};
use slotway_core::topology::Address;
use slotway_core::topology::sentinel::{ANNOUNCED_ON, Announcement, announcement, concerns};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::SentinelSettings;
use super::ask::{AskError, log_in};
use crate::question::Questioner;

/// Channels of events after which the primary, its replicas or the Sentinels may be others.
const CHANNELS: [&str; 14] = [
    "+switch-master",
    "+reset-master",
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+slave",
    "+reboot",
    "+convert-to-slave",
    "+sentinel",
    "+tilt",
    "-tilt",
    ANNOUNCED_ON,
    "+failover-state-reconf-slaves",
];
/// A connection over which nothing comes is asked for a sign of life this often, and has as long for it.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(5);
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// Who is told of events.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// Of every event about the service.
    pub(super) event: Arc<Notify>,
    /// Of those that announce a promotion. What does not fit is not worth waiting for.
    pub(super) announcements: mpsc::Sender<Announcement>,
}

/// Tells of every event about the service, and when the Sentinel can be heard again. Ends only when it is aborted.
pub(super) async fn listen(from: Address, settings: Arc<SentinelSettings>, told: Told) {
    let mut pause = RETRY;
    let mut is_told = false;
    loop {
        match timeout(CONNECT_PATIENCE, subscribe(&from, &settings)).await {
            Ok(Ok(link)) => {
                pause = RETRY;
                told.event.notify_one();
                let error = hear(link, &settings.service, &told).await;
                tracing::debug!(sentinel = %from, ?error, "a Sentinel is not heard any more");
            }
            Ok(Err(error @ AskError::Refused { .. })) if !is_told => {
                is_told = true;
                tracing::warn!(%error, "a Sentinel does not let its events be heard: switches are noticed late");
            }
            Ok(Err(error)) => tracing::debug!(%error, "a Sentinel cannot be heard"),
            Err(_) => tracing::debug!(sentinel = %from, "a Sentinel does not answer"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn subscribe(from: &Address, settings: &SentinelSettings) -> Result<Questioner, AskError> {
    let lost = |error| AskError::Lost {
        from: from.clone(),
        error,
    };
    let mut link = Questioner::connect(from).await.map_err(lost)?;
    log_in(&mut link, settings, from).await?;
    let mut command = vec!["SUBSCRIBE"];
    command.extend(CHANNELS);
    link.send(&command).await.map_err(lost)?;
    for _ in CHANNELS {
        let reply = link.next().await.map_err(lost)?;
        if let Ok(Some((Value::Error(text), _))) = parse_value(&reply) {
            return Err(AskError::Refused {
                from: from.clone(),
                text: String::from_utf8_lossy(text).into_owned(),
            });
        }
    }
    Ok(link)
}

/// Until the connection is lost.
async fn hear(mut link: Questioner, service: &str, told: &Told) -> Option<io::Error> {
    let mut asked = false;
    loop {
        match timeout(PING_INTERVAL, link.next()).await {
            Ok(Ok(message)) => {
                asked = false;
                tell(&message, service, told);
            }
            Ok(Err(error)) => return Some(error),
            Err(_) if asked => return None,
            Err(_) => {
                asked = true;
                if let Err(error) = link.send(&["PING"]).await {
                    return Some(error);
                }
            }
        }
    }
}

fn tell(message: &[u8], service: &str, told: &Told) {
    let Ok(Some((Value::Array(parts) | Value::Push(parts), _))) = parse_value(message) else {
        return;
    };
    let [
        Value::Bulk(b"message"),
        Value::Bulk(channel),
        Value::Bulk(payload),
    ] = parts.as_slice()
    else {
        return;
    };
    if let Some(announced) = announcement(service, channel, payload) {
        let _ = told.announcements.try_send(announced);
    }
    if concerns(service, channel, payload) {
        told.event.notify_one();
    }
}
