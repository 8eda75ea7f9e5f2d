//! The task of one client connection: reads, and waits for room when the client is slow. Replies are written by the flush task.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use slotway_core::command::CommandId;
use slotway_core::engine::SessionKey;
use slotway_core::metrics::CloseReason;
use slotway_core::time::Timestamp;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use super::flush;
use super::shared::Shared;

/// Bytes read from one client before the others have their turn.
const READ_QUANTUM: usize = 16 << 10;

/// Serves the client until its connection ends.
pub(super) async fn run(shared: Rc<Shared>, key: SessionKey, mut read: OwnedReadHalf) {
    let reason = std::future::poll_fn(|cx| poll(&shared, key, &mut read, cx)).await;
    shared.forget_client(key, reason);
}

/// Ready with the reason when the connection has ended or must end.
fn poll(
    shared: &Shared,
    key: SessionKey,
    read: &mut OwnedReadHalf,
    cx: &mut Context<'_>,
) -> Poll<CloseReason> {
    loop {
        if let Some(reason) = poll_room(shared, key, cx) {
            return Poll::Ready(reason);
        }
        if let Some(reason) = shared.engine.borrow().must_close(key) {
            return Poll::Ready(reason);
        }
        if !shared.engine.borrow().wants_input(key) {
            // The flush task wakes this one when there is room again.
            pause(shared, key);
            return Poll::Pending;
        }
        let mut scratch = shared.scratch.borrow_mut();
        let quantum = scratch.len().min(READ_QUANTUM);
        let mut buffer = ReadBuf::new(&mut scratch[..quantum]);
        match ready!(Pin::new(&mut *read).poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => return Poll::Ready(CloseReason::Client),
            Ok(()) => {}
            Err(_) => return Poll::Ready(CloseReason::Error),
        }
        let full = buffer.remaining() == 0;
        let now = shared.now();
        let mut engine = shared.engine.borrow_mut();
        engine.set_now(now);
        engine.on_client(key, buffer.filled());
        let command = engine.session(key).and_then(|session| session.last_command);
        drop(engine);
        note_activity(shared, key, now, command);
        shared.want_flush();
        if full {
            // More is waiting, but the others come first.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
    }
}

/// Writes what could not be written before, if there is room now. The reason if the connection must end.
fn poll_room(shared: &Shared, key: SessionKey, cx: &mut Context<'_>) -> Option<CloseReason> {
    let mut clients = shared.clients.borrow_mut();
    let client = clients.get_mut(key.index()).and_then(Option::as_mut)?;
    client.io.register(cx.waker());
    if client.io.stop.is_some() {
        return client.io.stop;
    }
    if client.io.blocked {
        match client.io.write.as_ref().poll_write_ready(cx) {
            Poll::Ready(Ok(())) => {
                client.io.blocked = false;
                flush::write_session(&mut shared.engine.borrow_mut(), key, &mut client.io);
            }
            Poll::Ready(Err(_)) => return Some(CloseReason::Error),
            Poll::Pending => {}
        }
    }
    client.io.stop
}

fn pause(shared: &Shared, key: SessionKey) {
    if let Some(client) = shared
        .clients
        .borrow_mut()
        .get_mut(key.index())
        .and_then(Option::as_mut)
    {
        client.io.paused = true;
    }
}

fn note_activity(shared: &Shared, key: SessionKey, now: Timestamp, command: Option<CommandId>) {
    if let Some(client) = shared
        .clients
        .borrow()
        .get(key.index())
        .and_then(Option::as_ref)
    {
        client.entry.touch(now);
        if let Some(command) = command {
            client.entry.note_command(command);
        }
    }
}
