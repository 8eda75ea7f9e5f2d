//! Weaker rules than "the same bytes", each for a kind of difference that is known.

use crate::resp::{Parsed, Reply, parse_reply};
use anyhow::{Result, bail};
use std::mem::discriminant;

/// What an exception allows.
#[derive(Debug)]
pub(super) enum Rule {
    /// `skip`: the replies have nothing in common by which they could be compared.
    Skip,
    /// `shape`: the same kinds of values, item by item where there are as many of them; the values differ.
    Shape,
    /// `kind`: the same kind of value; what is in it differs.
    Kind,
    /// `near: N`: two integers that are at most N apart.
    Near(u64),
    /// `unordered`: the same items in another order, as the hash seeds of two servers differ.
    Unordered,
    /// `errors`: both are errors, in other words.
    Errors,
    /// `proxy: TEXT`: the proxy answers an error that begins so, whatever the server says.
    Proxy(String),
    /// `not in MULTI`: the proxy refuses it in a transaction, whatever the server says.
    NotInMulti,
    /// `crossslot`: the proxy refuses it because its keys are in several slots, also in a transaction.
    CrossSlot,
    /// `queued`: the server refuses what the proxy queues; EXEC then fails at the proxy, too, in other words.
    Queued,
}

impl Rule {
    pub(super) fn parse(text: &str) -> Result<Self> {
        if let Some(start) = text.strip_prefix("proxy: ") {
            return Ok(Self::Proxy(start.to_owned()));
        }
        if let Some(apart) = text.strip_prefix("near: ") {
            return Ok(Self::Near(apart.parse()?));
        }
        Ok(match text {
            "skip" => Self::Skip,
            "shape" => Self::Shape,
            "kind" => Self::Kind,
            "unordered" => Self::Unordered,
            "errors" => Self::Errors,
            "not in MULTI" => Self::NotInMulti,
            "crossslot" => Self::CrossSlot,
            "queued" => Self::Queued,
            _ => bail!("no rule {text}"),
        })
    }

    /// Whether two runs may agree by chance, so that the exception is not needed each time.
    pub(super) fn is_for_chance(&self) -> bool {
        matches!(
            self,
            Self::Shape | Self::Kind | Self::Near(_) | Self::Unordered
        )
    }

    /// Whether the two replies, which are not the same bytes, differ as this rule allows.
    pub(super) fn accepts(&self, server: &[u8], proxy: &[u8]) -> bool {
        if matches!(self, Self::Skip) {
            return true;
        }
        let (Some(server), Some(proxy)) = (whole(server), whole(proxy)) else {
            return false;
        };
        match self {
            Self::Skip => true,
            Self::Shape => same_shape(&server, &proxy),
            Self::Kind => discriminant(&server) == discriminant(&proxy),
            Self::Near(apart) => are_near(&server, &proxy, *apart),
            Self::Unordered => sorted(server) == sorted(proxy),
            Self::Errors => server.error().is_some() && proxy.error().is_some(),
            Self::Proxy(start) => proxy.error().is_some_and(|text| text.starts_with(start)),
            Self::NotInMulti => is_refused(&proxy, "' is not allowed in a transaction"),
            Self::CrossSlot => is_refused(&proxy, "Keys in request don't hash to the same slot"),
            Self::Queued => is_refused_late(&server, &proxy),
        }
    }
}

/// The reply, if it is one.
pub(super) fn whole(bytes: &[u8]) -> Option<Reply> {
    match parse_reply(bytes) {
        Ok(Parsed::Whole(reply, length)) if length == bytes.len() => Some(reply),
        _ => None,
    }
}

fn same_shape(one: &Reply, other: &Reply) -> bool {
    let same = |one: &[Reply], other: &[Reply]| {
        one.len() != other.len()
            || one
                .iter()
                .zip(other)
                .all(|(one, other)| same_shape(one, other))
    };
    match (one, other) {
        (Reply::Array(one), Reply::Array(other))
        | (Reply::Set(one), Reply::Set(other))
        | (Reply::Push(one), Reply::Push(other)) => same(one, other),
        (Reply::Map(one), Reply::Map(other)) => {
            one.len() != other.len()
                || one
                    .iter()
                    .zip(other)
                    .all(|((key, one), (name, other))| key == name && same_shape(one, other))
        }
        _ => discriminant(one) == discriminant(other),
    }
}

