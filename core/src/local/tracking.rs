//! CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR: what the servers accept, say and refuse [N1] [N2].
//!
//! Here it is noted what the client wants; the engine sees to it.

use super::{Call, parse_integer};
use crate::resp::write;
use crate::session::tracking::{Mode, Tracking};

const NOT_TRACKING: &str = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled";
const NO_SUCH_CLIENT: &str = "ERR The client ID you want redirect to does not exist";
const OTHER_BCAST: &str = "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.";
const OTHER_OPT: &str = "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.";

/// The options of CLIENT TRACKING.
#[derive(Default)]
struct Options<'a> {
    redirect: Option<u64>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    prefixes: Vec<&'a [u8]>,
}

pub(super) fn tracking(call: &mut Call<'_>) {
    let on = call.arg(2).eq_ignore_ascii_case(b"ON");
    let off = call.arg(2).eq_ignore_ascii_case(b"OFF");
    let is_offered = call.env.listener().tracking;
    let options = match parse(call, is_offered) {
        Ok(options) => options,
        Err(text) => return call.error(text),
    };
    if !on && !off {
        return call.syntax_error();
    }
    if on && !is_offered {
        return call.error("ERR proxy: client side caching is not enabled on this proxy");
    }
    let tracking = if on {
        match combine(call.client.tracking.as_deref(), &options) {
            Ok(tracking) => Some(Box::new(tracking)),
            Err(text) => return call.error(text),
        }
    } else {
        None
    };
    if call.client.tracking != tracking {
        call.client.tracking = tracking;
        call.env.client_changed(call.client);
    }
    call.ok();
}

fn parse<'a>(call: &Call<'a>, is_offered: bool) -> Result<Options<'a>, &'static str> {
    let mut options = Options::default();
    let mut words = call.args.iter().skip(3);
    while let Some(word) = words.next() {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("BCAST") {
            options.broadcast = true;
        } else if is("OPTIN") {
            options.opt_in = true;
        } else if is("OPTOUT") {
            options.opt_out = true;
        } else if is("NOLOOP") {
            options.no_loop = true;
        } else if is("PREFIX")
            && let Some(prefix) = words.next()
        {
            options.prefixes.push(prefix);
        } else if is("REDIRECT")
            && let Some(number) = words.next()
        {
            if is_offered {
                options.redirect = Some(target(call, number, options.redirect)?);
            }
        } else {
            return Err("ERR syntax error");
        }
    }
    Ok(options)
}

