//! The passing of time for the engine: often while requests wait for a moment, seldom otherwise. No timer per request.

use std::rc::Rc;
use std::time::Duration;

use super::shared::{PanicGuard, Shared};

/// While requests wait for a node or a pause to end.
const FAST: Duration = Duration::from_millis(2);
/// While nodes owe replies.
const NORMAL: Duration = Duration::from_millis(50);
/// Otherwise.
const IDLE: Duration = Duration::from_millis(250);

/// The end of a pause of clients is looked for no more often.
const SOON: Duration = Duration::from_millis(1);

/// Runs as long as the worker.
pub(super) async fn run(shared: Rc<Shared>) {
    let _guard = PanicGuard::new(&shared);
    loop {
        let pause = {
            let mut engine = shared.engine.borrow_mut();
            engine.set_now(shared.now());
            engine.set_login_refused(shared.login_refused());
            engine.tick();
            let parked = engine.has_parked();
            shared.ticking_fast.set(parked);
            let period = match (parked, engine.needs_tick()) {
                (true, _) => FAST,
                (false, true) => NORMAL,
                (false, false) => IDLE,
            };
            match engine.paused_until() {
                Some(until) => period.min(until.since(shared.now()).max(SOON)),
                None => period,
            }
        };
        shared.want_flush();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.hurry.notified() => {}
        }
    }
}
