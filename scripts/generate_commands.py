#!/usr/bin/env python3
"""Keeps the command table of slotway-core: one CSV, one generated pair of Rust files.

core/src/command/commands.csv is the only source. Its columns `class` to `notes` are our decisions and are edited by
hand; its columns `arity` to `facts_from` are facts learned from servers. Usage:

  generate_commands.py                          write table.rs and docs_table.rs from the CSV
  generate_commands.py --check                  exit 1 if they are not what the CSV gives
  generate_commands.py --import-facts H:P ...   ask running servers (COMMAND, COMMAND DOCS) and refresh the fact columns;
                                                name them oldest first: the last server that knows a command wins.

Prose (summary, complexity) is only taken from servers under the BSD licence (Redis before 7.4, Valkey); for commands
that no such server has, the summary is ours and stays untouched.
"""

import argparse
import csv
import re
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "core" / "src" / "command"
CSV, TABLE, DOCS = ROOT / "commands.csv", ROOT / "table.rs", ROOT / "docs_table.rs"
COLUMNS = (
    "command subcommand since class readonly idempotent_if_resent key_rule key_spec split_merge_rule notes "
    "arity flags acl tips legacy_range group complexity deprecated_since replaced_by doc_flags summary arguments facts_from"
).split()

# Bit positions; the Rust side (flags.rs) lists the same names in the same order, and a test there compares them.
FLAGS = (
    "write readonly denyoom module admin pubsub noscript blocking loading stale skip_monitor skip_slowlog asking fast no_auth "
    "may_replicate no_mandatory_keys no_async_loading protected no_multi movablekeys allow_busy"
).split()
CATEGORIES = (
    "keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking dangerous "
    "connection transaction scripting array"
).split()
KEY_FLAGS = "RO RW OW RM access update insert delete not_key incomplete variable_flags".split()
CLASSES = {
    "single": "Single", "same-slot": "SameSlot", "same-slot|blocking-if-BLOCK": "SameSlot", "split": "Split",
    "fan-masters": "FanMasters", "fan-one": "FanOne", "scan": "Scan", "tx": "Transaction", "blocking": "Blocking",
    "pubsub": "PubSub", "pubsub-sharded": "ShardedPubSub", "local": "Local", "container": "Container", "forbidden": "Forbidden",
}
KEY_RULES = {
    "": "Specs", "pairs": "Pairs", "streams": "Streams", "sort": "Sort", "sort-ro": "FirstOnly", "georadius 6": "GeoStore(6)",
    "georadius 5": "GeoStore(5)", "migrate": "Migrate", "stralgo": "Stralgo",
}
RENAMED_FLAGS = {"skip_commandlog": "skip_slowlog"}  # Valkey's newer word for the same flag


# --- the CSV -------------------------------------------------------------------------------------------------------------------

def full_name(row):
    return "|".join(filter(None, (row["command"], row["subcommand"]))).lower()


