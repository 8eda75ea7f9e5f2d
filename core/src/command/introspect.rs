//! The `COMMAND` family, answered from the static table in the shape of Redis 7.0: entries of ten elements, sets and maps where
//! the client speaks RESP3. Commands the proxy refuses are left out, so that no client is led to use them. Learned commands are shown
//! as the servers told of them, but in `COMMAND DOCS`, which says nothing of them.

use super::docs::{MODULE_NAME, write_doc};
use super::glob::glob_match;
use super::key_spec::{BeginSearch, FindKeys, KeyFlags, KeySpec};
use super::keys::{KeyList, KeyOutcome, by_specs, each_key, extract_keys};
use super::learned::{Learned, LearnedTable};
use super::lookup::{Lookup, lookup, subcommand};
use super::{Categories, Class, Flags, KeyRule, Spec, TABLE, id};
use super::{write_arity_error, write_unknown_subcommand};
use crate::resp::{ArgRange, Args, Protocol, write};

/// Appends the answer to `COMMAND` or one of its subcommands; `args` are those of the whole request.
///
/// Errors that the engine's own checks would have found first (arity, unknown subcommand) are answered too.
pub fn reply_command(
    args: Args<'_>,
    learned: &LearnedTable,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    let spec = match lookup(args) {
        Lookup::Known(spec) if !spec.arity_ok(args.len()) => return write_arity_error(spec, out),
        Lookup::Known(spec) => spec,
        _ => return write_unknown_subcommand(args, out),
    };
    match spec.id {
        id::COMMAND => write_entries(learned, protocol, out),
        id::COMMAND_COUNT => {
            let count = commands().count() + offered(learned).count();
            write::integer(out, i64::try_from(count).unwrap_or(i64::MAX));
        }
        id::COMMAND_LIST => list(args, learned, out),
        id::COMMAND_INFO => info(args, learned, protocol, out),
        id::COMMAND_DOCS => docs(args, protocol, out),
        id::COMMAND_GETKEYS => get_keys(args, learned, None, out),
        id::COMMAND_GETKEYSANDFLAGS => get_keys(args, learned, Some(protocol), out),
        id::COMMAND_HELP => help(out),
        _ => write_unknown_subcommand(args, out),
    }
}

/// What the proxy offers of `specs`.
pub(super) fn shown(specs: &'static [Spec]) -> impl Iterator<Item = &'static Spec> + Clone {
    specs.iter().filter(|spec| spec.class != Class::Forbidden)
}

/// All commands the proxy offers, without subcommands.
fn commands() -> impl Iterator<Item = &'static Spec> + Clone {
    shown(&TABLE).filter(|spec| !spec.name.contains('|'))
}

/// The learned commands the proxy offers.
fn offered(learned: &LearnedTable) -> impl Iterator<Item = &Learned> + Clone {
    learned
        .iter()
        .filter(|learned| learned.spec.class != Class::Forbidden)
}

/// What the proxy offers of the subcommands of a learned container.
fn offered_subcommands(container: &Learned) -> impl Iterator<Item = &'static Spec> + Clone {
    let subcommands = container.subcommands.iter().copied();
    subcommands.filter(|spec| spec.class != Class::Forbidden)
}

/// The command or subcommand of that full name (`config|get`), if the proxy offers it.
fn by_full_name(name: &[u8]) -> Option<&'static Spec> {
    let (container, word) = match memchr::memchr(b'|', name) {
        Some(at) => (name.get(..at)?, name.get(at + 1..)),
        None => (name, None),
    };
    let spec = super::find(container)?;
    let spec = match word {
        Some(word) => subcommand(spec, word)?,
        None => spec,
    };
    (spec.class != Class::Forbidden).then_some(spec)
}

// === COMMAND, COMMAND INFO ===

fn write_entries(learned: &LearnedTable, protocol: Protocol, out: &mut Vec<u8>) {
    write::array(out, commands().count() + offered(learned).count());
    commands().for_each(|spec| write_entry(spec, protocol, out));
    offered(learned).for_each(|learned| write_learned(learned, protocol, out));
}

fn info(args: Args<'_>, learned: &LearnedTable, protocol: Protocol, out: &mut Vec<u8>) {
    if args.len() == 2 {
        return write_entries(learned, protocol, out);
    }
    write::array(out, args.len() - 2);
    for name in args.iter().skip(2) {
        match by_full_name(name) {
            Some(spec) => write_entry(spec, protocol, out),
            None => write_learned_by_name(name, learned, protocol, out),
        }
    }
}

fn write_learned_by_name(
    name: &[u8],
    learned: &LearnedTable,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    let mut words = name.splitn(2, |byte| *byte == b'|');
    let command = words
        .next()
        .and_then(|name| learned.find(name))
        .filter(|command| command.spec.class != Class::Forbidden);
    match (command, words.next()) {
        (Some(command), None) => write_learned(command, protocol, out),
        (Some(container), Some(word)) => match container.subcommand(word) {
            Some(spec) if spec.class != Class::Forbidden => write_entry(spec, protocol, out),
            _ => write::null(out, protocol),
        },
        (None, _) => write::null(out, protocol),
    }
}

