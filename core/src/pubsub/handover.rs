//! A topic passes from one node to another: for a while both bring its messages, and each is to be handed on once [U6].
//!
//! ```text
//!   from  ---m1--m2--m3--m4--|mark                        handed on as they come, and remembered
//!   to         ack-m2--m3--|mark-m4--m5--m6---|mark-m7-->  kept, unless `from` has brought it already
//!                   early          late
//! ```
//!
//! What `to` says before its mark `from` has brought before it was listened for, or will bring. What `to` says behind it and `from`
//! does not bring before its own mark is handed on then; from then on `to` counts, but for what `from` has brought. Between these, as
//! long is waited as the cluster may take to pass a message on. Of messages of one topic with equal content, published meanwhile, one
//! may be taken for the other.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::engine::NodeKey;
use crate::time::Timestamp;

/// What a remembered message takes: about, for the bound.
const REMEMBERED_BYTES: usize = 32;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `to` is to say that it has the topic.
    Joining,
    /// Until then what it says is early.
    Early(Timestamp),
    /// It is to say its mark: what comes before that is early.
    Marking,
    /// What it says is late; `from` is listened to until then.
    Late(Timestamp),
    /// `from` is to say its mark.
    Closing,
    /// `to` counts; until then it may say what `from` has brought.
    Tail(Timestamp),
    /// It is to say its last mark.
    Ending,
}

/// Which messages are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Those that every node has.
    Cluster,
    /// Those that `to` publishes itself, such as notifications about keys; `from` has them because it is a replica of `to`, or the
    /// same node at another address.
    Own,
}

/// See above.
#[derive(Debug)]
pub struct Handover {
    /// Of which messages.
    pub source: Source,
    /// Where they come from yet.
    pub from: NodeKey,
    /// Where they are to come from.
    pub to: NodeKey,
    /// How far it is.
    pub stage: Stage,
    /// What `from` has brought and `to` has not, and how often: before `to` was there, and since.
    brought: [HashMap<u64, u32, BuildHasherDefault<DefaultHasher>>; 2],
    /// What `to` has brought and `from` has not, in order.
    kept: Vec<Box<[u8]>>,
    /// How many of these are early.
    early: usize,
    bytes: usize,
}

impl Handover {
    /// It begins.
    #[must_use]
    pub fn new(source: Source, from: NodeKey, to: NodeKey) -> Self {
        Self {
            source,
            from,
            to,
            stage: Stage::Joining,
            brought: Default::default(),
            kept: Vec::new(),
            early: 0,
            bytes: 0,
        }
    }

    /// About how much memory it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// `from` brings a message, which is handed on: what is to be handed on before it.
    pub fn bring(&mut self, frame: &[u8]) -> Vec<Box<[u8]>> {
        let Some(position) = self.kept.iter().position(|kept| **kept == *frame) else {
            let since = usize::from(self.stage != Stage::Joining);
            *self.brought[since].entry(hash(frame)).or_default() += 1;
            self.bytes += REMEMBERED_BYTES;
            return Vec::new();
        };
        self.bytes -= frame.len();
        let early = match self.stage {
            Stage::Joining => self.kept.len(),
            _ => self.early,
        };
        self.early -= usize::from(position < self.early);
        self.kept.remove(position);
        if self.source == Source::Cluster {
            return Vec::new();
        }
        // A replica tells in the order of its primary: it does not tell of what was before. What is early it has told.
        let before: Vec<_> = self.kept.drain(..position).collect();
        self.early -= position.min(self.early);
        self.bytes -= before.iter().map(|frame| frame.len()).sum::<usize>();
        before.into_iter().skip(early).collect()
    }

    /// `to` brings a message: whether `from` has brought it.
    pub fn take(&mut self, frame: &[u8]) -> bool {
        let hash = hash(frame);
        for brought in &mut self.brought {
            if let Some(count) = brought.get_mut(&hash) {
                *count -= 1;
                self.bytes -= REMEMBERED_BYTES;
                if *count == 0 {
                    brought.remove(&hash);
                }
                return true;
            }
        }
        false
    }

