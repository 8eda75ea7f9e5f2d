//! What the keys of one client may hold, given every reply it saw.

use super::{Broken, LostWrite, Times};
use crate::resp::Reply;

/// What a reply says about a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it must be
    Right,
    /// An acknowledged write is gone
    Lost(LostWrite),
    /// Never possible: another request's reply, or a write that ran twice
    Wrong(Broken, String),
}

/// True if an error says that the command may have been executed.
pub(crate) fn is_uncertain(text: &str) -> bool {
    text.starts_with("UNCERTAIN ")
}

/// A key that only this client sets, always to a token with a growing number.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    /// Number of the last token written
    pub(super) issued: u64,
    /// Numbers the key may hold, the oldest first; 0 stands for no value
    possible: Vec<u64>,
    /// When the last acknowledged write was sent and answered
    acknowledged: Times,
}

impl Key {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            issued: 0,
            possible: vec![0],
            acknowledged: Times::now(),
        }
    }

    /// The value of the n-th write: names the key, so a value of another key or client is recognised.
    pub(super) fn token(&self, number: u64) -> String {
        format!("{}={number}", self.name)
    }

    /// Judges the reply to a SET of token `number`.
    pub(super) fn set_answered(&mut self, number: u64, reply: &Reply, times: Times) -> Verdict {
        match reply {
            reply if reply.is_ok() => {
                self.possible = vec![number];
                self.acknowledged = times;
            }
            Reply::Error(text) if is_uncertain(text) => self.possible.push(number),
            Reply::Error(_) => {}
            other => {
                return Verdict::Wrong(
                    Broken::Misdelivered,
                    format!("SET {} got {other:?}", self.name),
                );
            }
        }
        Verdict::Right
    }

    /// Judges a value read: the reply to GET or an element of MGET.
    pub(super) fn read(&mut self, reply: &Reply) -> Verdict {
        let number = match reply {
            Reply::Nil => 0,
            Reply::Bulk(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                let own = text
                    .strip_prefix(&self.name)
                    .and_then(|rest| rest.strip_prefix('='));
                match own.and_then(|number| number.parse().ok()) {
                    Some(number) => number,
                    None => {
                        return Verdict::Wrong(
                            Broken::Misdelivered,
                            format!("GET {} got the foreign value {text}", self.name),
                        );
                    }
                }
            }
            Reply::Error(_) => return Verdict::Right,
            other => return misdelivered("GET", &self.name, other),
        };
        if number > self.issued {
            return Verdict::Wrong(
                Broken::Misdelivered,
                format!("GET {} got token {number}, never written", self.name),
            );
        }
        let newest = self.possible.iter().copied().max().unwrap_or(0);
        let oldest = self.possible.first().copied().unwrap_or(0);
        let known = self.possible.contains(&number);
        self.possible = vec![number];
        match (known, number < newest) {
            (true, _) => Verdict::Right,
            (false, true) => Verdict::Lost(LostWrite {
                key: self.name.clone(),
                token: self.token(oldest),
                times: self.acknowledged,
            }),
            // Newer than any write known to have possibly run, so one that was reported as not executed did run.
            (false, false) => Verdict::Wrong(
                Broken::RanThoughRefused,
                format!("GET {} got token {number} whose SET was refused", self.name),
            ),
        }
    }
}

/// A counter that only this client increments.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) name: String,
    least: i64,
    most: i64,
    /// When the last acknowledged increment was sent and answered
    acknowledged: Times,
}