fn write_learned(learned: &Learned, protocol: Protocol, out: &mut Vec<u8>) {
    write_entry_with(learned.spec, offered_subcommands(learned), protocol, out);
}

fn write_entry(spec: &Spec, protocol: Protocol, out: &mut Vec<u8>) {
    write_entry_with(spec, shown(spec.subcommand_specs()), protocol, out);
}

fn write_entry_with(
    spec: &Spec,
    subcommands: impl Iterator<Item = &'static Spec> + Clone,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    write::array(out, 10);
    write::bulk(out, spec.name.as_bytes());
    write::integer(out, i64::from(spec.arity));
    write_status_set(spec.flags.names(), "", protocol, out);
    for number in spec.legacy_range {
        write::integer(out, i64::from(number));
    }
    write_status_set(spec.categories.names(), "@", protocol, out);
    write::set(out, spec.tips.len(), protocol);
    spec.tips
        .iter()
        .for_each(|tip| write::bulk(out, tip.as_bytes()));
    write::set(out, spec.keys.len(), protocol);
    spec.keys
        .iter()
        .for_each(|key_spec| write_key_spec(key_spec, protocol, out));
    match subcommands.clone().count() {
        // Servers send the empty list as a set and a filled one as an array.
        0 => write::set(out, 0, protocol),
        count => write::array(out, count),
    }
    subcommands.for_each(|sub| write_entry(sub, protocol, out));
}

/// A set of simple strings, each with a prefix.
pub(super) fn write_status_set(
    names: impl Iterator<Item = &'static str> + Clone,
    prefix: &str,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    write::set(out, names.clone().count(), protocol);
    for name in names {
        write::simple(out, [prefix, name].concat().as_bytes());
    }
}

fn write_key_spec(spec: &KeySpec, protocol: Protocol, out: &mut Vec<u8>) {
    write::map(out, 3, protocol);
    write::bulk(out, b"flags");
    write_status_set(spec.flags.names(), "", protocol, out);
    write::bulk(out, b"begin_search");
    match spec.begin {
        BeginSearch::Index(index) => {
            write_search("index", &[("index", i64::from(index))], protocol, out);
        }
        BeginSearch::Keyword { word, from } => {
            write_search_head("keyword", 2, protocol, out);
            write::bulk(out, b"keyword");
            write::bulk(out, word.as_bytes());
            write::bulk(out, b"startfrom");
            write::integer(out, i64::from(from));
        }
        BeginSearch::Unknown => write_search("unknown", &[], protocol, out),
    }
    write::bulk(out, b"find_keys");
    match spec.find {
        FindKeys::Range { last, step, limit } => {
            let fields = [
                ("lastkey", i64::from(last)),
                ("keystep", i64::from(step)),
                ("limit", i64::from(limit)),
            ];
            write_search("range", &fields, protocol, out);
        }
        FindKeys::KeyNum {
            count_at,
            first,
            step,
        } => {
            let fields = [
                ("keynumidx", i64::from(count_at)),
                ("firstkey", i64::from(first)),
                ("keystep", i64::from(step)),
            ];
            write_search("keynum", &fields, protocol, out);
        }
        FindKeys::Unknown => write_search("unknown", &[], protocol, out),
    }
}

fn write_search(kind: &str, fields: &[(&str, i64)], protocol: Protocol, out: &mut Vec<u8>) {
    write_search_head(kind, fields.len(), protocol, out);
    for (name, value) in fields {
        write::bulk(out, name.as_bytes());
        write::integer(out, *value);
    }
}

fn write_search_head(kind: &str, fields: usize, protocol: Protocol, out: &mut Vec<u8>) {
    write::map(out, 2, protocol);
    write::bulk(out, b"type");
    write::bulk(out, kind.as_bytes());
    write::bulk(out, b"spec");
    write::map(out, fields, protocol);
}

// === COMMAND DOCS ===

fn docs(args: Args<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    if args.len() == 2 {
        write::map(out, commands().count(), protocol);
        commands().for_each(|spec| write_doc(spec, protocol, out));
    } else {
        // Unknown names are left out, unlike in COMMAND INFO.
        let named = args.iter().skip(2).filter_map(by_full_name);
        write::map(out, named.clone().count(), protocol);
        named.for_each(|spec| write_doc(spec, protocol, out));
    }
}

// === COMMAND LIST ===

enum Filter<'a> {
    Module(&'a [u8]),
    Category(Option<Categories>),
    Pattern(&'a [u8]),
}

impl Filter<'_> {
    fn admits(&self, spec: &Spec) -> bool {
        match self {
            // Servers do not tell of which module a learned one is.
            Self::Module(name) => {
                spec.flags.contains(Flags::MODULE)
                    && !spec.is_learned()
                    && *name == MODULE_NAME.as_bytes()
            }
            // A category no server knows is in no command.
            Self::Category(category) => {
                category.is_some_and(|category| spec.categories.contains(category))
            }
            Self::Pattern(pattern) => glob_match(pattern, spec.name.as_bytes(), true),
        }
    }
}

