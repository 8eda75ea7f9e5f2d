//! What a node says on a feed, a connection in RESP2 that has subscriptions, and what sessions are told of their own.
//!
//! In RESP2 all of it is arrays of strings. In RESP3 it is the same with another first byte, which is why one feed serves clients of
//! both versions: a message is never taken apart.

use super::Kind;
use crate::resp::{Protocol, write};

/// One array of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `message`, `pmessage`, `smessage`.
    Message {
        /// The kind of the subscription it is for.
        kind: Kind,
        /// What was subscribed to: the channel, or the pattern.
        topic: &'a [u8],
        /// The channel it was published to.
        channel: &'a [u8],
    },
    /// `subscribe` and its likes: the subscription holds from here on.
    Subscribed {
        /// The kind of subscription.
        kind: Kind,
        /// Of what.
        topic: &'a [u8],
    },
    /// `unsubscribe` and its likes: asked for, or, of a sharded channel, because its slot has moved.
    Unsubscribed {
        /// The kind of subscription.
        kind: Kind,
        /// Of what.
        topic: &'a [u8],
    },
    /// The reply to PING.
    Pong,
}

/// What `frame`, one whole reply, is; `None` if it is nothing that belongs on a feed.
#[must_use]
pub fn read_frame(frame: &[u8]) -> Option<Frame<'_>> {
    let (header, mut rest) = split_line(frame)?;
    if header == b"+PONG" {
        return Some(Frame::Pong);
    }
    let [b'*', count @ ..] = header else {
        return None;
    };
    let word = take_string(&mut rest)?;
    if word == b"pong" {
        return Some(Frame::Pong);
    }
    let topic = take_string(&mut rest)?;
    let kind_of = |word_of: fn(Kind) -> &'static str| {
        let mut kinds = Kind::ALL.into_iter();
        kinds.find(|kind| word_of(*kind).as_bytes() == word)
    };
    let message = |kind, channel| Frame::Message {
        kind,
        topic,
        channel,
    };
    match (word, count) {
        (b"message", b"3") => Some(message(Kind::Channel, topic)),
        (b"smessage", b"3") => Some(message(Kind::Shard, topic)),
        (b"pmessage", b"4") => Some(message(Kind::Pattern, take_string(&mut rest)?)),
        (_, b"3") => match (kind_of(Kind::subscribe), kind_of(Kind::unsubscribe)) {
            (Some(kind), _) => Some(Frame::Subscribed { kind, topic }),
            (None, Some(kind)) => Some(Frame::Unsubscribed { kind, topic }),
            (None, None) => None,
        },
        _ => None,
    }
}

/// The line at the head of `bytes`, and what is behind it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\r', bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 2..)?))
}

/// Takes the bulk string at the head of `bytes`.
fn take_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (header, rest) = split_line(bytes)?;
    let [b'$', digits @ ..] = header else {
        return None;
    };
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let string = rest.get(..length)?;
    *bytes = rest.get(length + 2..)?;
    Some(string)
}

/// Appends what a session is told when a subscription of its own begins or ends: `word` is the command's name, `count` how many it
/// has now [U3].
pub fn write_ack(
    out: &mut Vec<u8>,
    word: &str,
    topic: Option<&[u8]>,
    count: usize,
    protocol: Protocol,
) {
    write::push(out, 3, protocol);
    write::bulk(out, word.as_bytes());
    match topic {
        Some(topic) => write::bulk(out, topic),
        None => write::null(out, protocol),
    }
    write::integer(out, i64::try_from(count).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(words: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        write::command(&mut out, words);
        out
    }

    #[test]
    fn messages_of_every_kind_are_read() {
        let (kind, topic, channel) = (Kind::Channel, &b"a"[..], &b"a"[..]);
        let message = frame(&[b"message", b"a", b"m"]);
        assert_eq!(
            read_frame(&message),
            Some(Frame::Message {
                kind,
                topic,
                channel
            })
        );
        let message = frame(&[b"smessage", b"a", b"m"]);
        let kind = Kind::Shard;
        assert_eq!(
            read_frame(&message),
            Some(Frame::Message {
                kind,
                topic,
                channel
            })
        );
        let message = frame(&[b"pmessage", b"a*", b"abc", b"\r\n$5\r\n"]);
        let (kind, topic, channel) = (Kind::Pattern, &b"a*"[..], &b"abc"[..]);
        assert_eq!(
            read_frame(&message),
            Some(Frame::Message {
                kind,
                topic,
                channel
            })
        );
    }

    #[test]
    fn acknowledgements_and_pongs_are_read() {
        for kind in Kind::ALL {
            let topic = &b"a\r\nb"[..];
            let mut ack = Vec::new();
            write_ack(&mut ack, kind.subscribe(), Some(topic), 7, Protocol::Resp2);
            assert_eq!(read_frame(&ack), Some(Frame::Subscribed { kind, topic }));
            ack.clear();
            write_ack(
                &mut ack,
                kind.unsubscribe(),
                Some(topic),
                0,
                Protocol::Resp2,
            );
            assert_eq!(read_frame(&ack), Some(Frame::Unsubscribed { kind, topic }));
        }
        assert_eq!(read_frame(b"+PONG\r\n"), Some(Frame::Pong));
        assert_eq!(read_frame(&frame(&[b"pong", b""])), Some(Frame::Pong));
    }

    #[test]
    fn what_does_not_belong_on_a_feed_is_told() {
        for bytes in [
            &b"+OK\r\n"[..],
            b":1\r\n",
            b"$-1\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*3\r\n:1\r\n:2\r\n:3\r\n",
            b"*3\r\n$9\r\nsubscribe\r\n$-1\r\n:0\r\n",
            b"*2\r\n$7\r\nmessage\r\n$1\r\na\r\n",
            b"*3\r\n$7\r\nmassage\r\n$1\r\na\r\n$1\r\nm\r\n",
        ] {
            assert_eq!(read_frame(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn acknowledgements_are_as_servers_write_them_u3() {
        let mut out = Vec::new();
        write_ack(&mut out, "subscribe", Some(b"a"), 1, Protocol::Resp2);
        assert_eq!(out, b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
        out.clear();
        write_ack(&mut out, "unsubscribe", None, 0, Protocol::Resp2);
        assert_eq!(out, b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n");
        out.clear();
        write_ack(&mut out, "punsubscribe", None, 0, Protocol::Resp3);
        assert_eq!(out, b">3\r\n$12\r\npunsubscribe\r\n_\r\n:0\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = read_frame(&bytes);
        }

        #[test]
        fn names_and_payloads_of_any_bytes_are_kept(topic: Vec<u8>, channel: Vec<u8>, payload: Vec<u8>) {
            let message = frame(&[b"pmessage", &topic, &channel, &payload]);
            let kind = Kind::Pattern;
            prop_assert_eq!(read_frame(&message), Some(Frame::Message { kind, topic: &topic, channel: &channel }));
        }
    }
}
