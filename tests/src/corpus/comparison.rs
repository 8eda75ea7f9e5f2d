//! Runs the corpus in every way and collects the differences.

use super::exceptions::{Exceptions, Place};
use super::lines::{Corpus, Family, Mode};
use super::pair::{Addresses, Pair};
use super::rules::whole;
use super::table::{Command, sendable_commands};
use super::{Words, shown, variants};
use crate::node::Node;
use crate::proxy::Proxy;
use crate::resp::Reply;
use crate::servers::Version;
use anyhow::{Context, Result, ensure};

/// Differences that are shown.
const SHOWN: usize = 60;

/// Characters that are shown of a reply.
const LONG: usize = 400;

/// Commands in one write.
const PIPELINE: usize = 200;

/// Commands that change what the connection is, or have other than one reply: each has a connection of its own.
const LAST: &[&str] = &[
    "QUIT",
    "RESET",
    "HELLO",
    "AUTH",
    "CLIENT REPLY",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "CLIENT TRACKING",
    "ASKING",
    "READONLY",
    "MONITOR",
];

/// The same, and those that begin and end transactions: in families where these are not the point.
const LAST_IN_VARIANTS: &[&str] = &["MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "SELECT"];

/// A comparison of a server with the proxy in front of such servers.
#[derive(Debug)]
pub struct Comparison {
    version: Version,
    /// Whether the proxy is in front of a cluster
    cluster: bool,
    addresses: Addresses,
    pair: Pair,
    corpus: Corpus,
    /// Those the server knows
    commands: Vec<Command>,
    /// Those it does not know
    newer: Vec<Command>,
    exceptions: Exceptions,
    compared: usize,
    differences: Vec<String>,
}

impl Comparison {
    /// Connects to both; nothing else may use them.
    ///
    /// # Errors
    /// If a connection or a file of the corpus is refused.
    pub fn new(server: &Node, proxy: &Proxy, resp3: bool) -> Result<Self> {
        let addresses = Addresses {
            server: server.address(),
            proxy: proxy.address(),
            resp3,
        };
        let (commands, newer) = commands_by_age(server)?;
        Ok(Self {
            version: server.version(),
            cluster: true,
            addresses,
            pair: Pair::open(addresses)?,
            corpus: Corpus::load()?,
            commands,
            newer,
            exceptions: Exceptions::load()?,
            compared: 0,
            differences: Vec::new(),
        })
    }

    /// The proxy is in front of one server: what holds only for a cluster is no excuse.
    #[must_use]
    pub fn in_front_of_one_server(mut self) -> Self {
        self.cluster = false;
        self
    }

    /// Runs everything.
    ///
    /// # Errors
    /// If a reply differs and is no exception, if an exception is not needed any more, or if a reply does not come.
    pub fn run(mut self) -> Result<()> {
        let families = std::mem::take(&mut self.corpus.families);
        for family in &families {
            self.run_family(family)
                .with_context(|| format!("{}.txt", family.name))?;
        }
        for call in variants::wrong_arities(&self.commands) {
            self.alone(&call, "wrong arity")?;
            self.in_transaction(&call, "wrong arity, MULTI")?;
        }
        let unused = self.exceptions.unused(self.place(false));
        let unused: Vec<String> = unused
            .into_iter()
            .map(|text| format!("an exception that nothing needs: {text}"))
            .collect();
        self.differences.extend(unused);
        ensure!(self.compared > 10_000, "only {} commands", self.compared);
        let shown: Vec<&str> = self
            .differences
            .iter()
            .map(String::as_str)
            .take(SHOWN)
            .collect();
        ensure!(
            shown.is_empty(),
            "{} of {} replies differ:\n{}",
            self.differences.len(),
            self.compared,
            shown.join("\n")
        );
        Ok(())
    }

    fn run_family(&mut self, family: &Family) -> Result<()> {
        if family.runs(Mode::Alone) {
            self.start_over()?;
            for line in &family.lines {
                self.alone(line, "alone")?;
            }
        }
        if family.runs(Mode::Pipelined) {
            self.start_over()?;
            self.pipelined(&family.lines)?;
        }
        if family.runs(Mode::Multi) {
            self.start_over()?;
            for line in &family.lines {
                self.in_transaction(line, "MULTI")?;
            }
            self.start_over()?;
            self.all_in_one_transaction(&family.lines)?;
        }
        if family.runs(Mode::Variants) {
            self.run_variants(family)?;
        }
        Ok(())
    }

    fn run_variants(&mut self, family: &Family) -> Result<()> {
        self.start_over()?;
        let fixtures = std::mem::take(&mut self.corpus.fixtures);
        for variants in variants::of_family(family, &self.commands) {
            self.pair.exchange(&fixtures)?;
            for variant in &variants {
                self.alone(variant, "variant")?;
            }
            self.pair.exchange(&fixtures)?;
            for variant in &variants {
                self.in_transaction(variant, "variant, MULTI")?;
            }
        }
        self.corpus.fixtures = fixtures;
        Ok(())
    }

    /// Empty servers, and connections as new.
    fn start_over(&mut self) -> Result<()> {
        self.pair = Pair::open(self.addresses)?;
        let commands = ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH"].map(words);
        self.pair.exchange(&commands)?;
        Ok(())
    }

    fn place(&self, multi: bool) -> Place {
        Place {
            version: self.version,
            cluster: self.cluster,
            resp3: self.addresses.resp3,
            multi,
        }
    }

    /// Whether the server knows only one answer to it, which is tried outside of transactions.
    fn is_unknown(&self, line: &Words) -> bool {
        self.newer.iter().any(|command| command.is_called_by(line))
    }

    fn alone(&mut self, line: &Words, how: &str) -> Result<()> {
        let last = how != "alone" && is_one_of(line, LAST_IN_VARIANTS);
        let replies = if last || is_one_of(line, LAST) {
            Pair::open(self.addresses)?
                .exchange_last(std::slice::from_ref(line))
                .with_context(|| shown(line))?
        } else {
            self.pair.exchange([line])?
        };
        for (server, proxy) in replies {
            self.check(line, how, false, &server, &proxy);
        }
        Ok(())
    }

    fn pipelined(&mut self, lines: &[Words]) -> Result<()> {
        let lines: Vec<&Words> = lines.iter().filter(|line| !is_one_of(line, LAST)).collect();
        for lines in lines.chunks(PIPELINE) {
            let replies = self.pair.exchange(lines.iter().copied())?;
            for (line, (server, proxy)) in lines.iter().zip(replies) {
                self.check(line, "pipelined", false, &server, &proxy);
            }
        }
        Ok(())
    }

    fn in_transaction(&mut self, line: &Words, how: &str) -> Result<()> {
        if self.is_unknown(line) {
            return Ok(());
        }
        let unit = [words("MULTI"), line.clone(), words("EXEC")];
        if is_one_of(line, LAST) || is_one_of(line, LAST_IN_VARIANTS) {
            let replies = Pair::open(self.addresses)?
                .exchange_last(&unit)
                .with_context(|| shown(line))?;
            for (server, proxy) in replies {
                self.check_exec(&[line], how, &server, &proxy);
                // A server that has executed it may say more than one reply to EXEC.
                if proxy.starts_with(b"-EXECABORT") {
                    break;
                }
            }
            return Ok(());
        }
        let replies = self.pair.exchange(&unit)?;
        let [_, (queued, queued_too), (server, proxy)] = &replies[..] else {
            return Ok(());
        };
        self.check(line, how, true, queued, queued_too);
        self.check_exec(&[line], how, server, proxy);
        Ok(())
    }

    /// All lines that are not refused in a transaction.
    fn all_in_one_transaction(&mut self, lines: &[Words]) -> Result<()> {
        let discard = words("DISCARD");
        let multi = words("MULTI");
        let mut queued = Vec::new();
        for line in lines {
            if is_one_of(line, LAST) || is_one_of(line, LAST_IN_VARIANTS) || self.is_unknown(line) {
                continue;
            }
            let replies = self.pair.exchange([&multi, line, &discard])?;
            let is_queued = |reply: &[u8]| reply == b"+QUEUED\r\n";
            if replies
                .get(1)
                .is_some_and(|(server, proxy)| is_queued(server) && is_queued(proxy))
            {
                queued.push(line);
            }
        }
        let exec = words("EXEC");
        let unit = std::iter::once(&multi)
            .chain(queued.iter().copied())
            .chain(std::iter::once(&exec));
        let how = "all in one MULTI";
        let mut replies = self.pair.exchange(unit)?;
        if let Some((server, proxy)) = replies.pop() {
            for (line, (server, proxy)) in queued.iter().zip(replies.iter().skip(1)) {
                self.check(line, how, true, server, proxy);
            }
            self.check_exec(&queued, how, &server, &proxy);
        }
        Ok(())
    }

    /// Compares the replies to EXEC item by item.
    fn check_exec(&mut self, lines: &[&Words], how: &str, server: &[u8], proxy: &[u8]) {
        let items = |bytes: &[u8]| match whole(bytes) {
            Some(Reply::Array(_)) => items_of(bytes).filter(|items| items.len() == lines.len()),
            _ => None,
        };
        match (items(server), items(proxy)) {
            (Some(server), Some(proxy)) => {
                for ((line, server), proxy) in lines.iter().zip(server).zip(proxy) {
                    self.check(line, how, true, &server, &proxy);
                }
            }
            _ => {
                let none = Vec::new();
                let line = lines.first().copied().unwrap_or(&none);
                self.check(line, how, true, server, proxy);
            }
        }
    }

    fn check(&mut self, line: &Words, how: &str, multi: bool, server: &[u8], proxy: &[u8]) {
        self.compared += 1;
        let place = self.place(multi);
        if server == proxy || self.exceptions.excuse(place, line, server, proxy) {
            return;
        }
        self.differences.push(format!(
            "{} ({how})\n  server: {}\n  proxy:  {}",
            shown(line),
            shortened(server),
            shortened(proxy)
        ));
    }
}

/// The commands that the server knows, and those that it does not know.
fn commands_by_age(server: &Node) -> Result<(Vec<Command>, Vec<Command>)> {
    let known = server.must("COMMAND LIST")?.texts()?;
    let commands = sendable_commands()?;
    Ok(commands
        .into_iter()
        .partition(|command| known.contains(&command.listed_name())))
}

fn words(line: &str) -> Words {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

fn is_one_of(line: &Words, names: &[&str]) -> bool {
    names.iter().any(|name| {
        let name = words(name);
        line.len() >= name.len()
            && name
                .iter()
                .zip(line)
                .all(|(name, word)| word.eq_ignore_ascii_case(name))
    })
}

/// The bytes of each item of an array.
fn items_of(array: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = array.get(array.windows(2).position(|pair| pair == b"\r\n")? + 2..)?;
    let mut items = Vec::new();
    while !rest.is_empty() {
        let crate::resp::Parsed::Whole(_, length) = crate::resp::parse_reply(rest).ok()? else {
            return None;
        };
        items.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    Some(items)
}

fn shortened(reply: &[u8]) -> String {
    let text = reply.escape_ascii().to_string();
    let short: String = text.chars().take(LONG).collect();
    match short.len() < text.len() {
        true => format!("{short}... ({} bytes)", reply.len()),
        false => short,
    }
}

/// Fails if a command of the table that clients may send is not in the corpus.
///
/// # Errors
/// If one is missing, or a file cannot be read.
pub fn ensure_all_commands_are_called() -> Result<()> {
    let uncalled = variants::uncalled(&Corpus::load()?, &sendable_commands()?);
    ensure!(uncalled.is_empty(), "no line calls {uncalled:?}");
    Ok(())
}
