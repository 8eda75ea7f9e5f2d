//! CLIENT: what a client may know and change about itself and about the other clients of this process.

use std::collections::BTreeMap;

use super::client_filter::{Filter, FilterError};
use super::client_line::write_line;
use super::connection::{is_plain, set_name};
use super::{Call, ClientRow, LocalOutcome, parse_integer, tracking, write_not_yet};
use crate::command::{Spec, id};
use crate::resp::write;
use crate::session::client_state::ReplyMode;

/// What a client is told that may not act on others.
pub(super) const ADMIN_DISABLED: &str = "NOPERM proxy: admin commands are disabled";

/// The subcommands but HELP, which is in `help`, KILL, PAUSE and UNPAUSE.
pub(super) fn client(spec: &Spec, call: &mut Call<'_>) {
    match spec.id {
        id::CLIENT_ID => {
            write::integer(call.out, i64::try_from(call.client.id).unwrap_or(i64::MAX));
        }
        id::CLIENT_GETNAME => get_name(call),
        id::CLIENT_SETNAME => set_name(call),
        id::CLIENT_SETINFO => set_info(call),
        id::CLIENT_INFO => info(spec, call),
        id::CLIENT_LIST => list(spec, call),
        id::CLIENT_NO_EVICT => switch(call, |call, on| call.client.no_evict = on),
        id::CLIENT_NO_TOUCH => switch(call, |call, on| call.client.no_touch = on),
        id::CLIENT_REPLY => reply(call),
        id::CLIENT_UNBLOCK => unblock(call),
        // What a client says it can do has no effect: the proxy never redirects it [Y9].
        id::CLIENT_CAPA => call.ok(),
        id::CLIENT_TRACKING => tracking::tracking(call),
        id::CLIENT_TRACKINGINFO => tracking::info(call),
        id::CLIENT_GETREDIR => tracking::get_redirect(call),
        id::CLIENT_CACHING => tracking::caching(call),
        _ => write_not_yet(spec, call.out),
    }
}

fn get_name(call: &mut Call<'_>) {
    if call.client.name.is_empty() {
        write::null(call.out, call.client.protocol);
    } else {
        write::bulk(call.out, &call.client.name);
    }
}

fn set_info(call: &mut Call<'_>) {
    let (option, value) = (call.arg(2), call.arg(3));
    let is_name = option.eq_ignore_ascii_case(b"LIB-NAME");
    if !is_name && !option.eq_ignore_ascii_case(b"LIB-VER") {
        return call.error_about("ERR Unrecognized option '", option, "'");
    }
    if !is_plain(value) {
        return call.error_about(
            "ERR ",
            option,
            " cannot contain spaces, newlines or special characters.",
        );
    }
    if is_name {
        call.client.lib_name = value.to_vec();
    } else {
        call.client.lib_version = value.to_vec();
    }
    call.env.client_changed(call.client);
    call.ok();
}

fn info(spec: &Spec, call: &mut Call<'_>) {
    let mut line = Vec::new();
    let own_id = call.client.id;
    call.env.with_client(own_id, &mut |row| {
        write_line(&as_of_now(row, own_id, spec), &mut line);
    });
    call.text(&line);
}

/// The registry learns of a client's last command when all that was read of it has been taken; the caller's is this one.
fn as_of_now<'a>(row: &ClientRow<'a>, caller: u64, spec: &Spec) -> ClientRow<'a> {
    let command = if row.id == caller {
        spec.name
    } else {
        row.command
    };
    ClientRow { command, ..*row }
}

fn list(spec: &Spec, call: &mut Call<'_>) {
    let filter = match Filter::parse_list(call.args, call.client.id) {
        Ok(filter) => filter,
        Err(error) => return call.error(error.text()),
    };
    let own_id = call.client.id;
    let mut lines = BTreeMap::new();
    let mut show = |row: &ClientRow<'_>| {
        if filter.accepts(row) {
            let mut line = Vec::new();
            write_line(&as_of_now(row, own_id, spec), &mut line);
            lines.insert(row.id, line);
        }
    };
    // A few ids are looked up; the registry of a busy proxy is large.
    match filter.ids() {
        Some(ids) => {
            for id in ids {
                call.env.with_client(*id, &mut show);
            }
        }
        None => call.env.for_each_client(&mut show),
    }
    // The oldest first, as on a server.
    let lines: Vec<Vec<u8>> = lines.into_values().collect();
    call.text(&lines.concat());
}