/// The client that is to hear instead, which must be there now; it may go.
fn target(call: &Call<'_>, number: &[u8], before: Option<u64>) -> Result<u64, &'static str> {
    if before.is_some() {
        return Err("ERR A client can only redirect to a single other client");
    }
    let id = parse_integer(number).ok_or("ERR value is not an integer or out of range")?;
    let id = u64::try_from(id).map_err(|_negative| NO_SUCH_CLIENT)?;
    if call.env.with_client(id, &mut |_| {}) {
        Ok(id)
    } else {
        Err(NO_SUCH_CLIENT)
    }
}

/// What a client tracks that tracked `before` and asks for this, in the order in which the servers look for faults.
fn combine(before: Option<&Tracking>, options: &Options<'_>) -> Result<Tracking, Vec<u8>> {
    let fault = |text: &str| Err(text.as_bytes().to_vec());
    if !options.broadcast && !options.prefixes.is_empty() {
        return fault("ERR PREFIX option requires BCAST mode to be enabled");
    }
    if before.is_some_and(|before| (before.mode == Mode::Broadcast) != options.broadcast) {
        return fault(OTHER_BCAST);
    }
    if options.broadcast && (options.opt_in || options.opt_out) {
        return fault("ERR OPTIN and OPTOUT are not compatible with BCAST");
    }
    let mode = match (options.broadcast, options.opt_in, options.opt_out) {
        (_, true, true) => return fault("ERR You can't specify both OPTIN mode and OPTOUT mode"),
        (true, ..) => Mode::Broadcast,
        (_, true, _) => Mode::OptIn,
        (_, _, true) => Mode::OptOut,
        _ => Mode::Read,
    };
    let opposed = match mode {
        Mode::OptIn => Some(Mode::OptOut),
        Mode::OptOut => Some(Mode::OptIn),
        Mode::Read | Mode::Broadcast => None,
    };
    if opposed.is_some() && before.map(|before| before.mode) == opposed {
        return fault(OTHER_OPT);
    }
    let mut prefixes = before.map_or_else(Vec::new, |before| before.prefixes.clone());
    check_prefixes(&prefixes, &options.prefixes)?;
    prefixes.extend(options.prefixes.iter().map(|prefix| prefix.to_vec()));
    let is_for_all = mode == Mode::Broadcast && options.prefixes.is_empty();
    if is_for_all && !prefixes.iter().any(Vec::is_empty) {
        prefixes.push(Vec::new());
    }
    Ok(Tracking {
        mode,
        no_loop: options.no_loop,
        redirect: options.redirect,
        broken: false,
        prefixes,
        caching: before.is_some_and(|before| before.caching) && mode != Mode::Read,
    })
}

fn check_prefixes(existing: &[Vec<u8>], given: &[&[u8]]) -> Result<(), Vec<u8>> {
    let overlap = |one: &[u8], other: &[u8]| one.starts_with(other) || other.starts_with(one);
    let collision = |prefix: &[u8], with: &str, other: &[u8]| {
        let parts: [&[u8]; 7] = [
            b"ERR Prefix '",
            prefix,
            b"' overlaps with ",
            with.as_bytes(),
            b" '",
            other,
            b"'. Prefixes for a single client must not overlap.",
        ];
        Err(parts.concat())
    };
    let Some(index) = first_overlapping(existing, given) else {
        return Ok(());
    };
    if let Some(prefix) = given.get(index) {
        if let Some(other) = existing.iter().find(|other| overlap(prefix, other)) {
            return collision(prefix, "an existing prefix", other);
        }
        let mut behind = given.iter().skip(index + 1);
        if let Some(other) = behind.find(|other| overlap(prefix, other)) {
            return collision(prefix, "another provided prefix", other);
        }
    }
    Ok(())
}

/// The first of `given` that overlaps with one of `existing` or with one given behind it. There may be very many: sorted, what a prefix
/// overlaps with stands before it, and each of those begins the next.
fn first_overlapping(existing: &[Vec<u8>], given: &[&[u8]]) -> Option<usize> {
    let existing = existing.iter().map(|prefix| (prefix.as_slice(), None));
    let given = given.iter().enumerate();
    let given = given.map(|(index, prefix)| (*prefix, Some(index)));
    let mut sorted: Vec<(&[u8], Option<usize>)> = existing.chain(given).collect();
    sorted.sort_unstable();
    // What begins the prefix looked at, each with the first given one up to there.
    let mut beginnings: Vec<(&[u8], Option<usize>)> = Vec::new();
    let mut first: Option<usize> = None;
    for (prefix, index) in sorted {
        while beginnings
            .pop_if(|(other, _)| !prefix.starts_with(other))
            .is_some()
        {}
        let before = beginnings.last().map(|(_, lowest)| *lowest);
        let lowest = index.into_iter().chain(before.flatten()).min();
        if before.is_some() {
            first = first.into_iter().chain(lowest).min();
        }
        beginnings.push((prefix, lowest));
    }
    first
}

pub(super) fn caching(call: &mut Call<'_>) {
    let Some(tracking) = call.client.tracking.as_mut() else {
        return call.error(NOT_TRACKING);
    };
    let word = call.args.get(2).unwrap_or_default();
    if word.eq_ignore_ascii_case(b"YES") {
        if tracking.mode != Mode::OptIn {
            return call.error(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            );
        }
    } else if word.eq_ignore_ascii_case(b"NO") {
        if tracking.mode != Mode::OptOut {
            return call.error(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            );
        }
    } else {
        return call.syntax_error();
    }
    tracking.caching = true;
    call.ok();
}

/// -1 without tracking, 0 without another client that hears instead.
fn redirect_of(tracking: Option<&Tracking>) -> i64 {
    tracking.map_or(-1, |tracking| {
        let id = tracking.redirect.unwrap_or_default();
        i64::try_from(id).unwrap_or(i64::MAX)
    })
}

pub(super) fn get_redirect(call: &mut Call<'_>) {
    write::integer(call.out, redirect_of(call.client.tracking.as_deref()));
}

pub(super) fn info(call: &mut Call<'_>) {
    let protocol = call.client.protocol;
    let tracking = call.client.tracking.as_deref();
    let flags = flags(tracking);
    write::map(call.out, 3, protocol);
    write::bulk(call.out, b"flags");
    write::set(call.out, flags.len(), protocol);
    for flag in flags {
        write::bulk(call.out, flag.as_bytes());
    }
    write::bulk(call.out, b"redirect");
    write::integer(call.out, redirect_of(tracking));
    write::bulk(call.out, b"prefixes");
    let prefixes = tracking.map_or(&[][..], |tracking| &tracking.prefixes);
    write::array(call.out, prefixes.len());
    for prefix in prefixes {
        write::bulk(call.out, prefix);
    }
}

fn flags(tracking: Option<&Tracking>) -> Vec<&'static str> {
    let Some(tracking) = tracking else {
        return vec!["off"];
    };
    let (mode, said) = match tracking.mode {
        Mode::Read => (None, None),
        Mode::Broadcast => (Some("bcast"), None),
        Mode::OptIn => (Some("optin"), Some("caching-yes")),
        Mode::OptOut => (Some("optout"), Some("caching-no")),
    };
    let mut flags = vec!["on"];
    flags.extend(mode);
    flags.extend(said.filter(|_| tracking.caching));
    flags.extend(tracking.no_loop.then_some("noloop"));
    flags.extend(tracking.broken.then_some("broken_redirect"));
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_prefixes_are_checked_soon_n2() {
        let given: Vec<String> = (0..200_000).map(|number| format!("{number:06}:")).collect();
        let mut given: Vec<&[u8]> = given.iter().map(String::as_bytes).collect();
        assert_eq!(check_prefixes(&[], &given), Ok(()));
        given.push(b"199999:a");
        let error = check_prefixes(&[], &given).unwrap_err();
        let error = String::from_utf8(error).unwrap();
        assert!(
            error.starts_with(
                "ERR Prefix '199999:' overlaps with another provided prefix '199999:a'."
            ),
            "{error}"
        );
    }

    #[test]
    fn the_first_overlap_is_named_n2() {
        let check = |existing: &[&str], given: &[&str]| {
            let existing: Vec<Vec<u8>> = existing.iter().map(|it| it.as_bytes().to_vec()).collect();
            let given: Vec<&[u8]> = given.iter().map(|it| it.as_bytes()).collect();
            first_overlapping(&existing, &given)
        };
        assert_eq!(
            check(&["a", ""], &[]),
            None,
            "the existing ones are as they are"
        );
        assert_eq!(check(&["a", "b"], &["c", "d"]), None);
        assert_eq!(check(&["a"], &["c", "ab"]), Some(1));
        assert_eq!(check(&["ab"], &["c", "a"]), Some(1));
        assert_eq!(check(&[""], &["c"]), Some(0));
        assert_eq!(check(&[], &["x", "ab", "a", "abc"]), Some(1));
        assert_eq!(check(&[], &["abc", "x", "a", "ab"]), Some(0));
        assert_eq!(check(&["a"], &["a"]), Some(0));
        assert_eq!(check(&[], &["q", "q"]), Some(0));
    }
}
