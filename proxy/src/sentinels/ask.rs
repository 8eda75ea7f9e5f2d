//! One question to one Sentinel.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use slotway_core::resp::{Value, parse_value};
use slotway_core::topology::Address;
use slotway_core::topology::sentinel::{
    ReplyProblem, Report, is_out_of_reach, is_tilted, parse_primary, parse_sentinels, run_id,
};
use tokio::time::timeout;

use super::SentinelSettings;
use crate::question::Questioner;

/// Connect, log in and answer [N11].
const PATIENCE: Duration = Duration::from_secs(1);

/// What one Sentinel says.
#[derive(Debug)]
pub(super) struct Said {
    /// Where it was asked.
    pub(super) from: Address,
    /// Who says it, whatever address it was asked at.
    pub(super) run_id: Option<Vec<u8>>,
    /// About the primary.
    pub(super) report: Report,
    /// Where the others are.
    pub(super) sentinels: Vec<Address>,
}

/// Why it says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{from}: {error}")]
    Lost { from: Address, error: io::Error },
    #[error("{from}: no answer in time")]
    Late { from: Address },
    #[error("{from}: {text}{}", advice(.text))]
    Refused { from: Address, text: String },
    #[error(
        "{from} names {primary}, which only programs on its own host can connect to: set the replica-announce-ip of the servers, and have the Sentinel monitor the primary by an address that all can reach"
    )]
    OutOfReach { from: Address, primary: Address },
    #[error("{from}: {problem}")]
    Problem {
        from: Address,
        problem: ReplyProblem,
    },
}

/// What whoever runs the Sentinels or the proxy can do about a refusal.
fn advice(refusal: &str) -> &'static str {
    match refusal.split(' ').next() {
        Some("NOPERM") => {
            "; the proxy's user at the Sentinels (upstream.sentinel_user) needs SENTINEL, INFO, PING and SUBSCRIBE to all channels: ACL SETUSER <user> +sentinel +info +ping +subscribe allchannels at each Sentinel"
        }
        Some("NOAUTH") => "; the Sentinels want a password: set upstream.sentinel_password",
        Some("WRONGPASS") => {
            "; check upstream.sentinel_user and upstream.sentinel_password: upstream.user and upstream.password are for the servers"
        }
        _ if refusal.starts_with("ERR unknown command") => {
            "; upstream.sentinels has to name Sentinels (usually port 26379), not the servers they watch"
        }
        _ => "",
    }
}

/// Asks the Sentinel at `from` all that matters.
pub(super) async fn ask(from: Address, settings: Arc<SentinelSettings>) -> Result<Said, AskError> {
    let late = AskError::Late { from: from.clone() };
    timeout(PATIENCE, ask_patiently(from, &settings))
        .await
        .unwrap_or(Err(late))
}

async fn ask_patiently(from: Address, settings: &SentinelSettings) -> Result<Said, AskError> {
    let lost = |error| AskError::Lost {
        from: from.clone(),
        error,
    };
    let problem = |problem| AskError::Problem {
        from: from.clone(),
        problem,
    };
    let mut link = Questioner::connect(&from).await.map_err(lost)?;
    log_in(&mut link, settings, &from).await?;
    let service = settings.service.as_str();
    let mut replies = Vec::new();
    for question in [
        &["SENTINEL", "MASTER", service] as &[&str],
        &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", service],
        &["INFO"],
        &["SENTINEL", "SENTINELS", service],
    ] {
        replies.push(link.ask_anything(question).await.map_err(lost)?.to_vec());
    }
    let value = |position: usize| {
        let reply = replies.get(position).map(Vec::as_slice);
        match parse_value(reply.unwrap_or_default()) {
            Ok(Some((value, _))) => value,
            Ok(None) | Err(_) => Value::Null,
        }
    };
    let (state, address, sentinels) = (value(0), value(1), value(3));
    for answer in [&state, &address, &sentinels] {
        if let Value::Error(text) = answer
            && !text.starts_with(b"ERR No such master")
        {
            let text = String::from_utf8_lossy(text).into_owned();
            return Err(AskError::Refused { from, text });
        }
    }
    let info = match value(2) {
        Value::Bulk(text) | Value::Verbatim(text) => text,
        _ => b"",
    };
    let report = parse_primary(&state, &address, is_tilted(info)).map_err(problem)?;
    let peer = link.peer().map_err(lost)?;
    if is_out_of_reach(&report.primary, &peer) {
        let primary = report.primary;
        return Err(AskError::OutOfReach { from, primary });
    }
    let run_id = run_id(info).map(<[u8]>::to_vec);
    let mut sentinels = parse_sentinels(&sentinels).map_err(problem)?;
    // One on loopback would be another Sentinel here, or nobody.
    sentinels.retain(|sentinel| !is_out_of_reach(sentinel, &peer));
    Ok(Said {
        from,
        run_id,
        report,
        sentinels,
    })
}

/// Logs in to a Sentinel.
pub(super) async fn log_in(
    link: &mut Questioner,
    settings: &SentinelSettings,
    from: &Address,
) -> Result<(), AskError> {
    let answer = link
        .log_in(settings.user.as_deref(), settings.password.as_ref())
        .await;
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(text)) => Err(AskError::Refused {
            from: from.clone(),
            text,
        }),
        Err(error) => Err(AskError::Lost {
            from: from.clone(),
            error,
        }),
    }
}
