//! MULTI, EXEC and DISCARD [M1]-[M9].
//!
//! A transaction is put together here; no node hears of it before EXEC. Then MULTI, the commands and EXEC are one request for the
//! node of their slot, in one piece on a link that others use, too: contiguity on one connection is all that makes a transaction
//! atomic. An idle one costs no connection. [`unit`] sends it and reads the replies.
//!
//! [`unit`]: super::unit

use std::rc::Rc;

use super::request::{Launch, Shape};
use super::{Engine, SessionKey};
use crate::command::{CommandId, KeyList, Spec, id, write_arity_error};
use crate::local::{self, LocalOutcome, write_not_yet};
use crate::metrics::{CloseReason, Outcome};
use crate::resp::{Args, DecodeStep, RequestDecoder, RequestLimits, write};
use crate::router::{self, KeyHash, Plan, Reject};
use crate::session::transaction::{LocalCommand, Transaction};
use crate::slot::Slot;

/// A transaction is no bigger [M2].
const MOST_BYTES: usize = 16 << 20;
const MOST_COMMANDS: usize = 100_000;

/// Nor are there more commands in it that the proxy answers itself: all at once, and kept until the node has executed the others.
const MOST_LOCAL_COMMANDS: usize = 1_000;
const MOST_LOCAL_BYTES: usize = 64 << 10;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
const QUEUED: &[u8] = b"+QUEUED\r\n";

/// What becomes of a command of a transaction.
enum Place {
    /// It goes to the node, which of them is for the others to say.
    Anywhere,
    /// It goes to the node of this slot.
    At(Slot),
    /// The proxy answers it.
    Here,
    /// It is none that a transaction can have.
    Nowhere(Reject),
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
        if is_open && spec.id == id::EXEC && args.len() != 1 {
            self.drop_transaction(session);
            return self.misplaced(
                session,
                spec,
                "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
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
                self.count_immediate(spec, Outcome::Ok);
                self.answer_at_turn(session, b"+OK\r\n");
            }
            (id::UNWATCH, false) => {
                // Nothing is watched.
                self.count_immediate(spec, Outcome::Ok);
                self.answer_at_turn(session, b"+OK\r\n");
            }
            (id::EXEC, false) => self.misplaced(session, spec, "ERR EXEC without MULTI"),
            (id::DISCARD, false) => self.misplaced(session, spec, "ERR DISCARD without MULTI"),
            (id::MULTI, true) => {
                self.misplaced(session, spec, "ERR MULTI calls can not be nested");
            }
            (id::WATCH, true) => {
                self.misplaced(session, spec, "ERR WATCH inside MULTI is not allowed");
            }
            (id::RESET, true) => {
                self.drop_transaction(session);
                self.local(session, spec, args);
            }
            (id::QUIT, true) => self.local(session, spec, args),
            (_, true) => self.queue(session, spec, raw, args),
            (_, false) => self.refuse(session, spec, |out| write_not_yet(spec, out)),
        }
    }

    /// Refuses a command without harm to the transaction [M3].
    fn misplaced(&mut self, session: SessionKey, spec: &'static Spec, text: &str) {
        self.refuse(session, spec, |out| write::error(out, text.as_bytes()));
    }

    fn begin_transaction(&mut self, session: SessionKey, spec: &'static Spec) {
        self.sessions[session.index()].transaction = Some(Box::default());
        self.count_immediate(spec, Outcome::Ok);
        self.answer_at_turn(session, b"+OK\r\n");
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
            Place::Nowhere(reject) => {
                return self.refuse_queued(session, spec, |out| {
                    write_rejection(spec, reject, out);
                });
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
            Place::At(_) | Place::Anywhere => {
                if let Place::At(slot) = place {
                    transaction.slot = Some(slot);
                }
                transaction.commands.extend_from_slice(raw);
                transaction.bytes += raw.len();
                self.request_memory.pending += raw.len();
            }
        }
        transaction.count += 1;
        if !self.sessions[session.index()].large {
            self.note_large(session);
        }
        self.count_immediate(spec, Outcome::Ok);
        self.answer_at_turn(session, QUEUED);
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
        if is_about_the_connection(spec.id) || self.hides_cluster(session, spec) {
            return Place::Nowhere(Reject::NotSupported);
        }
        let mut keys: KeyList = std::mem::take(&mut self.keys);
        let plan = router::plan_queued(spec, args, &mut keys, self.limits.split_max_keys);
        keys.clear();
        self.keys = keys;
        let transaction = self.sessions[session.index()].transaction.as_ref();
        let expected = transaction.and_then(|transaction| transaction.slot);
        match plan {
            Plan::Single { slot, .. } if expected.is_none_or(|expected| expected == slot) => {
                Place::At(slot)
            }
            Plan::Single { .. } | Plan::Split | Plan::Reject(Reject::TooManyKeys) => {
                Place::Nowhere(Reject::CrossSlot)
            }
            Plan::Keyless { slot } if spec.name.starts_with("cluster|") => {
                if expected.is_none_or(|expected| expected == slot) {
                    Place::At(slot)
                } else {
                    Place::Nowhere(Reject::CrossSlot)
                }
            }
            Plan::AnyPrimary | Plan::Keyless { .. } => Place::Anywhere,
            Plan::Local => Place::Here,
            Plan::FanOut | Plan::Scan => Place::Nowhere(Reject::NotSupported),
            Plan::Reject(reject) => Place::Nowhere(reject),
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
        if transaction.broken {
            return self.refuse(session, spec, |out| {
                write::error(
                    out,
                    b"EXECABORT Transaction discarded because of previous errors.",
                );
            });
        }
        if transaction.commands.is_empty() {
            return self.exec_here(session, spec, &transaction);
        }
        let Transaction {
            mut commands,
            slot,
            local,
            ..
        } = *transaction;
        commands.splice(0..0, MULTI.iter().copied());
        commands.extend_from_slice(EXEC);
        let shape = Shape {
            spec,
            slot: slot.unwrap_or_else(|| self.any_slot(session)),
            key: KeyHash::ALL,
            keyed: slot.is_some(),
            barrier: true,
            launch: Launch::Unit,
            protocol: self.sessions[session.index()].client.protocol,
        };
        if commands.len() >= self.limits.big_bytes {
            self.note_size(session, commands.len());
        }
        let request = self.enqueue(session, shape, &commands);
        if !local.is_empty() {
            self.requests[request].local = Some(local.into());
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
            let outcome = local::answer(command.spec, args, &mut state.client, &*env, reply);
            if matches!(outcome, LocalOutcome::ReplyThenClose) {
                self.end_session(session, CloseReason::Quit);
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

fn write_rejection(spec: &Spec, reject: Reject, out: &mut Vec<u8>) {
    match reject {
        Reject::Arity => write_arity_error(spec, out),
        Reject::CrossSlot | Reject::TooManyKeys => {
            write::error(
                out,
                b"CROSSSLOT Keys in request don't hash to the same slot",
            );
        }
        Reject::InvalidSlot => write::error(out, b"ERR Invalid slot"),
        Reject::NotYet => write_not_yet(spec, out),
        Reject::NotSupported => {
            let text = format!(
                "ERR proxy: command '{}' is not allowed in a transaction",
                spec.name
            );
            write::error(out, text.as_bytes());
        }
    }
}
