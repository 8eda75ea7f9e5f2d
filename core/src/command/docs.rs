//! `COMMAND DOCS`: what a command is for and the shape of its arguments; interactive clients build their hints from it.

use super::docs_table::DOCS;
use super::introspect::{shown, write_status_set};
use super::{Flags, Spec};
use crate::resp::{Protocol, write};

/// Servers name the module a command comes from; the vector sets of Redis 8 are the only module commands in the table.
pub(super) const MODULE_NAME: &str = "vectorset";

/// The documentation of one command; empty strings mean the fact is unknown or does not apply.
#[derive(Debug)]
pub(super) struct Doc {
    pub(super) summary: &'static str,
    pub(super) group: &'static str,
    pub(super) complexity: &'static str,
    pub(super) deprecated_since: &'static str,
    pub(super) replaced_by: &'static str,
    pub(super) flags: &'static [&'static str],
    pub(super) arguments: &'static [Argument],
}

/// One argument, or a group of them.
#[derive(Debug)]
pub(super) struct Argument {
    pub(super) name: &'static str,
    pub(super) kind: ArgumentKind,
    pub(super) display: &'static str,
    pub(super) key_spec: Option<u8>,
    pub(super) token: Option<&'static str>,
    pub(super) since: &'static str,
    pub(super) deprecated: &'static str,
    pub(super) flags: ArgumentFlags,
    pub(super) children: &'static [Self],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArgumentKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl ArgumentKind {
    const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Key => "key",
            Self::Pattern => "pattern",
            Self::UnixTime => "unix-time",
            Self::PureToken => "pure-token",
            Self::OneOf => "oneof",
            Self::Block => "block",
        }
    }

    const fn is_group(self) -> bool {
        matches!(self, Self::OneOf | Self::Block)
    }
}

/// One bit for each name of [`ArgumentFlags::NAMES`].
#[derive(Debug, Clone, Copy)]
pub(super) struct ArgumentFlags(pub(super) u8);

impl ArgumentFlags {
    const NAMES: [&'static str; 3] = ["optional", "multiple", "multiple_token"];

    fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter_map(move |(bit, name)| (self.0 & 1 << bit != 0).then_some(name))
    }
}

/// Name and documentation of one command, as one entry of the map `COMMAND DOCS` replies with.
pub(super) fn write_doc(spec: &Spec, protocol: Protocol, out: &mut Vec<u8>) {
    let Some(doc) = DOCS.get(spec.id.index()) else {
        return;
    };
    let texts = texts(spec, doc);
    let present = texts.iter().filter(|(_, text)| !text.is_empty());
    let subcommands = shown(spec.subcommand_specs());
    let lists = [
        !doc.flags.is_empty(),
        !doc.arguments.is_empty(),
        subcommands.clone().next().is_some(),
    ];
    write::bulk(out, spec.name.as_bytes());
    write::map(
        out,
        present.clone().count() + lists.iter().filter(|&&present| present).count(),
        protocol,
    );
    for (name, text) in present {
        write::bulk(out, name.as_bytes());
        write::bulk(out, text.as_bytes());
    }
    if !doc.flags.is_empty() {
        write::bulk(out, b"doc_flags");
        write_status_set(doc.flags.iter().copied(), "", protocol, out);
    }
    if !doc.arguments.is_empty() {
        write::bulk(out, b"arguments");
        write_arguments(doc.arguments, protocol, out);
    }
    if subcommands.clone().next().is_some() {
        write::bulk(out, b"subcommands");
        write::map(out, subcommands.clone().count(), protocol);
        subcommands.for_each(|sub| write_doc(sub, protocol, out));
    }
}

fn texts(spec: &Spec, doc: &Doc) -> [(&'static str, &'static str); 7] {
    [
        ("summary", doc.summary),
        ("since", spec.since),
        ("group", doc.group),
        ("complexity", doc.complexity),
        (
            "module",
            if spec.flags.contains(Flags::MODULE) {
                MODULE_NAME
            } else {
                ""
            },
        ),
        ("deprecated_since", doc.deprecated_since),
        ("replaced_by", doc.replaced_by),
    ]
}

fn write_arguments(arguments: &[Argument], protocol: Protocol, out: &mut Vec<u8>) {
    write::array(out, arguments.len());
    for argument in arguments {
        write_argument(argument, protocol, out);
    }
}

fn write_argument(argument: &Argument, protocol: Protocol, out: &mut Vec<u8>) {
    let texts = [
        ("name", Some(argument.name)),
        ("type", Some(argument.kind.name())),
        (
            "display_text",
            (!argument.kind.is_group()).then_some(argument.display),
        ),
        ("token", argument.token),
        (
            "since",
            (!argument.since.is_empty()).then_some(argument.since),
        ),
        (
            "deprecated_since",
            (!argument.deprecated.is_empty()).then_some(argument.deprecated),
        ),
    ];
    let present = texts
        .iter()
        .filter_map(|(name, text)| text.map(|text| (name, text)));
    let flags = argument.flags.names();
    let others = [
        argument.key_spec.is_some(),
        flags.clone().next().is_some(),
        !argument.children.is_empty(),
    ];
    write::map(
        out,
        present.clone().count() + others.iter().filter(|&&present| present).count(),
        protocol,
    );
    for (name, text) in present {
        write::bulk(out, name.as_bytes());
        write::bulk(out, text.as_bytes());
    }
    if let Some(key_spec) = argument.key_spec {
        write::bulk(out, b"key_spec_index");
        write::integer(out, i64::from(key_spec));
    }
    if flags.clone().next().is_some() {
        write::bulk(out, b"flags");
        write_status_set(flags, "", protocol, out);
    }
    if !argument.children.is_empty() {
        write::bulk(out, b"arguments");
        write_arguments(argument.children, protocol, out);
    }
}