impl Counter {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            least: 0,
            most: 0,
            acknowledged: Times::now(),
        }
    }

    /// Judges the reply to INCR.
    pub(super) fn incremented(&mut self, reply: &Reply, times: Times) -> Verdict {
        match reply {
            Reply::Int(value) => {
                let verdict = self.settle(*value, self.least + 1, self.most + 1);
                self.acknowledged = times;
                verdict
            }
            Reply::Error(text) if is_uncertain(text) => {
                self.most += 1;
                Verdict::Right
            }
            Reply::Error(_) => Verdict::Right,
            other => misdelivered("INCR", &self.name, other),
        }
    }

    /// Judges the value of the counter, read by GET.
    pub(super) fn read(&mut self, reply: &Reply) -> Verdict {
        match reply {
            Reply::Nil => self.settle(0, self.least, self.most),
            Reply::Bulk(bytes) => {
                match std::str::from_utf8(bytes)
                    .ok()
                    .and_then(|text| text.parse().ok())
                {
                    Some(value) => self.settle(value, self.least, self.most),
                    None => misdelivered("GET", &self.name, reply),
                }
            }
            Reply::Error(_) => Verdict::Right,
            other => misdelivered("GET", &self.name, other),
        }
    }

    fn settle(&mut self, value: i64, least: i64, most: i64) -> Verdict {
        (self.least, self.most) = (value, value);
        if value > most {
            let text = format!(
                "{} is {value}, but at most {most} increments may have run",
                self.name
            );
            return Verdict::Wrong(Broken::RanTwice, text);
        }
        if value < least {
            Verdict::Lost(LostWrite {
                key: self.name.clone(),
                token: format!("{}={least}", self.name),
                times: self.acknowledged,
            })
        } else {
            Verdict::Right
        }
    }
}

/// A reply of a kind that the command never has.
fn misdelivered(command: &str, name: &str, reply: &Reply) -> Verdict {
    Verdict::Wrong(
        Broken::Misdelivered,
        format!("{command} {name} got {reply:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Reply {
        Reply::Bulk(text.as_bytes().to_vec())
    }

    fn written(key: &mut Key, reply: &Reply) -> Verdict {
        key.issued += 1;
        key.set_answered(key.issued, reply, Times::now())
    }

    fn increment(counter: &mut Counter, reply: &Reply) -> Verdict {
        counter.incremented(reply, Times::now())
    }

    #[test]
    fn a_key_tells_lost_foreign_and_refused_writes_apart() {
        let ok = Reply::Simple("OK".to_owned());
        let mut key = Key::new("k".to_owned());
        assert_eq!(written(&mut key, &ok), Verdict::Right);
        assert_eq!(key.read(&value("k=1")), Verdict::Right);
        assert!(matches!(key.read(&value("j=1")), Verdict::Wrong(..)));
        assert_eq!(written(&mut key, &ok), Verdict::Right);
        assert!(matches!(key.read(&value("k=1")), Verdict::Lost(_)));
        assert_eq!(
            written(&mut key, &Reply::Error("CLUSTERDOWN x".to_owned())),
            Verdict::Right
        );
        assert!(matches!(key.read(&value("k=3")), Verdict::Wrong(..)));
        assert!(matches!(key.read(&value("k=9")), Verdict::Wrong(..)));
    }

    #[test]
    fn an_uncertain_write_may_or_may_not_be_there() {
        for seen in ["k=1", "k=2"] {
            let mut key = Key::new("k".to_owned());
            written(&mut key, &Reply::Simple("OK".to_owned()));
            written(&mut key, &Reply::Error("UNCERTAIN proxy".to_owned()));
            assert_eq!(key.read(&value(seen)), Verdict::Right);
            let other = if seen == "k=1" { "k=2" } else { "k=1" };
            assert_ne!(key.read(&value(other)), Verdict::Right);
        }
    }

    #[test]
    fn a_counter_tells_double_execution_from_loss() {
        let mut counter = Counter::new("n".to_owned());
        assert_eq!(increment(&mut counter, &Reply::Int(1)), Verdict::Right);
        assert!(matches!(
            increment(&mut counter, &Reply::Int(3)),
            Verdict::Wrong(..)
        ));
        assert_eq!(
            increment(&mut counter, &Reply::Error("UNCERTAIN x".to_owned())),
            Verdict::Right
        );
        assert_eq!(increment(&mut counter, &Reply::Int(5)), Verdict::Right);
        assert_eq!(
            increment(&mut counter, &Reply::Error("CLUSTERDOWN x".to_owned())),
            Verdict::Right
        );
        assert!(matches!(
            increment(&mut counter, &Reply::Int(5)),
            Verdict::Lost(_)
        ));
        assert!(matches!(counter.read(&Reply::Nil), Verdict::Lost(_)));
    }
}