fn are_near(one: &Reply, other: &Reply, apart: u64) -> bool {
    match (one, other) {
        (Reply::Int(one), Reply::Int(other)) => one.abs_diff(*other) <= apart,
        _ => false,
    }
}

/// The reply with the items of every aggregate in a fixed order.
fn sorted(reply: Reply) -> Reply {
    let sort = |items: Vec<Reply>| {
        let mut items: Vec<Reply> = items.into_iter().map(sorted).collect();
        items.sort_by_cached_key(|item| format!("{item:?}"));
        items
    };
    match reply {
        Reply::Array(items) => Reply::Array(sort(items)),
        Reply::Set(items) => Reply::Set(sort(items)),
        Reply::Map(pairs) => {
            let mut pairs: Vec<(Reply, Reply)> = pairs
                .into_iter()
                .map(|(key, value)| (key, sorted(value)))
                .collect();
            pairs.sort_by_cached_key(|pair| format!("{pair:?}"));
            Reply::Map(pairs)
        }
        other => other,
    }
}

/// A refusal that ends so, or that of EXEC after it.
fn is_refused(proxy: &Reply, end: &str) -> bool {
    let aborted = "EXECABORT Transaction discarded because of previous errors.";
    proxy
        .error()
        .is_some_and(|text| text.ends_with(end) || text == aborted)
}

/// The reply to a queued command, or to EXEC after it.
fn is_refused_late(server: &Reply, proxy: &Reply) -> bool {
    let queued = matches!(proxy, Reply::Simple(text) if text == "QUEUED");
    let aborted = |reply: &Reply| {
        reply
            .error()
            .is_some_and(|text| text.starts_with("EXECABORT "))
    };
    (queued && server.error().is_some()) || (aborted(server) && aborted(proxy))
}

#[cfg(test)]
mod tests {
    use super::Rule;

    #[test]
    fn rules_allow_what_they_say_and_no_more() {
        let accepts = |rule: &str, server: &str, proxy: &str| {
            let rule = Rule::parse(rule).unwrap();
            rule.accepts(server.as_bytes(), proxy.as_bytes())
        };
        assert!(accepts("shape", "*2\r\n:1\r\n+a\r\n", "*2\r\n:2\r\n+b\r\n"));
        assert!(!accepts(
            "shape",
            "*2\r\n:1\r\n+a\r\n",
            "*2\r\n:2\r\n:1\r\n"
        ));
        assert!(!accepts("kind", "+OK\r\n", "-ERR x\r\n"));
        assert!(accepts(
            "unordered",
            "*2\r\n+a\r\n+b\r\n",
            "*2\r\n+b\r\n+a\r\n"
        ));
        assert!(!accepts(
            "unordered",
            "*2\r\n+a\r\n+b\r\n",
            "*2\r\n+b\r\n+c\r\n"
        ));
        assert!(accepts("near: 16", ":96\r\n", ":112\r\n"));
        assert!(!accepts("near: 16", ":113\r\n", ":96\r\n"));
        assert!(!accepts("near: 16", "+96\r\n", "+96\r\n"));
        assert!(!accepts("errors", "+OK\r\n", "-ERR x\r\n"));
        assert!(accepts(
            "proxy: ERR proxy: x",
            "+OK\r\n",
            "-ERR proxy: xy\r\n"
        ));
        assert!(!accepts(
            "proxy: ERR proxy: x",
            "-ERR proxy: x\r\n",
            "+OK\r\n"
        ));
        assert!(accepts("queued", "-ERR x\r\n", "+QUEUED\r\n"));
        assert!(!accepts("queued", "-ERR x\r\n", "*0\r\n"));
    }
}
