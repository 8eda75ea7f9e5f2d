//! Names that are not in the command table: commands the servers told of, and names that nobody knows [K14] [K15] [K18].

use std::rc::Rc;

use super::{Engine, SessionKey};
use crate::command::{
    Lookup, Spec, write_arity_error, write_unknown_command, write_unknown_subcommand,
};
use crate::resp::{Args, write};

use super::submit::NOAUTH;

impl Engine {
    /// The learned command that a request names. What no server is known to have is refused here as a server does, and the servers
    /// are asked again: a module may have been loaded since. `found` is what the table says.
    #[cold]
    #[inline(never)]
    pub(super) fn learned(
        &mut self,
        session: SessionKey,
        args: Args<'_>,
        found: Lookup,
    ) -> Option<&'static Spec> {
        let state = &self.sessions[session.index()];
        let found = match found {
            Lookup::UnknownCommand if state.client.authenticated => {
                let env = Rc::clone(&state.env);
                match env.learned().lookup(args) {
                    Lookup::Known(spec) => return Some(spec),
                    found @ Lookup::MissingSubcommand(_) => found,
                    found @ (Lookup::UnknownCommand | Lookup::UnknownSubcommand(_)) => {
                        env.want_commands();
                        found
                    }
                }
            }
            found => found,
        };
        self.unknown(session, args, &found);
        None
    }

    fn unknown(&mut self, session: SessionKey, args: Args<'_>, lookup: &Lookup) {
        self.break_transaction(session);
        self.metrics.unknown_commands += 1;
        self.metrics.total.record(0);
        self.metrics.proxy.record(0);
        let mut reply = std::mem::take(&mut self.scratch);
        reply.clear();
        if !self.sessions[session.index()].client.authenticated {
            write::error(&mut reply, NOAUTH);
        } else {
            match lookup {
                Lookup::UnknownCommand | Lookup::Known(_) => {
                    write_unknown_command(args, &mut reply);
                }
                Lookup::UnknownSubcommand(_) => write_unknown_subcommand(args, &mut reply),
                Lookup::MissingSubcommand(spec) => write_arity_error(spec, &mut reply),
            }
        }
        self.answer_at_turn(session, &reply);
        self.keep_scratch(reply);
    }
}
