//! Any error reply to any request: no panic; a redirection only for the slot that was asked for and never for a keyless request;
//! from code that may return any text only what a server's admission checks say; nothing that the client should have seen.
//!
//! Input: two bytes for the slot that was asked for, then the text of the error, or a whole reply.

use slotway_core::reply::{Asked, Refusal, classify};
use slotway_core::resp::ReplyScanner;
use slotway_core::slot::Slot;
use slotway_core::topology::redirect::RedirectTarget;
use slotway_core::topology::{Address, redirect};

/// First words of everything that may be kept from the client.
const CODES: [&str; 7] = [
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "LOADING",
    "READONLY",
    "MASTERDOWN",
];

/// The check of this target.
pub fn check(data: &[u8]) {
    let [high, low, text @ ..] = data else { return };
    let slot = Slot::new(u16::from_be_bytes([high & 0x3f, *low]));
    check_reply(text, slot);
    check_reply(&[b"-", text, b"\r\n"].concat(), slot);
}

fn check_reply(reply: &[u8], slot: Option<Slot>) {
    let ask = |slot, scripted| classify(reply, Asked { slot, scripted });
    let plain = ask(slot, false);
    let scripted = ask(slot, true);
    // The engine asks about whole replies only.
    if ReplyScanner::new().scan(reply) != Ok(Some(reply.len())) {
        return;
    }
    assert!(
        scripted.is_none() || scripted == plain,
        "a script is believed more than a node: {scripted:?}, {plain:?}"
    );
    let keyless = ask(None, false);
    match &plain {
        None => assert_eq!(keyless, None),
        Some(
            Refusal::Moved {
                slot: named,
                target,
            }
            | Refusal::Ask {
                slot: named,
                target,
            },
        ) => {
            assert_eq!(Some(*named), slot, "a redirection for another slot");
            assert_eq!(keyless, None, "a redirection without a key");
            check_target(target);
            let parsed = redirect::parse(reply).expect("it was parsed for the classification");
            assert_eq!((parsed.slot, &parsed.target), (*named, target));
        }
        Some(_) => assert_eq!(keyless, plain),
    }
    if let Some(refusal) = plain {
        let code = reply.get(1..).unwrap_or_default();
        let code = code.split(|byte| matches!(byte, b' ' | b'\r')).next();
        assert!(
            CODES.iter().any(|known| Some(known.as_bytes()) == code),
            "{refusal:?} of {:?}",
            reply.escape_ascii().to_string()
        );
    }
}

/// What can be connected to reads back as it was written.
fn check_target(target: &RedirectTarget) {
    match target {
        RedirectTarget::Address(address) => {
            assert!(address.port != 0 && !address.host.is_empty());
            assert_eq!(Address::parse(&address.to_string()).as_ref(), Ok(address));
        }
        RedirectTarget::SameHost(port) => assert_ne!(*port, 0),
        RedirectTarget::Unknown => {}
    }
}
