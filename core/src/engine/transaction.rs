//! MULTI, EXEC and DISCARD [M1]-[M9]; what WATCH adds is in [`watch`].
//!
//! A transaction is put together here; no node hears of it before EXEC. Then MULTI, the commands and EXEC are one request for the
//! node of their slot, in one piece on a link that others use, too: contiguity on one connection is all that makes a transaction
//! atomic. An idle one costs no connection. [`unit`] sends it and reads the replies.
//!
//! [`unit`]: super::unit
//! [`watch`]: super::watch

use std::rc::Rc;

use super::request::{AfterExec, Extra, Launch, Shape};
use super::{Engine, SessionKey};
use crate::command::{CommandId, KeyList, Spec, id, write_arity_error};
use crate::local::{self, LocalOutcome};
use crate::metrics::{CloseReason, Outcome};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};
use crate::router::{self, KeyHash, Plan, Reject};
use crate::session::transaction::{LocalCommand, Selected, Transaction};
use crate::slot::Slot;

/// A transaction is no bigger [M2].
const MOST_BYTES: usize = 16 << 20;
const MOST_COMMANDS: usize = 100_000;

/// Nor are there more commands in it that the proxy answers itself: all at once, and kept until the node has executed the others.
const MOST_LOCAL_COMMANDS: usize = 1_000;
const MOST_LOCAL_BYTES: usize = 64 << 10;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
const OK: &[u8] = b"+OK\r\n";
const BROKEN: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
const QUEUED: &[u8] = b"+QUEUED\r\n";

/// What becomes of a command of a transaction.
enum Place {
    /// It goes to the node, which of them is for the others to say.
    Anywhere,
    /// It goes to the node of this slot.
    At(Slot),
    /// As `Anywhere`; what is behind it is in this database.
    Selects(u16),
    /// The proxy answers it.
    Here,
    /// A transaction cannot have it.
    Nowhere,
    /// Nothing would come of it outside of one either, or it is for another slot.
    Rejected(Reject),
}

impl Engine {
    /// A command of a client that is in a transaction, or one of those that are about transactions.
    pub(super) fn transact(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        raw: &[u8],
        args: Args<'_>,
    ) {
        let is_open = self.sessions[session.index()].transaction.is_some();
        if spec.id == id::EXEC && args.len() != 1 {
            self.drop_transaction(session);
            return self.discard(
                session,
                spec,
                b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n",
            );
        }
        if !spec.arity_ok(args.len()) {
            return self.refuse_queued(session, spec, |out| write_arity_error(spec, out));
        }
        match (spec.id, is_open) {
            (id::MULTI, false) => self.begin_transaction(session, spec),
            (id::EXEC, true) => self.exec(session, spec),
            (id::DISCARD, true) => {
                self.drop_transaction(session);
                self.discard(session, spec, OK);
            }
            (id::WATCH, false) => self.watch(session, spec, raw, args),
            (id::UNWATCH, false) => self.discard(session, spec, OK),
            (id::EXEC, false) => self.misplaced(session, spec, "ERR EXEC without MULTI"),
            (id::DISCARD, false) => self.misplaced(session, spec, "ERR DISCARD without MULTI"),
            (id::MULTI, true) => {
                self.misplaced(session, spec, "ERR MULTI calls can not be nested");
            }
            (id::WATCH, true) => {
                self.misplaced(session, spec, "ERR WATCH inside MULTI is not allowed");
            }
            (id::RESET | id::QUIT, true) => self.local(session, spec, args),
            // Outside of a transaction the commands above are all that come here.
            _ => self.queue(session, spec, raw, args),
        }
    }

    /// Refuses a command without harm to the transaction [M3].
    fn misplaced(&mut self, session: SessionKey, spec: &'static Spec, text: &str) {
        self.refuse(session, spec, |out| write::error(out, text.as_bytes()));
    }

    fn begin_transaction(&mut self, session: SessionKey, spec: &'static Spec) {
        let transaction = Transaction {
            slot: self.watched_slot(session),
            ..Transaction::default()
        };
        self.sessions[session.index()].transaction = Some(Box::new(transaction));
        self.acknowledge(session, spec, OK);
    }

    /// Answers a command after which no key is watched.
    pub(super) fn discard(&mut self, session: SessionKey, spec: &'static Spec, reply: &[u8]) {
        if self.sessions[session.index()].client.tracking.is_some() {
            self.end_caching(session, spec);
        }
        if self.watched_slot(session).is_some() {
            self.unwatch(session, spec, reply);
        } else {
            let is_error = reply.first() == Some(&b'-');
            let outcome = if is_error {
                Outcome::Refused
            } else {
                Outcome::Ok
            };
            self.count_immediate(spec, outcome);
            self.answer_at_turn(session, reply);
        }
    }

