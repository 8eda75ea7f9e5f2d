//! MONITOR: clients that see the requests of all clients of the process, in the servers' form [U15].
//!
//! A line is written when its command is taken, those of a transaction at its EXEC, and given to the clients of this worker and of the
//! others behind the replies that are there. Nobody waits for one that does not read its lines: it is disconnected.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::input::HandOver;
use super::request::Launch;
use super::{Engine, RequestKey, SessionKey};
use crate::command::{Class, Flags, Lookup, Spec, id, lookup};
use crate::metrics::Outcome;
use crate::monitor::{Origin, write_line};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};

/// Lines that are given on at the latest when they take so much: a read may be all of short commands.
const MANY_BYTES: usize = 256 << 10;

const MONITOR: &[u8] = b"*1\r\n$7\r\nMONITOR\r\n";

/// Who monitors, and what they are to be shown.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// Somebody does, of this worker or another one.
    pub(super) on: bool,
    /// Those of this worker.
    sessions: BTreeSet<SessionKey>,
    /// What nobody was shown yet.
    lines: Vec<u8>,
}

impl Engine {
    /// Says whether any client of the process monitors.
    pub fn set_monitored(&mut self, on: bool) {
        self.monitor.on = on;
        self.note_inspection();
    }

    /// Shows lines to the clients that monitor. One that has too many of them unread is disconnected.
    pub fn show_monitor_lines(&mut self, lines: &[u8]) {
        let keys: Vec<SessionKey> = self.monitor.sessions.iter().copied().collect();
        for key in keys {
            self.hand_push(key, lines);
        }
    }

    /// Disconnects those that monitor: lines were lost.
    pub fn disconnect_monitors(&mut self) {
        for key in self.monitor.sessions.clone() {
            self.disconnect_behind(key);
        }
    }

    /// Whether the client monitors: it waits for others to do something.
    #[must_use]
    pub fn is_monitor(&self, key: SessionKey) -> bool {
        self.monitor.sessions.contains(&key)
    }

    /// MONITOR: acknowledged at its turn, for nothing may come before the replies to what is before it.
    #[cold]
    pub(super) fn ask_for_monitoring(&mut self, key: SessionKey, spec: &'static Spec) {
        // Servers do not answer it again.
        if !self.is_monitor(key) {
            self.whole(key, spec, MONITOR, Launch::AtTurn);
        }
    }

    /// The turn of MONITOR has come.
    pub(super) fn begin_monitoring(&mut self, request: RequestKey, key: SessionKey) {
        self.complete(request, b"+OK\r\n", Outcome::Ok, false);
        self.monitor.sessions.insert(key);
        let was_inspected = self.inspects;
        self.announce_monitor(key, true);
        if self.inspects && !was_inspected && self.hand_over == HandOver::None {
            self.hand_over = HandOver::Interrupted;
        }
    }

    /// The session monitors no longer, if it did.
    pub(super) fn end_monitoring(&mut self, key: SessionKey) {
        if self.monitor.sessions.remove(&key) {
            self.announce_monitor(key, false);
        }
    }

    fn announce_monitor(&mut self, key: SessionKey, on: bool) {
        let session = &self.sessions[key.index()];
        let env = Rc::clone(&session.env);
        env.client_monitors(session.client.id, on, self.monitor.sessions.len());
        self.set_monitored(env.is_monitored());
    }

    /// Refuses what a client that monitors may not do, as servers do; for them it is a kind of replica.
    pub(super) fn refuses_monitor(&mut self, key: SessionKey, spec: &'static Spec) -> bool {
        let is_of_keys = spec.is_held_by_write_pause() || spec.flags.contains(Flags::READONLY);
        let is_refused = is_of_keys && self.is_monitor(key);
        if is_refused {
            self.refuse(key, spec, |out| {
                write::error(out, b"ERR Replica can't interact with the keyspace");
            });
        }
        is_refused
    }

    /// Writes the line of a command that is taken now. Of a transaction nothing is shown before EXEC.
    pub(super) fn note_monitor_lines(&mut self, key: SessionKey, spec: &Spec, args: Args<'_>) {
        let state = &self.sessions[key.index()];
        let is_queued = match &state.transaction {
            Some(_) => !matches!(spec.id, id::EXEC | id::DISCARD | id::RESET | id::QUIT),
            None => false,
        };
        if is_queued {
            return;
        }
        let mut lines = std::mem::take(&mut self.monitor.lines);
        let mut origin = Origin {
            unix_micros: state.env.unix_micros(),
            client: state.client.remote,
            database: state.client.database,
        };
        let is_broken = state.transaction.as_ref().is_some_and(|it| it.broken);
        if spec.id == id::EXEC && !is_broken {
            self.for_each_queued(key, |spec, args| {
                note(&mut lines, origin, spec, args);
                if spec.id == id::SELECT {
                    origin.database = database(args).unwrap_or(origin.database);
                }
            });
        }
        note(&mut lines, origin, spec, args);
        self.monitor.lines = lines;
        if self.monitor.lines.len() >= MANY_BYTES {
            self.spread_monitor_lines(key);
        }
    }

    /// Gives the lines to all that monitor.
    pub(super) fn spread_monitor_lines(&mut self, key: SessionKey) {
        if self.monitor.lines.is_empty() {
            return;
        }
        let mut lines = std::mem::take(&mut self.monitor.lines);
        if let Some(session) = self.sessions.get(key.index()) {
            session.env.monitor_lines(&lines);
        }
        self.show_monitor_lines(&lines);
        lines.clear();
        if lines.capacity() <= 2 * MANY_BYTES {
            self.monitor.lines = lines;
        }
    }

    /// Visits the commands of the transaction that the session is putting together, in order.
    pub(super) fn for_each_queued(&self, key: SessionKey, mut visit: impl FnMut(&Spec, Args<'_>)) {
        let Some(transaction) = &self.sessions[key.index()].transaction else {
            return;
        };
        let mut local = transaction.local.iter().peekable();
        let mut rest = transaction.commands.as_slice();
        for position in 0..transaction.count {
            if let Some(command) = local.next_if(|it| it.position == position) {
                visit_first(&command.request, &mut visit);
            } else {
                let len = visit_first(rest, &mut visit);
                rest = rest.get(len..).unwrap_or_default();
            }
        }
    }
}

/// Visits the command at the front of `raw`; its length.
fn visit_first(raw: &[u8], visit: &mut impl FnMut(&Spec, Args<'_>)) -> usize {
    let mut decoder = RequestDecoder::default();
    let Ok(DecodeStep::Command { len }) = decoder.decode(raw, &RequestLimits::DEFAULT) else {
        return raw.len();
    };
    let args = Args::new(raw.get(..len).unwrap_or_default(), decoder.ranges());
    if let Lookup::Known(spec) = lookup(args) {
        visit(spec, args);
    }
    len
}

/// Where SELECT leads to.
fn database(args: Args<'_>) -> Option<u16> {
    std::str::from_utf8(args.get(1)?).ok()?.parse().ok()
}

/// Writes the line of a command, if it is one that is shown.
fn note(lines: &mut Vec<u8>, origin: Origin, spec: &Spec, args: Args<'_>) {
    if !spec.flags.contains(Flags::ADMIN) && spec.class != Class::Forbidden {
        write_line(lines, origin, spec, args);
    }
}
