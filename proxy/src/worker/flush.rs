//! The flush task: after everything that was ready has been read, one write per link and one per session that has bytes.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::Poll;

use slotway_core::engine::{Action, Engine, LinkKey, SessionKey};
use slotway_core::metrics::CloseReason;
use socket2::SockRef;

use super::link;
use super::shared::{Io, PanicGuard, Shared};

/// Bytes written to one connection before the others have their turn.
const WRITE_QUANTUM: usize = 256 << 10;

/// Runs as long as the worker.
pub(super) async fn run(shared: Rc<Shared>) {
    let _guard = PanicGuard::new(&shared);
    std::future::poll_fn(|cx| {
        while shared.take_flush(cx.waker()) {
            flush(&shared);
        }
        Poll::<()>::Pending
    })
    .await;
}

fn flush(shared: &Rc<Shared>) {
    let mut engine = shared.engine.borrow_mut();
    engine.set_now(shared.now());
    while let Some(action) = engine.next_action() {
        act(shared, action);
    }
    let mut links = shared.links.borrow_mut();
    // Nodes first: their work is on the way while clients are written to.
    while let Some(key) = engine.next_dirty_link() {
        if let Some(io) = links.get_mut(key.index()).and_then(Option::as_mut) {
            write_link(&mut engine, key, io);
        }
    }
    let mut clients = shared.clients.borrow_mut();
    while let Some(key) = engine.next_dirty_session() {
        if let Some(client) = clients.get_mut(key.index()).and_then(Option::as_mut) {
            write_session(&mut engine, key, &mut client.io);
            if engine.must_close(key).is_some() || (client.io.paused && engine.wants_input(key)) {
                client.io.paused = false;
                client.io.wake();
            }
        }
    }
    if engine.has_work() {
        // What was written made room for requests that had to wait.
        shared.want_flush();
    }
    if engine.has_parked() && !shared.ticking_fast.replace(true) {
        shared.hurry.notify_one();
    }
}

fn act(shared: &Rc<Shared>, action: Action) {
    match action {
        Action::Connect { link, address } => {
            tokio::task::spawn_local(link::run(Rc::clone(shared), link, address));
        }
        Action::CloseLink(key) => {
            if let Some(io) = shared
                .links
                .borrow_mut()
                .get_mut(key.index())
                .and_then(Option::as_mut)
            {
                // At once: the node is to know before anything that is written from here on makes it pop something for a client
                // that is gone [B7]. A connection that is closed already is closed.
                let _ = SockRef::from(io.write.as_ref()).shutdown(Shutdown::Write);
                io.stop = Some(CloseReason::Error);
                io.wake();
            }
        }
        Action::ResumeLink(key) => {
            if let Some(Some(io)) = shared.links.borrow().get(key.index()) {
                io.wake();
            }
        }
        Action::Hint(hint) => shared.hint(hint),
        Action::Script(news) => shared.scripts.tell(shared.worker, &news),
        Action::Drop { buffer, size } => {
            let shared = Rc::clone(shared);
            tokio::task::spawn_local(async move {
                shared.reaper.drop(buffer).await;
                shared.engine.borrow_mut().on_dropped(size);
            });
        }
    }
}

/// Writes what a link has to write, as far as the kernel takes it and others need not wait for it. A fault ends the link when the
/// reading task has read what came before it.
pub(super) fn write_link(engine: &mut Engine, key: LinkKey, io: &mut Io) {
    let mut left = WRITE_QUANTUM;
    while !io.blocked {
        let output = engine.link_output(key);
        if output.is_empty() {
            return;
        }
        if left == 0 {
            return go_on_later(io);
        }
        match io.write.try_write(&output[..output.len().min(left)]) {
            Ok(written) => {
                left -= written;
                engine.on_link_written(key, written);
            }
            Err(error) => return on_write_error(io, &error),
        }
    }
}

/// Writes the replies of a session, as far as the kernel takes them and others need not wait for it.
pub(super) fn write_session(engine: &mut Engine, key: SessionKey, io: &mut Io) {
    let mut left = WRITE_QUANTUM;
    while !io.blocked {
        let output = engine.session_output(key);
        if output.is_empty() {
            return;
        }
        if left == 0 {
            return go_on_later(io);
        }
        match io.write.try_write(&output[..output.len().min(left)]) {
            Ok(written) => {
                left -= written;
                engine.on_session_written(key, written);
            }
            Err(error) => {
                on_write_error(io, &error);
                if io.broken {
                    // A client that takes no replies needs none: it is not read to its end.
                    io.stop = Some(CloseReason::Error);
                }
            }
        }
    }
}

/// Has the connection's own task write the rest, after those that are ready now: the kernel may take a huge value as fast as it can
/// be copied.
fn go_on_later(io: &mut Io) {
    io.blocked = true;
    io.wake();
}

fn on_write_error(io: &mut Io, error: &std::io::Error) {
    io.blocked = true;
    io.broken = error.kind() != ErrorKind::WouldBlock;
    io.unreachable = io.broken && !link::is_closed(error);
    io.wake();
}