    fn acknowledge(&mut self, session: SessionKey, spec: &'static Spec, reply: &[u8]) {
        self.count_immediate(spec, Outcome::Ok);
        self.answer_at_turn(session, reply);
    }

    /// Ends the transaction of `session`, if it has one; nothing of it has been executed.
    pub(super) fn drop_transaction(&mut self, session: SessionKey) -> Option<Box<Transaction>> {
        let transaction = self.sessions[session.index()].transaction.take()?;
        self.request_memory.pending -= transaction.bytes;
        self.note_large(session);
        Some(transaction)
    }

    /// Adds a command, or refuses it and with it the transaction [M2].
    fn queue(&mut self, session: SessionKey, spec: &'static Spec, raw: &[u8], args: Args<'_>) {
        let place = self.place_in_transaction(session, spec, args);
        let Some(transaction) = &mut self.sessions[session.index()].transaction else {
            return;
        };
        let is_full = transaction.bytes + raw.len() > MOST_BYTES
            || transaction.count >= MOST_COMMANDS
            || (matches!(place, Place::Here) && has_much_to_answer(transaction, raw));
        match place {
            Place::Rejected(reject) => {
                self.break_transaction(session);
                return self.reject(session, spec, reject, args);
            }
            Place::Nowhere => {
                let text = format!(
                    "ERR proxy: command '{}' is not allowed in a transaction",
                    spec.name
                );
                return self.refuse_queued(session, spec, |out| write::error(out, text.as_bytes()));
            }
            _ if is_full => {
                return self.refuse_queued(session, spec, |out| {
                    write::error(out, b"ERR proxy: transaction queue too large");
                });
            }
            // EXEC will say so, whatever else comes.
            _ if transaction.broken => {}
            Place::Here => {
                transaction.local.push(LocalCommand {
                    position: transaction.count,
                    spec,
                    request: raw.into(),
                });
                transaction.bytes += raw.len();
                self.request_memory.pending += raw.len();
            }
            Place::At(_) | Place::Anywhere | Place::Selects(_) => {
                if let Place::At(slot) = place {
                    transaction.slot = Some(slot);
                }
                if let Place::Selects(database) = place {
                    let position = transaction.sent;
                    transaction.selects.push(Selected { position, database });
                }
                transaction.sent += 1;
                transaction.commands.extend_from_slice(raw);
                transaction.bytes += raw.len();
                self.request_memory.pending += raw.len();
            }
        }
        transaction.count += 1;
        self.note_script(spec, args);
        self.note_script_command(spec, raw);
        if !self.sessions[session.index()].large {
            self.note_large(session);
        }
        self.acknowledge(session, spec, QUEUED);
    }

    fn place_in_transaction(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        args: Args<'_>,
    ) -> Place {
        if spec.id == id::UNWATCH {
            return Place::Anywhere;
        }
        let tracks = matches!(spec.id, id::CLIENT_TRACKING | id::CLIENT_CACHING)
            && self.sessions[session.index()].env.listener().tracking;
        if tracks || is_about_the_connection(spec.id) || self.hides_cluster(session, spec) {
            return Place::Nowhere;
        }
        let mut keys: KeyList = std::mem::take(&mut self.keys);
        let plan = router::plan_queued(spec, args, &mut keys, &self.keyspace);
        keys.clear();
        self.keys = keys;
        let transaction = self.sessions[session.index()].transaction.as_ref();
        let expected = transaction.and_then(|transaction| transaction.slot);
        let undivided = self.keyspace.undivided;
        let at = |slot| match expected {
            // That of the first key stands for those of all.
            Some(expected) if undivided => Place::At(expected),
            Some(expected) if expected != slot => Place::Rejected(Reject::CrossSlot),
            _ => Place::At(slot),
        };
        match plan {
            Plan::Single { slot, .. }
            | Plan::Script { slot, .. }
            | Plan::Blocking { slot: Some(slot) } => at(slot),
            // Of a slot by number, which only its owner knows about; where messages are published is all one.
            Plan::Keyless { .. } if self.lacks_slots(spec) => Place::Rejected(Reject::NotSupported),
            Plan::Keyless { slot } if spec.name.starts_with("cluster|") => at(slot),
            Plan::Split | Plan::Reject(Reject::TooManyKeys) => Place::Rejected(Reject::CrossSlot),
            Plan::AnyPrimary | Plan::Keyless { .. } | Plan::Blocking { slot: None } => {
                Place::Anywhere
            }
            Plan::Local if spec.id == id::SELECT => self
                .selected(session, args)
                .map_or(Place::Here, Place::Selects),
            Plan::Local => Place::Here,
            Plan::FanOut | Plan::Acks | Plan::Scan | Plan::FindKeys | Plan::Subscription => {
                Place::Nowhere
            }
            Plan::Reject(reject) => Place::Rejected(reject),
        }
    }