    /// `to` has brought a message, which `from` has not.
    pub fn keep(&mut self, frame: &[u8]) {
        self.bytes += frame.len();
        self.kept.push(frame.into());
    }

    /// Whether `to` counts.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Tail(_) | Stage::Ending)
    }

    /// `to` has said its mark. What `from` brought before `to` was there, and `to` has not, it never will; of its own messages it may,
    /// for then it was not waited for what it had to say.
    pub fn note_mark(&mut self) {
        self.early = self.kept.len();
        if self.source == Source::Own {
            return;
        }
        let forgotten: u32 = self.brought[0].drain().map(|(_, count)| count).sum();
        self.bytes -= forgotten as usize * REMEMBERED_BYTES;
    }

    /// What `to` has brought and `from` has not.
    #[must_use]
    pub fn into_kept(self) -> Vec<Box<[u8]>> {
        self.kept
    }

    /// Whether `to` alone has brought some of its own messages: if it is lost now, `from` may never bring them.
    #[must_use]
    pub fn has_own_rest(&self) -> bool {
        self.source == Source::Own && self.kept.len() > self.early
    }

    /// `from` has said its mark: what it has not brought.
    pub fn take_rest(&mut self) -> Vec<Box<[u8]>> {
        let kept = std::mem::take(&mut self.kept);
        self.bytes -= kept.iter().map(|frame| frame.len()).sum::<usize>();
        kept.into_iter().skip(self.early).collect()
    }
}

fn hash(frame: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handover(source: Source) -> Handover {
        let node = NodeKey::from_index;
        Handover::new(source, node(1), node(2))
    }

    fn say(handover: &mut Handover, frame: &[u8]) {
        if !handover.take(frame) {
            handover.keep(frame);
        }
    }

    fn texts(frames: &[Box<[u8]>]) -> Vec<&str> {
        let text = |frame| std::str::from_utf8(frame).unwrap();
        frames.iter().map(|frame| text(frame)).collect()
    }

    #[test]
    fn what_both_bring_is_handed_on_once_u6() {
        let mut handover = handover(Source::Cluster);
        handover.bring(b"before the other was there");
        handover.stage = Stage::Marking;
        say(&mut handover, b"early, brought before");
        assert!(handover.bring(b"a").is_empty());
        say(&mut handover, b"b");
        handover.note_mark();
        say(&mut handover, b"a");
        assert!(handover.bring(b"b").is_empty());
        for frame in [b"c", b"c", b"d"] {
            say(&mut handover, frame);
        }
        assert!(handover.bring(b"c").is_empty());
        handover.bring(b"e");
        assert_eq!(texts(&handover.take_rest()), ["c", "d"]);
        assert!(handover.take(b"e"), "brought already");
        assert!(!handover.take(b"before the other was there"), "another one");
    }

    #[test]
    fn what_is_kept_and_remembered_is_counted() {
        let mut handover = handover(Source::Cluster);
        for frame in [&b"a"[..], b"b", b"b"] {
            handover.bring(frame);
        }
        assert!(handover.bytes() > 0);
        for frame in [&b"b"[..], b"a", b"b"] {
            say(&mut handover, frame);
        }
        assert_eq!(handover.bytes(), 0);
        say(&mut handover, b"c");
        handover.bring(b"c");
        assert_eq!(handover.bytes(), 0);
    }

    #[test]
    fn a_replica_tells_in_the_order_of_its_primary_u9() {
        let mut handover = handover(Source::Own);
        handover.stage = Stage::Late(Timestamp::ZERO);
        for frame in [b"a", b"b", b"c"] {
            say(&mut handover, frame);
        }
        assert_eq!(texts(&handover.bring(b"b")), ["a"]);
        assert_eq!(texts(&handover.take_rest()), ["c"]);
    }

    #[test]
    fn what_was_said_before_the_mark_is_not_told_again_u9() {
        let mut handover = handover(Source::Own);
        for frame in [b"a", b"b", b"c"] {
            say(&mut handover, frame);
        }
        assert!(handover.bring(b"b").is_empty());
        handover.note_mark();
        assert!(handover.take_rest().is_empty());
    }
}
