//! A list to which only one client appends tokens with growing numbers: it shows every effect, and in what order.

use super::model::{Verdict, is_uncertain};
use super::{Broken, LostWrite, Times};
use crate::resp::Reply;
use std::collections::BTreeSet;

/// What is known of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Acknowledged(Times),
    /// The reply said that it may have run
    Uncertain,
    /// The reply said that it did not run
    Refused,
}

/// The list, as its client knows it.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) name: String,
    /// Number of the last token appended
    pub(crate) issued: u64,
    /// Appends since the list was last read or deleted, and those that were there then, by growing numbers
    appends: Vec<(u64, Fate)>,
    /// Bounds of the list's length
    least: usize,
    most: usize,
}

impl Journal {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            issued: 0,
            appends: Vec::new(),
            least: 0,
            most: 0,
        }
    }

    /// The n-th token: names the list, so a token of another list is recognised.
    pub(crate) fn token(&self, number: u64) -> String {
        format!("{}={number}", self.name)
    }

    /// Judges the reply to RPUSH of token `number`: the length of the list.
    pub(crate) fn appended(&mut self, number: u64, reply: &Reply, times: Times) -> Verdict {
        let fate = match reply {
            Reply::Int(_) => Fate::Acknowledged(times),
            Reply::Error(text) if is_uncertain(text) => Fate::Uncertain,
            Reply::Error(_) => Fate::Refused,
            other => {
                let text = format!("RPUSH {} got {other:?}", self.name);
                return Verdict::Wrong(Broken::Misdelivered, text);
            }
        };
        self.appends.push((number, fate));
        self.most += usize::from(fate != Fate::Refused);
        let Reply::Int(length) = reply else {
            return Verdict::Right;
        };
        let length = usize::try_from(*length).unwrap_or(usize::MAX);
        let most = std::mem::replace(&mut self.most, length);
        // A length below the least means a loss, which the next reading shows in full.
        self.least = length;
        if length > most {
            let text = format!(
                "RPUSH {} made the length {length}, but at most {most} appends may have run",
                self.name
            );
            return Verdict::Wrong(Broken::RanTwice, text);
        }
        Verdict::Right
    }

    /// Judges the whole list, the reply to LRANGE 0 -1.
    pub(crate) fn read(&mut self, reply: &Reply) -> Vec<Verdict> {
        let items = match reply {
            Reply::Array(items) => items,
            Reply::Error(_) => return Vec::new(),
            other => {
                let text = format!("LRANGE {} got {other:?}", self.name);
                return vec![Verdict::Wrong(Broken::Misdelivered, text)];
            }
        };
        let mut verdicts = Vec::new();
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        for (place, item) in items.iter().enumerate() {
            match self.number_of(item) {
                Ok(number) => {
                    if let Some(broken) = self.judge_item(number, &seen) {
                        let text = format!("{} at {place}: token {number}", self.name);
                        verdicts.push(Verdict::Wrong(broken, text));
                    }
                    seen.insert(number);
                }
                Err(wrong) => verdicts.push(wrong),
            }
        }
        (self.least, self.most) = (items.len(), items.len());
        let appends = std::mem::take(&mut self.appends);
        for (number, fate) in appends {
            match fate {
                _ if seen.contains(&number) => self.appends.push((number, fate)),
                Fate::Acknowledged(times) => verdicts.push(Verdict::Lost(LostWrite {
                    key: self.name.clone(),
                    token: self.token(number),
                    times,
                })),
                // What did not run by now must never be seen.
                Fate::Uncertain | Fate::Refused => {}
            }
        }
        verdicts
    }

    /// Takes note of the reply to DEL. Tokens of before must not come back.
    pub(crate) fn deleted(&mut self, reply: &Reply) -> Verdict {
        match reply {
            Reply::Int(0 | 1) => {
                self.appends.clear();
                (self.least, self.most) = (0, 0);
                Verdict::Right
            }
            Reply::Error(_) => Verdict::Right,
            other => {
                let text = format!("DEL {} got {other:?}", self.name);
                Verdict::Wrong(Broken::Misdelivered, text)
            }
        }
    }

    fn number_of(&self, item: &Reply) -> Result<u64, Verdict> {
        let text = item.text().unwrap_or_default();
        let own = text
            .strip_prefix(&self.name)
            .and_then(|rest| rest.strip_prefix('='));
        let number = own.and_then(|number| number.parse().ok());
        number.filter(|n| *n <= self.issued).ok_or_else(|| {
            let text = format!("{} holds the foreign token {text:?}", self.name);
            Verdict::Wrong(Broken::Misdelivered, text)
        })
    }

    /// What is wrong with a token, given those before it.
    fn judge_item(&self, number: u64, before: &BTreeSet<u64>) -> Option<Broken> {
        if before.contains(&number) {
            return Some(Broken::RanTwice);
        }
        match self.appends.binary_search_by_key(&number, |(n, _)| *n) {
            // It was seen and deleted, or seen to be missing: it ran again, or late.
            Err(_) => Some(Broken::RanTwice),
            Ok(place) if self.appends[place].1 == Fate::Refused => Some(Broken::RanThoughRefused),
            Ok(_) if before.last().is_some_and(|newest| *newest > number) => {
                Some(Broken::Reordered)
            }
            Ok(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(numbers: &[u64]) -> Reply {
        let token = |n: &u64| Reply::Bulk(format!("j={n}").into_bytes());
        Reply::Array(numbers.iter().map(token).collect())
    }

    /// A journal whose appends 1, 2, .. got these replies; `Int` is made the right length.
    fn journal(replies: &[Reply]) -> Journal {
        let mut journal = Journal::new("j".to_owned());
        for reply in replies {
            journal.issued += 1;
            assert_eq!(
                journal.appended(journal.issued, reply, Times::now()),
                Verdict::Right
            );
        }
        journal
    }

    fn kinds(verdicts: &[Verdict]) -> Vec<Option<Broken>> {
        let kind = |verdict: &Verdict| match verdict {
            Verdict::Wrong(broken, _) => Some(*broken),
            Verdict::Right | Verdict::Lost(_) => None,
        };
        verdicts.iter().map(kind).collect()
    }

    fn three() -> Journal {
        journal(&[Reply::Int(1), Reply::Int(2), Reply::Int(3)])
    }

    #[test]
    fn a_whole_list_is_right_and_each_disturbance_is_told_apart() {
        assert_eq!(three().read(&list(&[1, 2, 3])), []);
        let told = |numbers: &[u64]| kinds(&three().read(&list(numbers)));
        assert_eq!(told(&[1, 3, 2]), [Some(Broken::Reordered)]);
        assert_eq!(told(&[1, 2, 2, 3]), [Some(Broken::RanTwice)]);
        assert_eq!(told(&[1, 2, 3, 1]), [Some(Broken::RanTwice)]);
        assert_eq!(told(&[1, 2, 3, 9]), [Some(Broken::Misdelivered)]);
        assert_eq!(told(&[1, 2]), [None]);
        let mut foreign = three();
        let alien = Reply::Array(vec![Reply::Bulk(b"k=1".to_vec())]);
        assert_eq!(kinds(&foreign.read(&alien))[0], Some(Broken::Misdelivered));
    }

    #[test]
    fn a_lost_append_is_named_once() {
        let mut journal = three();
        let verdicts = journal.read(&list(&[1, 3]));
        assert!(matches!(&verdicts[..], [Verdict::Lost(lost)] if lost.token == "j=2"));
        assert_eq!(journal.read(&list(&[1, 3])), []);
        // It may not come back later.
        assert_eq!(
            kinds(&journal.read(&list(&[1, 3, 2])))[0],
            Some(Broken::RanTwice)
        );
    }

    #[test]
    fn uncertain_appends_may_be_there_and_refused_ones_not() {
        let uncertain = Reply::Error("UNCERTAIN proxy".to_owned());
        let refused = Reply::Error("CLUSTERDOWN x".to_owned());
        let scene = || journal(&[Reply::Int(1), uncertain.clone(), refused.clone()]);
        assert_eq!(scene().read(&list(&[1])), []);
        assert_eq!(scene().read(&list(&[1, 2])), []);
        assert_eq!(
            kinds(&scene().read(&list(&[1, 3]))),
            [Some(Broken::RanThoughRefused)]
        );
        let mut late = scene();
        assert_eq!(late.read(&list(&[1])), []);
        assert_eq!(kinds(&late.read(&list(&[1, 2]))), [Some(Broken::RanTwice)]);
    }

    #[test]
    fn the_length_shows_a_second_execution_at_once() {
        let mut journal = three();
        journal.issued += 1;
        let verdict = journal.appended(4, &Reply::Int(5), Times::now());
        assert!(matches!(verdict, Verdict::Wrong(Broken::RanTwice, _)));
    }

    #[test]
    fn a_deleted_token_that_is_back_ran_again() {
        let mut journal = three();
        assert_eq!(journal.deleted(&Reply::Int(1)), Verdict::Right);
        assert_eq!(journal.read(&list(&[])), []);
        assert_eq!(kinds(&journal.read(&list(&[3]))), [Some(Broken::RanTwice)]);
    }
}
