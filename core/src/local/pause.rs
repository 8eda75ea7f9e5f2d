//! CLIENT PAUSE and CLIENT UNPAUSE: clients of this process wait [U15].

use std::time::Duration;

use super::client::ADMIN_DISABLED;
use super::{Call, LocalOutcome, parse_integer};

/// A pause that ends later than servers can say.
const TOO_LONG: &str = "ERR timeout is out of range";

pub(super) fn pause(call: &mut Call<'_>) -> LocalOutcome {
    if !call.env.listener().admin_commands {
        call.error(ADMIN_DISABLED);
        return LocalOutcome::Reply;
    }
    match parse(call) {
        Ok((time, writes_only)) => {
            call.env.pause_clients(time, writes_only);
            call.ok();
            LocalOutcome::PauseChanged
        }
        Err(Fault::Arguments) => {
            call.error_about(
                "ERR unknown subcommand or wrong number of arguments for '",
                call.arg(1),
                "'. Try CLIENT HELP.",
            );
            LocalOutcome::Reply
        }
        Err(Fault::Text(text)) => {
            call.error(text);
            LocalOutcome::Reply
        }
    }
}

pub(super) fn unpause(call: &mut Call<'_>) -> LocalOutcome {
    if !call.env.listener().admin_commands {
        call.error(ADMIN_DISABLED);
        return LocalOutcome::Reply;
    }
    call.env.unpause_clients();
    call.ok();
    LocalOutcome::PauseChanged
}

/// What is wrong with a CLIENT PAUSE.
enum Fault {
    /// There are too many.
    Arguments,
    /// This.
    Text(&'static str),
}

/// How long, and whether only what writes waits.
fn parse(call: &Call<'_>) -> Result<(Duration, bool), Fault> {
    let mode = call.arg(3);
    let writes_only = mode.eq_ignore_ascii_case(b"WRITE");
    match call.args.len() {
        3 => {}
        4 if writes_only || mode.eq_ignore_ascii_case(b"ALL") => {}
        4 => return Err(Fault::Text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(Fault::Arguments),
    }
    let Some(millis) = parse_integer(call.arg(2)) else {
        return Err(Fault::Text("ERR timeout is not an integer or out of range"));
    };
    let Ok(millis) = u64::try_from(millis) else {
        return Err(Fault::Text("ERR timeout is negative"));
    };
    let now = call.env.unix_micros() / 1000;
    if i64::try_from(now.saturating_add(millis)).is_err() {
        return Err(Fault::Text(TOO_LONG));
    }
    Ok((Duration::from_millis(millis), writes_only))
}
