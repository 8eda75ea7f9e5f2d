//! SLOWLOG, COMMANDLOG and LATENCY: the proxy keeps no such records, so they answer what a server answers that has logged
//! nothing. Latency histograms are in the proxy's metrics.

use super::{Call, parse_integer, write_not_yet};
use crate::command::{Spec, id};
use crate::resp::write;

const BAD_COUNT: &str = "ERR count should be greater than or equal to -1";

pub(super) fn slowlog(spec: &Spec, call: &mut Call<'_>) {
    match spec.id {
        // The arity of SLOWLOG GET is open; the servers check its upper bound in the command itself.
        id::SLOWLOG_GET if call.args.len() > 3 => call.error_about(
            "ERR unknown subcommand or wrong number of arguments for '",
            call.arg(1),
            "'. Try SLOWLOG HELP.",
        ),
        id::SLOWLOG_GET if call.args.len() == 3 && !is_count(call.arg(2)) => call.error(BAD_COUNT),
        id::SLOWLOG_GET => write::array(call.out, 0),
        id::SLOWLOG_LEN => write::integer(call.out, 0),
        id::SLOWLOG_RESET => call.ok(),
        _ => write_not_yet(spec, call.out),
    }
}

pub(super) fn commandlog(spec: &Spec, call: &mut Call<'_>) {
    let kind = if spec.id == id::COMMANDLOG_GET {
        call.arg(3)
    } else {
        call.arg(2)
    };
    let known = ["slow", "large-request", "large-reply"]
        .iter()
        .any(|name| kind.eq_ignore_ascii_case(name.as_bytes()));
    match spec.id {
        id::COMMANDLOG_GET if !is_count(call.arg(2)) => call.error(BAD_COUNT),
        id::COMMANDLOG_GET | id::COMMANDLOG_LEN | id::COMMANDLOG_RESET if !known => {
            call.error("ERR type should be one of the following: slow, large-request, large-reply");
        }
        id::COMMANDLOG_GET => write::array(call.out, 0),
        id::COMMANDLOG_LEN => write::integer(call.out, 0),
        id::COMMANDLOG_RESET => call.ok(),
        _ => write_not_yet(spec, call.out),
    }
}

pub(super) fn latency(spec: &Spec, call: &mut Call<'_>) {
    match spec.id {
        id::LATENCY_LATEST | id::LATENCY_HISTORY => write::array(call.out, 0),
        id::LATENCY_RESET => write::integer(call.out, 0),
        id::LATENCY_HISTOGRAM => write::map(call.out, 0, call.client.protocol),
        id::LATENCY_GRAPH => {
            call.error_about("ERR No samples available for event '", call.arg(2), "'");
        }
        id::LATENCY_DOCTOR => {
            call.text(b"This proxy samples no latency events. Its metrics have latency histograms of commands and nodes.\n");
        }
        _ => write_not_yet(spec, call.out),
    }
}

/// A number of entries; -1 stands for all.
fn is_count(word: &[u8]) -> bool {
    parse_integer(word).is_some_and(|count| count >= -1)
}
