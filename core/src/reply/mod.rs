//! Classification of the error replies of nodes: which of them say "not executed, try elsewhere or later".
//!
//! Only a top-level error reply is examined [E1]. A refusal comes from the server's admission checks, before the command body runs,
//! so the request may be sent again without doubling an effect [E3]. Everything else is passed to the client as it is.
//! Sources: Redis `getNodeByQuery`/`clusterRedirectClient`, `processCommand`; Valkey the same; sentences in SEMANTICS appendix B.

use crate::metrics::RedirectKind;
use crate::slot::Slot;
use crate::topology::redirect::{self, RedirectTarget};

/// A reply that says the request was not executed and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The slot has a new owner.
    Moved {
        /// The slot the server computed.
        slot: Slot,
        /// The owner it named.
        target: RedirectTarget,
    },
    /// The slot is being moved; this request must go to the target with ASKING, once.
    Ask {
        /// The slot the server computed.
        slot: Slot,
        /// The importing node.
        target: RedirectTarget,
    },
    /// The keys of the request are in two places right now.
    TryAgain,
    /// No node serves the slot, or the node sees the cluster as down.
    ClusterDown,
    /// The node loads its data set.
    Loading,
    /// The node is a replica.
    ReadOnly,
    /// The node is a replica by now: it lets nobody wait any longer. Never given by [`classify`].
    Demoted,
    /// The node is a replica without its primary and does not serve stale data.
    MasterDown,
}

impl Refusal {
    /// The kind counted in the metrics.
    #[must_use]
    pub const fn kind(&self) -> RedirectKind {
        match self {
            Self::Moved { .. } => RedirectKind::Moved,
            Self::Ask { .. } => RedirectKind::Ask,
            Self::TryAgain => RedirectKind::TryAgain,
            Self::ClusterDown => RedirectKind::ClusterDown,
            Self::Loading => RedirectKind::Loading,
            Self::ReadOnly | Self::Demoted => RedirectKind::ReadOnly,
            Self::MasterDown => RedirectKind::MasterDown,
        }
    }
}

/// What is known of the request whose reply is classified.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The slot of the request; `None` for a keyless one, which no server redirects [E11].
    pub slot: Option<Slot>,
    /// The command runs code that can return any text as an error (scripts, functions), so only fixed sentences count [E2].
    pub scripted: bool,
}

/// The refusal that `reply` (a whole error reply, from `-` to CRLF) stands for; `None` if it is to be passed to the client.
#[must_use]
pub fn classify(reply: &[u8], asked: Asked) -> Option<Refusal> {
    let text = reply.strip_prefix(b"-")?.strip_suffix(b"\r\n")?;
    // The first letter decides almost always: WRONGTYPE and ERR are the common errors and leave here.
    match text.first()? {
        b'M' | b'A' | b'T' | b'C' | b'L' | b'R' => {}
        _ => return None,
    }
    if asked.scripted && contains(text, b" script: ") {
        return None;
    }
    if text.starts_with(b"MOVED ") || text.starts_with(b"ASK ") {
        return redirection(text, asked);
    }
    let refusal = match code(text) {
        b"TRYAGAIN" => Refusal::TryAgain,
        b"CLUSTERDOWN" => Refusal::ClusterDown,
        b"LOADING" => Refusal::Loading,
        b"READONLY" => Refusal::ReadOnly,
        b"MASTERDOWN" => Refusal::MasterDown,
        _ => return None,
    };
    (!asked.scripted || is_server_sentence(text)).then_some(refusal)
}

fn redirection(text: &[u8], asked: Asked) -> Option<Refusal> {
    let redirect = redirect::parse(text)?;
    let wanted = asked.slot?;
    // A script may return any text; a true redirection names the slot of the request [E2].
    if redirect.slot != wanted {
        return None;
    }
    Some(match redirect.kind {
        redirect::RedirectKind::Moved => Refusal::Moved {
            slot: redirect.slot,
            target: redirect.target,
        },
        redirect::RedirectKind::Ask => Refusal::Ask {
            slot: redirect.slot,
            target: redirect.target,
        },
    })
}

fn code(text: &[u8]) -> &[u8] {
    let end = memchr::memchr(b' ', text).unwrap_or(text.len());
    &text[..end]
}

