//! One line of CLIENT LIST, in the servers' own form (fields of redis 7.2).

use std::io::Write as _;

use super::ClientRow;
use crate::pubsub::Kind;

/// Appends the line of `row`, with its line end.
///
/// What the proxy has no counterpart for is what a server shows for a client that does not use it: no transaction. `qbuf` and
/// `oll`/`omem` are what the proxy holds of the client's bytes.
pub(super) fn write_line(row: &ClientRow<'_>, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "id={} addr={} laddr={} fd={} name=",
        row.id, row.remote, row.local, row.descriptor
    );
    out.extend_from_slice(row.name);
    let _ = write!(
        out,
        " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi=-1 watch=0 qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 \
         rbs=0 rbp=0 obl=0 oll={} omem={} tot-mem={} events=r cmd={} user=",
        row.age_seconds,
        row.idle_seconds,
        flags(row),
        row.database,
        row.subscriptions[Kind::Channel.index()],
        row.subscriptions[Kind::Pattern.index()],
        row.subscriptions[Kind::Shard.index()],
        row.input_bytes,
        u8::from(row.output_bytes > 0),
        row.output_bytes,
        row.input_bytes.saturating_add(row.output_bytes),
        if row.command.is_empty() {
            "NULL"
        } else {
            row.command
        },
    );
    out.extend_from_slice(row.user);
    let redirect = row
        .tracking
        .map_or_else(|| "-1".to_owned(), |it| it.redirect.to_string());
    let _ = write!(
        out,
        " redir={redirect} resp={} lib-name=",
        row.protocol.version()
    );
    out.extend_from_slice(row.lib_name);
    out.extend_from_slice(b" lib-ver=");
    out.extend_from_slice(row.lib_version);
    out.push(b'\n');
}

/// The servers' letters; `N` stands for none.
fn flags(row: &ClientRow<'_>) -> String {
    let letters = [
        (row.monitors, 'O'),
        (row.waits, 'b'),
        (row.subscriptions != [0; 3], 'P'),
        (row.tracking.is_some(), 't'),
        (row.tracking.is_some_and(|it| it.broken), 'R'),
        (row.tracking.is_some_and(|it| it.broadcast), 'B'),
        (row.readonly, 'r'),
        (row.no_evict, 'e'),
        (row.no_touch, 'T'),
    ];
    let set: String = letters
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, letter)| *letter)
        .collect();
    if set.is_empty() { "N".to_owned() } else { set }
}