def read_rows():
    with CSV.open(newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    for row in rows:
        for column in COLUMNS:
            row.setdefault(column, "")
    rows.sort(key=lambda row: (row["command"].lower(), row["subcommand"].lower()))
    if len({full_name(row) for row in rows}) != len(rows):
        sys.exit("a command stands twice in the CSV")
    return rows


def write_rows(rows):
    with CSV.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


# --- facts from servers --------------------------------------------------------------------------------------------------------

class Connection:
    """The smallest RESP3 client that can read COMMAND."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.file = self.socket.makefile("rb")
        self.ask("HELLO", "3")

    def ask(self, *words):
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
        return self.value()

    def value(self):
        kind, rest = (line := self.file.readline())[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"+":
            return rest.decode()
        if kind in (b":", b"_"):
            return int(rest) if rest else None
        if kind in b"$=":
            return self.file.read(int(rest) + 2)[:-2].decode()[4 if kind == b"=" else 0:]
        if kind in b"*~":
            return [self.value() for _ in range(int(rest))]
        if kind == b"%":
            return {key: value for key, value in ((self.value(), self.value()) for _ in range(int(rest)))}
        raise RuntimeError(f"unexpected type {line!r}")


def spec_text(spec):
    """One key specification in the grammar of the key_spec column."""
    begin, find = spec["begin_search"], spec["find_keys"]
    flags = " ".join(sorted(spec["flags"], key=KEY_FLAGS.index))
    if begin["type"] == "unknown":
        return f"unknown[{flags}]"
    where = begin["spec"]
    text = f"idx {where['index']}" if begin["type"] == "index" else f"kw {where['keyword']} from {where['startfrom']}"
    rule = find["spec"]
    step = rule["keystep"]
    if find["type"] == "keynum":
        text += f" keynum+{rule['keynumidx']} first+{rule['firstkey']}"
    elif rule["lastkey"]:
        text += f" ..{rule['lastkey']}"
    if step != 1:
        text += f" step {step}"
    if rule.get("limit"):
        text += f" limit {rule['limit']}"
    return f"{text}[{flags}]"


def quoted(text):
    if "'" in text:
        sys.exit(f"a quote in {text!r}: extend the grammar")
    return f"'{text}'"


def argument_text(arg):
    """One argument of COMMAND DOCS: name:type@keyspec='TOKEN'^since~deprecated?*+(children)."""
    text = f"{arg['name']}:{arg['type']}"
    if "key_spec_index" in arg:
        text += f"@{arg['key_spec_index']}"
    if "token" in arg:
        text += "=" + quoted(arg["token"])
    if arg.get("display_text", arg["name"]) != arg["name"]:
        text += "/" + quoted(arg["display_text"])
    if "since" in arg:
        text += f"^{arg['since']}"
    if "deprecated_since" in arg:
        text += f"~{arg['deprecated_since']}"
    marks = {"optional": "?", "multiple": "*", "multiple_token": "+"}
    text += "".join(marks[flag] for flag in marks if flag in arg.get("flags", []))
    children = arg.get("arguments")
    return f"{text}({' '.join(map(argument_text, children))})" if children else text


def import_server(address, rows):
    connection = Connection(address)
    info = dict(line.split(":", 1) for line in connection.ask("INFO", "server").split("\r\n") if ":" in line)
    valkey = info.get("valkey_version")
    version = f"valkey {valkey}" if valkey else f"redis {info['redis_version']}"
    prose_is_free = bool(valkey) or tuple(map(int, info["redis_version"].split(".")[:2])) < (7, 4)
    by_name = {full_name(row): row for row in rows}
    unknown = []

    def entry(item):
        name = item[0].lower()
        row = by_name.get(name)
        if row is None:
            unknown.append(name)
        else:
            row["arity"] = str(item[1])
            flags = {RENAMED_FLAGS.get(flag, flag) for flag in item[2]}
            row["flags"] = " ".join(sorted(flags, key=FLAGS.index))
            row["legacy_range"] = f"{item[3]} {item[4]} {item[5]}"
            row["acl"] = " ".join(sorted((c.removeprefix("@") for c in item[6]), key=CATEGORIES.index))
            row["tips"] = " ".join(item[7])
            row["key_spec"] = "; ".join(map(spec_text, item[8]))
            row["facts_from"] = version
        for sub in item[9]:
            entry(sub)

    def doc(name, fields):
        row = by_name.get(name.lower())
        if row is not None:
            row["group"] = fields.get("group", "")
            row["deprecated_since"] = fields.get("deprecated_since", "")
            row["doc_flags"] = " ".join(fields.get("doc_flags", []))
            row["arguments"] = " ".join(map(argument_text, fields.get("arguments", [])))
            if prose_is_free:
                row["summary"], row["complexity"] = fields.get("summary", ""), fields.get("complexity", "")
                row["replaced_by"] = fields.get("replaced_by", "")
        for sub, sub_fields in (fields.get("subcommands") or {}).items():
            doc(sub, sub_fields)

    for item in connection.ask("COMMAND"):
        entry(item)
    for name, fields in connection.ask("COMMAND", "DOCS").items():
        doc(name, fields)
    print(f"{address}: {version}; not in the CSV: {', '.join(unknown) or 'none'}", file=sys.stderr)


# --- Rust ----------------------------------------------------------------------------------------------------------------------

def bits(words, names):
    value = 0
    for word in words.split():
        value |= 1 << names.index(word)
    return value


SPEC = re.compile(
    r"^(?:(?P<unknown>unknown)|idx (?P<index>\d+)|kw (?P<word>\S+) from (?P<from>-?\d+))"
    r"(?: \.\.(?P<last>-?\d+))?(?: keynum\+(?P<num>\d+) first\+(?P<first>\d+))?(?: step (?P<step>\d+))?(?: limit (?P<limit>\d+))?"
    r"\[(?P<flags>[^\]]+)\]$"
)


def key_specs(row):
    """The key specifications of a row as parsed groups."""
    found = []
    for part in filter(None, (part.strip() for part in row["key_spec"].split(";"))):
        match = SPEC.match(part)
        if not match:
            sys.exit(f"{full_name(row)}: cannot read key spec {part!r}")
        found.append(match.groupdict())
    return found


def key_spec_rust(spec):
    if spec["unknown"]:
        begin, find = "BeginSearch::Unknown", "FindKeys::Unknown"
    else:
        begin = (
            f"BeginSearch::Index({spec['index']})" if spec["index"] is not None
            else f"BeginSearch::Keyword {{ word: {rust_string(spec['word'])}, from: {spec['from']} }}"
        )
        step = spec["step"] or 1
        find = (
            f"FindKeys::KeyNum {{ count_at: {spec['num']}, first: {spec['first']}, step: {step} }}" if spec["num"] is not None
            else f"FindKeys::Range {{ last: {spec['last'] or 0}, step: {step}, limit: {spec['limit'] or 0} }}"
        )
    return f"KeySpec {{ begin: {begin}, find: {find}, flags: KeyFlags({bits(spec['flags'], KEY_FLAGS):#x}) }}"


def fixed_key(row, specs):
    """The argument index of the only key if every call has exactly that one, else 0."""
    if row["key_rule"] == "sort-ro":
        return 1
    if row["key_rule"] or len(specs) != 1:
        return 0
    spec = specs[0]
    alone = spec["index"] is not None and spec["last"] is None and spec["num"] is None
    return int(spec["index"]) if alone else 0


def rust_string(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def rust_bool(condition):
    return "true" if condition else "false"


def rust_list(words):
    return f"&[{', '.join(map(rust_string, words))}]"


MASK = (1 << 64) - 1
FOLD = 0x2020202020202020
SLOT_BITS = 12


def folded(word):
    """The first and the last bytes with the case bit set: the same arithmetic as lookup.rs `Folded::new`."""
    data = word.encode()
    count = len(data)
    if count >= 8:
        head, tail = int.from_bytes(data[:8], "little"), int.from_bytes(data[-8:], "little")
    elif count >= 4:
        head, tail = int.from_bytes(data[:4], "little"), int.from_bytes(data[-4:], "little")
    else:
        head, tail = data[0] | data[count // 2] << 8 | data[-1] << 16, 0
    return head | FOLD, tail | FOLD


def hash_of(name, seed):
    """The same arithmetic as lookup.rs `Folded::slot`."""
    head, tail = folded(name)
    return (((head * seed & MASK) ^ tail) + len(name)) * seed % (1 << 64) >> (64 - SLOT_BITS)


def perfect_seed(names):
    """The first odd multiplier of a fixed sequence that gives every name a slot of its own."""
    state = 0
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        seed = state | 1
        taken = set()
        for name in names:
            slot = hash_of(name, seed)
            if slot in taken:
                break
            taken.add(slot)
        else:
            return seed


def constant(row):
    return re.sub(r"[^A-Z0-9]", "_", "_".join(filter(None, (row["command"], row["subcommand"]))).upper()).rstrip("_")


HEADER = "// Generated by scripts/generate_commands.py from commands.csv. Do not edit: change the CSV and run the script.\n"


def table_rust(rows):
    out = ["//! The command table: what the proxy knows about every command, sorted by name.", HEADER]
    out.append("use super::key_spec::{BeginSearch, FindKeys, KeyFlags, KeySpec};")
    out.append("use super::lookup::Folded;")
    out.append("use super::{Categories, Class, CommandId, Flags, KeyRule, Spec};\n")
    tops = [(index, row) for index, row in enumerate(rows) if not row["subcommand"]]
    out.append("/// How many commands and subcommands the table has.")
    out.append(f"pub const COMMAND_COUNT: usize = {len(rows)};\n")
    seed = perfect_seed([row["command"].lower() for _, row in tops])
    slots = [0] * (1 << SLOT_BITS)
    for index, row in tops:
        slots[hash_of(row["command"].lower(), seed)] = index + 1
    out.append(f"/// Multiplier that makes the hash of the {len(tops)} command names free of collisions.")
    out.append(f"pub(super) const SEED: u64 = {seed:#x};")
    out.append("/// Number of bits of the hash that pick a slot.")
    out.append(f"pub(super) const SLOT_BITS: u32 = {SLOT_BITS};")
    out.append("/// Hash slot to index in `TABLE` plus one; 0 = no command.")
    out.append(f"pub(super) static SLOTS: [u16; {len(slots)}] = [")
    out += ["    " + ", ".join(map(str, slots[i:i + 32])) + "," for i in range(0, len(slots), 32)]
    out.append("];\n")
    out.append("/// Every command as a constant, for `match`.")
    out.append("pub mod id {")
    out.append("    use super::CommandId;\n")
    for index, row in enumerate(rows):
        out.append(f"    /// `{full_name(row)}`")
        out.append(f"    pub const {constant(row)}: CommandId = CommandId({index});")
    out.append("}\n")
    out.append("/// All commands; each container is followed by its subcommands.")
    out.append("pub static TABLE: [Spec; COMMAND_COUNT] = [")
    for index, row in enumerate(rows):
        out.append(spec_rust(index, row, rows))
    out.append("];")
    return "\n".join(out) + "\n"


def spec_rust(index, row, rows):
    specs = key_specs(row)
    subs = 0
    if not row["subcommand"]:
        subs = sum(1 for other in rows if other["command"] == row["command"] and other["subcommand"])
    step = max([int(spec["step"] or 1) for spec in specs] or [1])
    word = (row["subcommand"] or row["command"]).lower()
    head, tail = folded(word)
    # Setting the case bit is reversible only for letters, and two words hold only 16 bytes.
    exact = word.isalpha() and len(word) <= 16
    first, last, stride = (row["legacy_range"] or "0 0 0").split()
    if not row["arity"] and row["class"] != "forbidden":
        sys.exit(f"{full_name(row)}: no arity")
    return (
        f"    Spec {{ id: CommandId({index}), name: {rust_string(full_name(row))}, arity: {row['arity'] or -1}, "
        f"class: Class::{CLASSES[row['class']]}, readonly: {rust_bool(row['readonly'] == 'y')}, "
        f"idempotent: {rust_bool(row['idempotent_if_resent'] == 'y')}, blocks_if_block: {rust_bool('blocking-if' in row['class'])}, "
        f"fixed_key: {fixed_key(row, specs)}, key_step: {step}, rule: KeyRule::{KEY_RULES[row['key_rule']]}, subcommands: {subs}, "
        f"keys: &[{', '.join(map(key_spec_rust, specs))}], flags: Flags({bits(row['flags'], FLAGS):#x}), "
        f"categories: Categories({bits(row['acl'], CATEGORIES):#x}), legacy_range: [{first}, {last}, {stride}], "
        f"since: {rust_string(row['since'])}, tips: {rust_list(row['tips'].split())}, "
        f"last_word: Folded {{ head: {head:#x}, tail: {tail:#x}, len: {len(word)} }}, last_word_is_exact: {rust_bool(exact)} }},"
    )


TOKEN = re.compile(r"(?P<name>[^:()\s]+):(?P<type>[a-z-]+)(?P<rest>(?:@\d+|='[^']*'|/'[^']*'|\^[\d.]+|~[\d.]+|[?*+])*)(?P<open>\()?")
ATTRIBUTE = re.compile(r"@\d+|='[^']*'|/'[^']*'|\^[\d.]+|~[\d.]+|[?*+]")


def arguments_rust(text, at=0):
    """Parses the arguments column from `at`; returns the Rust slice and the position after it."""
    items = []
    while at < len(text) and text[at] != ")":
        if text[at] == " ":
            at += 1
            continue
        match = TOKEN.match(text, at)
        if not match:
            sys.exit(f"cannot read arguments at {text[at:at + 40]!r}")
        at, children = match.end(), "&[]"
        kind_name = "OneOf" if match["type"] == "oneof" else match["type"].title().replace("-", "")
        if match["open"]:
            children, at = arguments_rust(text, at)
            at += 1
        fields = {"@": "None", "=": "None", "/": rust_string(match["name"]), "^": '""', "~": '""'}
        flags = 0
        for attribute in ATTRIBUTE.findall(match["rest"]):
            kind, value = attribute[0], attribute[1:]
            if kind in "?*+":
                flags |= 1 << "?*+".index(kind)
            elif kind == "@":
                fields[kind] = f"Some({value})"
            elif kind == "=":
                fields[kind] = f"Some({rust_string(value[1:-1])})"
            else:
                fields[kind] = rust_string(value.strip("'"))
        items.append(
            f"Argument {{ name: {rust_string(match['name'])}, kind: ArgumentKind::{kind_name}, display: {fields['/']}, "
            f"key_spec: {fields['@']}, token: {fields['=']}, since: {fields['^']}, deprecated: {fields['~']}, "
            f"flags: ArgumentFlags({flags}), children: {children} }}"
        )
    return "&[" + ", ".join(items) + "]", at


def docs_rust(rows):
    out = ["//! The documentation of every command, in the order of the command table, for `COMMAND DOCS`.", HEADER]
    out.append("use super::docs::{Argument, ArgumentFlags, ArgumentKind, Doc};\n")
    out.append("/// Parallel to `TABLE`.")
    out.append(f"pub(super) static DOCS: [Doc; {len(rows)}] = [")
    for row in rows:
        out.append(
            f"    Doc {{ summary: {rust_string(row['summary'])}, group: {rust_string(row['group'] or 'generic')}, "
            f"complexity: {rust_string(row['complexity'])}, deprecated_since: {rust_string(row['deprecated_since'])}, "
            f"replaced_by: {rust_string(row['replaced_by'])}, flags: {rust_list(row['doc_flags'].split())}, "
            f"arguments: {arguments_rust(row['arguments'])[0]} }},"
        )
    out.append("];")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="fail if the generated files are stale")
    mode.add_argument("--import-facts", nargs="+", metavar="HOST:PORT", help="refresh the fact columns from running servers")
    options = parser.parse_args()
    rows = read_rows()
    if options.import_facts:
        for address in options.import_facts:
            import_server(address, rows)
        write_rows(rows)
    for path, text in ((TABLE, table_rust(rows)), (DOCS, docs_rust(rows))):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            sys.exit(f"{path.name} is stale: run scripts/generate_commands.py")
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