/// Whether `text` is one of the fixed sentences of the servers' admission checks.
fn is_server_sentence(text: &[u8]) -> bool {
    const WHOLE: [&[u8]; 9] = [
        b"TRYAGAIN Multiple keys request during rehashing of slot",
        b"TRYAGAIN Slot is being trimmed",
        b"CLUSTERDOWN The cluster is down",
        b"CLUSTERDOWN Hash slot not served",
        b"CLUSTERDOWN The cluster is down and only accepts read commands",
        b"READONLY You can't write against a read only replica.",
        b"READONLY You can't write against a read only slave.",
        b"READONLY Can not run script with write flag on readonly replica",
        b"READONLY Can not run script with write flag on readonly replica.",
    ];
    WHOLE.contains(&text)
        || (text.starts_with(b"LOADING ") && text.ends_with(b" is loading the dataset in memory"))
        || text.starts_with(b"MASTERDOWN Link with MASTER is down")
        || text.starts_with(b"MASTERDOWN Link with PRIMARY is down")
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(text, needle).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(slot: u16) -> Asked {
        Asked {
            slot: Slot::new(slot),
            scripted: false,
        }
    }

    fn script(slot: u16) -> Asked {
        Asked {
            slot: Slot::new(slot),
            scripted: true,
        }
    }

    #[test]
    fn redirections_need_the_slot_of_the_request_e2() {
        assert!(matches!(
            classify(b"-MOVED 12182 127.0.0.1:7001\r\n", data(12182)),
            Some(Refusal::Moved { .. })
        ));
        assert!(matches!(
            classify(b"-ASK 12182 127.0.0.1:7001\r\n", data(12182)),
            Some(Refusal::Ask { .. })
        ));
        assert_eq!(classify(b"-MOVED 1 127.0.0.1:7001\r\n", data(12182)), None);
        assert_eq!(
            classify(
                b"-MOVED 1 127.0.0.1:7001\r\n",
                Asked {
                    slot: None,
                    scripted: false
                }
            ),
            None
        );
        assert_eq!(classify(b"-MOVED nonsense\r\n", data(1)), None);
    }

    #[test]
    fn refusals_by_code_word_e5() {
        let cases: [(&[u8], Refusal); 7] = [
            (b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", Refusal::TryAgain),
            (b"-CLUSTERDOWN The cluster is down\r\n", Refusal::ClusterDown),
            (b"-CLUSTERDOWN Hash slot not served\r\n", Refusal::ClusterDown),
            (b"-LOADING Valkey is loading the dataset in memory\r\n", Refusal::Loading),
            (b"-READONLY You can't write against a read only slave.\r\n", Refusal::ReadOnly),
            (b"-READONLY You can't write against a read only replica.\r\n", Refusal::ReadOnly),
            (b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n", Refusal::MasterDown),
        ];
        for (reply, refusal) in cases {
            assert_eq!(classify(reply, data(1)), Some(refusal.clone()));
            assert_eq!(classify(reply, script(1)), Some(refusal));
        }
    }

    #[test]
    fn other_errors_are_passed_on() {
        for reply in [
            &b"-ERR unknown command\r\n"[..],
            b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
            b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
            b"-NOREPLICAS Not enough good replicas to write.\r\n",
            b"-CROSSSLOT Keys in request don't hash to the same slot\r\n",
            b"-MISCONF Errors writing to the AOF file\r\n",
            b"-READONLYISH x\r\n",
            b"-\r\n",
            b"+MOVED 1 a:1\r\n",
        ] {
            assert_eq!(classify(reply, data(1)), None);
        }
    }

    #[test]
    fn scripts_cannot_fake_a_refusal_e2() {
        assert_eq!(classify(b"-READONLY because I say so\r\n", script(1)), None);
        assert_eq!(classify(b"-TRYAGAIN later\r\n", script(1)), None);
        assert_eq!(
            classify(
                b"-LOADING x is loading the dataset in memory script: abc, on @user_script:1.\r\n",
                script(1)
            ),
            None
        );
        assert!(
            classify(
                b"-READONLY Can not run script with write flag on readonly replica\r\n",
                script(1)
            )
            .is_some()
        );
    }
}
