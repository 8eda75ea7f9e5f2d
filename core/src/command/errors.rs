//! The error replies that belong to a command's name, in the servers' own words (`commandCheckExistence` and
//! `commandCheckArity` of Redis 7.0 and later; checked against 7.0, 8.2 and Valkey 9.1).

use super::Spec;
use super::learned::objection;
use crate::resp::{Args, write};

/// The bytes of a name or of all arguments together that an error message repeats.
const QUOTED_BYTES: usize = 128;

/// `ERR wrong number of arguments for 'config|get' command` [K8]; also for a container without a subcommand [K20].
pub fn write_arity_error(spec: &Spec, out: &mut Vec<u8>) {
    let text = [
        "ERR wrong number of arguments for '",
        spec.name,
        "' command",
    ]
    .concat();
    write::error(out, text.as_bytes());
}

/// `ERR proxy: command 'config|set' is not supported through this proxy`; for a learned command with the reason [O13].
pub fn write_not_supported(spec: &Spec, out: &mut Vec<u8>) {
    let reason = spec.is_learned().then(|| objection(spec)).flatten();
    let text = [
        "ERR proxy: command '",
        spec.name,
        "' is not supported through this proxy",
        reason.map_or("", |_| ": "),
        reason.unwrap_or_default(),
    ]
    .concat();
    write::error(out, text.as_bytes());
}

/// `ERR unknown command 'FOO', with args beginning with: 'a' 'b' ` [K18], the trailing blank included.
pub fn write_unknown_command(args: Args<'_>, out: &mut Vec<u8>) {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(printable(args.name(), QUOTED_BYTES));
    text.extend_from_slice(b"', with args beginning with: ");
    let list_start = text.len();
    for arg in args.iter().skip(1) {
        let used = text.len() - list_start;
        if used >= QUOTED_BYTES {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(printable(arg, QUOTED_BYTES - used));
        text.extend_from_slice(b"' ");
    }
    write::error(out, &text);
}

/// `ERR unknown subcommand 'fOO'. Try CONFIG HELP.`: the subcommand as the client wrote it, the container in capitals [K18].
pub fn write_unknown_subcommand(args: Args<'_>, out: &mut Vec<u8>) {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(printable(args.get(1).unwrap_or_default(), QUOTED_BYTES));
    text.extend_from_slice(b"'. Try ");
    text.extend(
        printable(args.name(), usize::MAX)
            .iter()
            .map(u8::to_ascii_uppercase),
    );
    text.extend_from_slice(b" HELP.");
    write::error(out, &text);
}

/// The part of an argument a message repeats: servers format it as a C string, which ends at the first NUL.
fn printable(arg: &[u8], limit: usize) -> &[u8] {
    let end = arg
        .iter()
        .take(limit)
        .position(|&byte| byte == 0)
        .unwrap_or_else(|| arg.len().min(limit));
    arg.get(..end).unwrap_or_default()
}
