//! SLOWLOG and COMMANDLOG: the proxy's own slow log. LATENCY: the seconds in which requests were slow, by the same measure. Times of each
//! command are not kept: LATENCY HISTOGRAM has nothing to show, the proxy's metrics have histograms of all requests.

use super::{Call, parse_integer, write_not_yet};
use crate::command::{Spec, id};
use crate::latency::{EVENT, LatencySamples};
use crate::resp::write;

/// What SLOWLOG GET gives of itself.
const FEW: i64 = 10;

const BAD_COUNT: &str = "ERR count should be greater than or equal to -1";

pub(super) fn slowlog(spec: &Spec, call: &mut Call<'_>) {
    match spec.id {
        // The arity of SLOWLOG GET is open; the servers check its upper bound in the command itself.
        id::SLOWLOG_GET if call.args.len() > 3 => call.error_about(
            "ERR unknown subcommand or wrong number of arguments for '",
            call.arg(1),
            "'. Try SLOWLOG HELP.",
        ),
        id::SLOWLOG_GET if call.args.len() == 2 => get(FEW, call),
        id::SLOWLOG_GET => match count(call.arg(2)) {
            Some(count) => get(count, call),
            None => call.error(BAD_COUNT),
        },
        id::SLOWLOG_LEN => length(call),
        id::SLOWLOG_RESET => reset(call),
        _ => write_not_yet(spec, call.out),
    }
}

/// The newest `count` entries; all if it is negative.
fn get(count: i64, call: &mut Call<'_>) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let (env, out) = (call.env, &mut *call.out);
    env.slow_log(&mut |log| log.write(count, out));
}

fn length(call: &mut Call<'_>) {
    let mut length = 0;
    call.env.slow_log(&mut |log| length = log.len());
    write::integer(call.out, i64::try_from(length).unwrap_or(i64::MAX));
}

fn reset(call: &mut Call<'_>) {
    call.env.slow_log(&mut |log| log.clear());
    call.ok();
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
    let is_slow = kind.eq_ignore_ascii_case(b"slow");
    match spec.id {
        id::COMMANDLOG_GET if count(call.arg(2)).is_none() => call.error(BAD_COUNT),
        id::COMMANDLOG_GET | id::COMMANDLOG_LEN | id::COMMANDLOG_RESET if !known => {
            call.error("ERR type should be one of the following: slow, large-request, large-reply");
        }
        id::COMMANDLOG_GET if is_slow => get(count(call.arg(2)).unwrap_or(FEW), call),
        id::COMMANDLOG_LEN if is_slow => length(call),
        id::COMMANDLOG_RESET if is_slow => reset(call),
        // Requests and replies that are big are counted in the metrics, not kept.
        id::COMMANDLOG_GET => write::array(call.out, 0),
        id::COMMANDLOG_LEN => write::integer(call.out, 0),
        id::COMMANDLOG_RESET => call.ok(),
        _ => write_not_yet(spec, call.out),
    }
}

pub(super) fn latency(spec: &Spec, call: &mut Call<'_>) {
    match spec.id {
        id::LATENCY_LATEST => show_latency(call, |latency, out| latency.write_latest(out)),
        id::LATENCY_HISTORY if call.arg(2) == EVENT.as_bytes() => {
            show_latency(call, |latency, out| latency.write_history(out));
        }
        id::LATENCY_HISTORY => write::array(call.out, 0),
        id::LATENCY_RESET => reset_latency(call),
        id::LATENCY_HISTOGRAM => write::map(call.out, 0, call.client.protocol),
        id::LATENCY_GRAPH => graph(call),
        id::LATENCY_DOCTOR => {
            let (now, mut text) = (now_seconds(call), String::new());
            call.env
                .slow_log(&mut |log| text = log.latency().report(now));
            call.text(text.as_bytes());
        }
        _ => write_not_yet(spec, call.out),
    }
}

fn show_latency(call: &mut Call<'_>, write: impl Fn(&LatencySamples, &mut Vec<u8>)) {
    let (env, out) = (call.env, &mut *call.out);
    env.slow_log(&mut |log| write(log.latency(), out));
}

/// The number of events that were forgotten.
fn reset_latency(call: &mut Call<'_>) {
    let mut names = call.args.iter().skip(2);
    let is_meant = call.args.len() == 2 || names.any(|name| name == EVENT.as_bytes());
    let mut had_some = false;
    if is_meant {
        call.env
            .slow_log(&mut |log| had_some = log.latency().clear());
    }
    write::integer(call.out, i64::from(had_some));
}

fn graph(call: &mut Call<'_>) {
    let (event, now) = (call.arg(2), now_seconds(call));
    let mut text = None;
    if event == EVENT.as_bytes() {
        call.env
            .slow_log(&mut |log| text = log.latency().graph(now));
    }
    match text {
        Some(text) => call.text(text.as_bytes()),
        None => call.error_about("ERR No samples available for event '", event, "'"),
    }
}

fn now_seconds(call: &Call<'_>) -> u64 {
    call.env.unix_micros() / 1_000_000
}

/// A number of entries; -1 stands for all.
fn count(word: &[u8]) -> Option<i64> {
    parse_integer(word).filter(|count| *count >= -1)
}