/// CLIENT KILL in its old form (`addr:port`) and its new one (filters). It reaches clients of this process only.
pub(super) fn kill(call: &mut Call<'_>) -> LocalOutcome {
    if !call.env.listener().admin_commands {
        call.error(ADMIN_DISABLED);
        return LocalOutcome::Reply;
    }
    let old_form = call.args.len() == 3;
    let filter = if old_form {
        Ok(Filter::for_address(call.arg(2)))
    } else {
        Filter::parse_kill(call.args, call.client.id)
    };
    let filter = match filter.and_then(|filter| known_user(call, filter)) {
        Ok(filter) => filter,
        Err(error) => {
            call.error(error.text());
            return LocalOutcome::Reply;
        }
    };
    let (killed, suicide) = kill_matching(call, &filter);
    match (old_form, killed) {
        (true, 0) => call.error("ERR No such client"),
        (true, _) => call.ok(),
        (false, count) => write::integer(call.out, count),
    }
    if suicide {
        LocalOutcome::ReplyThenClose
    } else {
        LocalOutcome::Reply
    }
}

/// A user the filter names must exist: there is the default user, and those the clients act as.
fn known_user(call: &Call<'_>, filter: Filter) -> Result<Filter, FilterError> {
    let Some(user) = filter.user() else {
        return Ok(filter);
    };
    let mut known = user == crate::session::client_state::DEFAULT_USER;
    if !known {
        call.env
            .for_each_client(&mut |row| known |= row.user == user);
    }
    if known {
        Ok(filter)
    } else {
        Err(FilterError::NoSuchUser(user.to_vec()))
    }
}

/// Number of clients closed, and whether the caller is one of them.
fn kill_matching(call: &Call<'_>, filter: &Filter) -> (i64, bool) {
    let own_id = call.client.id;
    let mut ids = Vec::new();
    call.env.for_each_client(&mut |row| {
        if filter.accepts(row) {
            ids.push(row.id);
        }
    });
    let suicide = ids.contains(&own_id);
    let others = ids
        .into_iter()
        .filter(|id| *id != own_id && call.env.kill_client(*id))
        .count();
    (
        i64::try_from(others)
            .unwrap_or(i64::MAX)
            .saturating_add(i64::from(suicide)),
        suicide,
    )
}

/// ON or OFF.
fn switch(call: &mut Call<'_>, set: impl FnOnce(&mut Call<'_>, bool)) {
    let on = call.arg(2).eq_ignore_ascii_case(b"ON");
    if !on && !call.arg(2).eq_ignore_ascii_case(b"OFF") {
        return call.syntax_error();
    }
    set(call, on);
    call.env.client_changed(call.client);
    call.ok();
}

/// [L1]. OFF and SKIP write no reply at all.
fn reply(call: &mut Call<'_>) {
    let word = call.arg(2);
    if word.eq_ignore_ascii_case(b"ON") {
        call.client.reply_mode = ReplyMode::On;
        call.ok();
    } else if word.eq_ignore_ascii_case(b"OFF") {
        call.client.reply_mode = ReplyMode::Off;
    } else if !word.eq_ignore_ascii_case(b"SKIP") {
        call.syntax_error();
    } else if call.client.reply_mode != ReplyMode::Off {
        call.client.reply_mode = ReplyMode::SkipThisAndNext;
    }
}

/// [B9]. It reaches clients of this process only, of all its workers.
fn unblock(call: &mut Call<'_>) {
    if !call.env.listener().admin_commands {
        return call.error(ADMIN_DISABLED);
    }
    let (reason, is_plain) = (call.arg(3), call.args.len() == 3);
    let is_error = reason.eq_ignore_ascii_case(b"ERROR");
    if call.args.len() > 4 {
        return call.error_about(
            "ERR unknown subcommand or wrong number of arguments for '",
            call.arg(1),
            "'. Try CLIENT HELP.",
        );
    }
    if !is_plain && !is_error && !reason.eq_ignore_ascii_case(b"TIMEOUT") {
        return call.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    }
    let Some(id) = parse_integer(call.arg(2)) else {
        return call.error("ERR value is not an integer or out of range");
    };
    let is_unblocked =
        u64::try_from(id).is_ok_and(|id| call.env.unblock_client(id, is_error && !is_plain));
    write::integer(call.out, i64::from(is_unblocked));
}