    /// Refuses a command; if it was one of a transaction, that is over for it.
    fn refuse_queued(
        &mut self,
        session: SessionKey,
        spec: &'static Spec,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.break_transaction(session);
        self.refuse(session, spec, write);
    }

    /// Has the next EXEC of `session`, if it is in a transaction, say that it was discarded.
    pub(super) fn break_transaction(&mut self, session: SessionKey) {
        let Some(transaction) = &mut self.sessions[session.index()].transaction else {
            return;
        };
        self.request_memory.pending -= transaction.bytes;
        **transaction = Transaction {
            broken: true,
            ..Transaction::default()
        };
        self.note_large(session);
    }

    fn exec(&mut self, session: SessionKey, spec: &'static Spec) {
        let Some(transaction) = self.drop_transaction(session) else {
            return;
        };
        let caching = self.caching_of_transaction(session);
        if transaction.broken {
            return self.discard(session, spec, BROKEN);
        }
        let watched = self.take_watched(session);
        if transaction.commands.is_empty() && !watched {
            return self.exec_here(session, spec, &transaction);
        }
        let Transaction {
            mut commands,
            slot,
            local,
            selects,
            ..
        } = *transaction;
        let is_private = watched || !selects.is_empty();
        let before = if is_private { b"" } else { caching };
        commands.splice(0..0, before.iter().chain(MULTI).copied());
        commands.extend_from_slice(EXEC);
        let shape = Shape {
            spec,
            slot: slot.unwrap_or_else(|| self.any_slot(session)),
            key: KeyHash::ALL,
            keyed: slot.is_some(),
            barrier: true,
            launch: match (watched, selects.is_empty()) {
                (true, _) => Launch::Watched,
                (false, true) => Launch::Unit,
                (false, false) => Launch::Apart,
            },
            protocol: self.sessions[session.index()].client.protocol,
            database: self.sessions[session.index()].client.database,
        };
        if commands.len() >= self.limits.big_bytes {
            self.note_size(session, commands.len());
        }
        let request = self.enqueue(session, shape, &commands);
        if is_private && !caching.is_empty() {
            self.flush_behind(session);
        } else if is_private {
            self.note_untracked(session);
        }
        if !local.is_empty() || !selects.is_empty() {
            let after = AfterExec { local, selects };
            self.requests[request].extra = Some(Box::new(Extra::Executed(after)));
        }
        self.start(session, request, Some(&commands));
    }

    /// EXEC of a transaction for which no node is needed [M4].
    fn exec_here(&mut self, session: SessionKey, spec: &'static Spec, transaction: &Transaction) {
        let mut reply = Vec::new();
        write::array(&mut reply, transaction.local.len());
        for command in &transaction.local {
            self.run_local(session, command, &mut reply);
            if reply.len() > self.limits.output_max_bytes {
                // More than its client may leave unread: it is disconnected.
                break;
            }
        }
        self.count_immediate(spec, Outcome::Ok);
        self.answer_at_turn(session, &reply);
    }

    /// Appends the reply of a command of a transaction that the proxy answers itself.
    pub(super) fn run_local(
        &mut self,
        session: SessionKey,
        command: &LocalCommand,
        reply: &mut Vec<u8>,
    ) {
        let mut decoder = RequestDecoder::default();
        let before = reply.len();
        if let Ok(DecodeStep::Command { .. }) =
            decoder.decode(&command.request, &RequestLimits::DEFAULT)
        {
            let args = Args::new(&command.request, decoder.ranges());
            let state = &mut self.sessions[session.index()];
            let env = Rc::clone(&state.env);
            let readonly = state.client.readonly;
            let outcome = local::answer(command.spec, args, &mut state.client, &*env, reply);
            if state.client.readonly != readonly {
                self.adopt_read_policy(session);
            }
            match outcome {
                LocalOutcome::ReplyThenClose => self.end_session(session, CloseReason::Quit),
                LocalOutcome::PauseChanged => self.adopt_pause(&*env),
                LocalOutcome::Monitor => {
                    write::error(reply, b"ERR MONITOR isn't allowed for DENY BLOCKING client");
                }
                LocalOutcome::Reply | LocalOutcome::ResetSession => {}
            }
        }
        debug_assert!(reply.len() > before, "each has a place in the array");
    }
}

/// Commands that change what the connection is: by the time of EXEC, what is outstanding was sent for the old one [M4].
fn is_about_the_connection(command: CommandId) -> bool {
    matches!(command, id::AUTH | id::HELLO | id::CLIENT_REPLY)
}

fn has_much_to_answer(transaction: &Transaction, raw: &[u8]) -> bool {
    let bytes = transaction.bytes - transaction.commands.len();
    transaction.local.len() >= MOST_LOCAL_COMMANDS || bytes + raw.len() > MOST_LOCAL_BYTES
}
