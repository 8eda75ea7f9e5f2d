//! CLIENT TRACKING of one client: what it has asked for, and what waits to be told to it [N2].

use std::collections::VecDeque;

use crate::resp::write;
use crate::time::Timestamp;

/// Which keys a client hears about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Those it has read.
    #[default]
    Read,
    /// Those it has read behind CLIENT CACHING YES.
    OptIn,
    /// Those it has read, but not behind CLIENT CACHING NO.
    OptOut,
    /// All that begin so, read or not.
    Broadcast,
}

/// What a client has asked for with CLIENT TRACKING ON.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracking {
    /// Which keys.
    pub mode: Mode,
    /// It does not hear of what it changes itself.
    pub no_loop: bool,
    /// The client that hears instead of it.
    pub redirect: Option<u64>,
    /// That one is gone, as was noticed.
    pub broken: bool,
    /// What the keys begin with; only with [`Mode::Broadcast`].
    pub prefixes: Vec<Vec<u8>>,
    /// CLIENT CACHING was said: with [`Mode::OptIn`] the next command is to be remembered, with [`Mode::OptOut`] it is not.
    pub caching: bool,
}

impl Tracking {
    /// Whether a node is asked for the same.
    #[must_use]
    pub fn is_same_at_node(&self, other: &Self) -> bool {
        (self.mode, self.no_loop, &self.prefixes) == (other.mode, other.no_loop, &other.prefixes)
    }

    /// Appends what a node is asked for, on a connection of this client's own. `receiver` is the number of the connection that gets what
    /// the node has to say, if that is another one.
    pub fn write_command(&self, receiver: Option<i64>, out: &mut Vec<u8>) {
        let number = receiver.map(|number| number.to_string());
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON"];
        if let Some(number) = &number {
            words.extend([b"REDIRECT".as_slice(), number.as_bytes()]);
        }
        match self.mode {
            Mode::Read => {}
            Mode::OptIn => words.push(b"OPTIN"),
            Mode::OptOut => words.push(b"OPTOUT"),
            Mode::Broadcast => words.push(b"BCAST"),
        }
        // Every key has the empty one, and a node takes none that overlap.
        if !self.prefixes.iter().any(Vec::is_empty) {
            for prefix in &self.prefixes {
                words.extend([b"PREFIX".as_slice(), prefix]);
            }
        }
        if self.no_loop {
            words.push(b"NOLOOP");
        }
        write::command(out, &words);
    }
}

/// Something that a client is to be told.
#[derive(Debug)]
pub enum Notice {
    /// Of keys that it tracks: an array of them, or a null for all, as RESP3 has it.
    Own(Box<[u8]>),
    /// The same, of keys that another client tracks.
    Redirected(Box<[u8]>),
}

impl Notice {
    /// What it says.
    #[must_use]
    pub fn keys(&self) -> &[u8] {
        let (Self::Own(keys) | Self::Redirected(keys)) = self;
        keys
    }
}

/// What a client is to be told, and where its connections are.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Its number among the clients of the worker that track keys, which is where its links are; `None` if it tracks none.
    pub place: Option<u32>,
    /// What waits until the replies are given that it may concern: those that came before it, or the one that is being passed on.
    pub held: VecDeque<(Timestamp, Notice)>,
    /// Bytes of that.
    pub held_bytes: usize,
    /// It is to forget all that it has read.
    pub flush: bool,
    /// The same, behind the replies to all requests that had come by then.
    pub flush_behind: Option<Timestamp>,
    /// A connection was lost or is not the right one any more: in [`Mode::Broadcast`] what happened before the next one is missed.
    pub has_gaps: bool,
    /// How often it counts among what calls for the slow path of the session.
    pub disturbances: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(tracking: &Tracking, receiver: Option<i64>) -> String {
        let mut out = Vec::new();
        tracking.write_command(receiver, &mut out);
        let text = String::from_utf8(out).unwrap();
        let words = text.split("\r\n").skip(2).step_by(2);
        words.collect::<Vec<&str>>().join(" ")
    }

    #[test]
    fn a_node_is_asked_for_the_same_n2() {
        let mut tracking = Tracking {
            redirect: Some(7),
            ..Tracking::default()
        };
        assert_eq!(asked(&tracking, None), "CLIENT TRACKING ON");
        tracking.mode = Mode::OptIn;
        tracking.no_loop = true;
        let expected = "CLIENT TRACKING ON REDIRECT 12 OPTIN NOLOOP";
        assert_eq!(asked(&tracking, Some(12)), expected);
        tracking.mode = Mode::Broadcast;
        tracking.prefixes = vec![b"a".to_vec(), b"b:".to_vec()];
        let expected = "CLIENT TRACKING ON BCAST PREFIX a PREFIX b: NOLOOP";
        assert_eq!(asked(&tracking, None), expected);
        tracking.prefixes = vec![b"a".to_vec(), Vec::new()];
        assert_eq!(asked(&tracking, None), "CLIENT TRACKING ON BCAST NOLOOP");
    }
}