fn list(args: Args<'_>, learned: &LearnedTable, out: &mut Vec<u8>) {
    if args.len() == 2 {
        let learned = offered(learned).map(|learned| learned.spec);
        let all = commands().chain(learned);
        write::array(out, all.clone().count());
        all.for_each(|spec| write::bulk(out, spec.name.as_bytes()));
        return;
    }
    match filter(args) {
        Some(filter) => {
            let learned = offered(learned).flat_map(|learned| {
                std::iter::once(learned.spec).chain(offered_subcommands(learned))
            });
            let names = shown(&TABLE)
                .chain(learned)
                .filter(|spec| filter.admits(spec))
                .map(|spec| spec.name.as_bytes());
            write::array(out, names.clone().count());
            names.for_each(|name| write::bulk(out, name));
        }
        None => write::error(out, b"ERR syntax error"),
    }
}

fn filter<'a>(args: Args<'a>) -> Option<Filter<'a>> {
    let (5, true) = (args.len(), args.get(2)?.eq_ignore_ascii_case(b"FILTERBY")) else {
        return None;
    };
    let (kind, value) = (args.get(3)?, args.get(4)?);
    if kind.eq_ignore_ascii_case(b"MODULE") {
        Some(Filter::Module(value))
    } else if kind.eq_ignore_ascii_case(b"ACLCAT") {
        Some(Filter::Category(Categories::named(value)))
    } else if kind.eq_ignore_ascii_case(b"PATTERN") {
        Some(Filter::Pattern(value))
    } else {
        None
    }
}

// === COMMAND GETKEYS, COMMAND GETKEYSANDFLAGS ===

/// The call named in `COMMAND GETKEYS`, as a request of its own.
fn inner_call(args: Args<'_>) -> (Vec<u8>, Vec<ArgRange>) {
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    for arg in args.iter().skip(2) {
        // Together they are shorter than the request, whose offsets are u32 too.
        if let (Ok(start), Ok(len)) = (u32::try_from(bytes.len()), u32::try_from(arg.len())) {
            ranges.push(ArgRange { start, len });
            bytes.extend_from_slice(arg);
        }
    }
    (bytes, ranges)
}

/// Replies with the keys of the call in the arguments from 2 on; with their flags too if `flags_in` names the protocol for them.
fn get_keys(args: Args<'_>, learned: &LearnedTable, flags_in: Option<Protocol>, out: &mut Vec<u8>) {
    let (bytes, ranges) = inner_call(args);
    let call = Args::new(&bytes, &ranges);
    let found = match lookup(call) {
        Lookup::UnknownCommand => learned.lookup(call),
        found => found,
    };
    let spec = match found {
        Lookup::Known(spec) | Lookup::MissingSubcommand(spec) if spec.class != Class::Forbidden => {
            spec
        }
        _ => return write::error(out, b"ERR Invalid command specified"),
    };
    if spec.rule == KeyRule::AskServer {
        return write::error(
            out,
            b"ERR proxy: only the servers can tell the keys of this command",
        );
    }
    if !spec
        .keys
        .iter()
        .any(|key_spec| !key_spec.flags.contains(KeyFlags::NOT_KEY))
    {
        return write::error(out, b"ERR The command has no key arguments");
    }
    if !spec.arity_ok(call.len()) {
        return write::error(
            out,
            b"ERR Invalid number of arguments specified for command",
        );
    }
    let mut keys = KeyList::new();
    match extract_keys(spec, call, &mut keys) {
        KeyOutcome::Keys => {}
        // The servers do not care about the last value here.
        KeyOutcome::OddArguments => {
            by_specs(spec, call, &mut keys);
        }
        _ if spec.flags.contains(Flags::NO_MANDATORY_KEYS) => {}
        _ => return write::error(out, b"ERR Invalid arguments specified for command"),
    }
    write::array(out, keys.as_slice().len());
    each_key(spec, call, &keys, |index, flags| {
        let key = call.get(index).unwrap_or_default();
        if let Some(protocol) = flags_in {
            write::array(out, 2);
            write::bulk(out, key);
            write_status_set(flags.names(), "", protocol, out);
        } else {
            write::bulk(out, key);
        }
    });
}

// === COMMAND HELP ===

const HELP: [&str; 17] = [
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    List all commands with their arity, flags and key positions.",
    "COUNT",
    "    Count the commands.",
    "LIST [FILTERBY (MODULE <module> | ACLCAT <category> | PATTERN <pattern>)]",
    "    List the names of all commands, or of those the filter admits.",
    "INFO [<command-name> ...]",
    "    Describe the named commands, or all, as COMMAND does.",
    "DOCS [<command-name> ...]",
    "    Document the named commands, or all.",
    "GETKEYS <full-command>",
    "    Tell which arguments of a full command are keys.",
    "GETKEYSANDFLAGS <full-command>",
    "    Tell the keys of a full command and how it uses them.",
    "HELP",
    "    Print this help.",
];

fn help(out: &mut Vec<u8>) {
    write::array(out, HELP.len());
    HELP.iter()
        .for_each(|line| write::simple(out, line.as_bytes()));
}
