//! The task of one client connection: reads, and waits for room when the client is slow. Replies are written by the flush task.
//!
//! ```text
//!   reading <-> paused          the pipeline is full or replies are unread; a hang-up is still noticed [PK4] [B6]
//!      |          |
//!      +- ending -+-> forgotten -> lingering -> closed
//! ```

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use slotway_core::command::CommandId;
use slotway_core::engine::SessionKey;
use slotway_core::metrics::CloseReason;
use slotway_core::time::Timestamp;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use super::flush;
use super::shared::{PanicGuard, Shared};
use crate::places::Place;

/// How long a client that sends nothing more may wait for the replies it is owed, and how long one that is being closed may take
/// to stop sending.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// What reading has come to.
enum Turn {
    /// The connection ends.
    Ended(CloseReason),
    /// No more is to be read for now.
    Paused,
    /// The client sends nothing more, but is owed replies.
    HalfClosed,
}

/// Serves the client until its connection ends. Its place is taken until then.
pub(super) async fn run(
    shared: Rc<Shared>,
    key: SessionKey,
    mut read: OwnedReadHalf,
    place: Place,
) {
    let _guard = PanicGuard::new(&shared);
    let reason = serve(&shared, key, &mut read).await;
    // The writing half ends here, which tells the client that nothing more will come.
    let last_active = shared.forget_client(key, reason);
    if lingers(reason) {
        let was_active = shared.now().since(last_active.unwrap_or_default()) < GRACE;
        Box::pin(linger(&shared, &mut read, was_active)).await;
    }
    drop(read);
    drop(place);
    shared.release_connection();
}

async fn serve(shared: &Shared, key: SessionKey, read: &mut OwnedReadHalf) -> CloseReason {
    // What is rare is boxed: an idle connection should not hold room for it.
    loop {
        match std::future::poll_fn(|cx| poll(shared, key, read, cx)).await {
            Turn::Ended(reason) => return reason,
            Turn::HalfClosed => return Box::pin(finish(shared, key)).await,
            Turn::Paused => {
                if let Some(reason) = Box::pin(paused(shared, key, read)).await {
                    return reason;
                }
            }
        }
    }
}

/// Reads and takes requests until there is nothing to read; ready when that is over or has to stop.
fn poll(
    shared: &Shared,
    key: SessionKey,
    read: &mut OwnedReadHalf,
    cx: &mut Context<'_>,
) -> Poll<Turn> {
    loop {
        if let Some(reason) = poll_end(shared, key, cx) {
            return Poll::Ready(Turn::Ended(reason));
        }
        let engine = shared.engine.borrow();
        if !engine.wants_input(key) {
            return Poll::Ready(Turn::Paused);
        }
        let mut scratch = shared.scratch.borrow_mut();
        let quantum = scratch.len().min(engine.read_size(key));
        drop(engine);
        let mut buffer = ReadBuf::new(&mut scratch[..quantum]);
        match ready!(Pin::new(&mut *read).poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => return Poll::Ready(half_closed(shared, key)),
            Ok(()) => {}
            Err(_) => return Poll::Ready(Turn::Ended(CloseReason::Error)),
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
fn poll_end(shared: &Shared, key: SessionKey, cx: &mut Context<'_>) -> Option<CloseReason> {
    let mut clients = shared.clients.borrow_mut();
    let client = clients.get_mut(key.index()).and_then(Option::as_mut)?;
    client.io.register(cx.waker());
    if client.io.blocked && client.io.stop.is_none() {
        match client.io.write.as_ref().poll_write_ready(cx) {
            Poll::Ready(Ok(())) => {
                client.io.blocked = false;
                let mut engine = shared.engine.borrow_mut();
                flush::write_session(&mut engine, key, &mut client.io);
                engine.watch_output(key);
                // A client that reads, however slowly, is not idle.
                client.entry.touch(shared.now());
                shared.want_flush();
            }
            Poll::Ready(Err(_)) => return Some(CloseReason::Error),
            Poll::Pending => {}
        }
    }
    let killed = client.entry.is_killed().then_some(CloseReason::Killed);
    client
        .io
        .stop
        .or(killed)
        .or_else(|| shared.engine.borrow().must_close(key))
}

/// Waits until the client may be read again; the reason if its connection ends instead. It is not read meanwhile, so that only
/// the socket itself can tell of a hang-up. A client whose socket has an error is gone, and so is one that waits at a node, for which
/// something may be popped any moment. One that only sends nothing more has a while, for then it may still be read: what it sent
/// before its end is executed, as by a server.
async fn paused(shared: &Shared, key: SessionKey, read: &OwnedReadHalf) -> Option<CloseReason> {
    let hung_up = async {
        // On a stream, "priority" becomes ready by the peer's end alone: there is no urgent data in RESP.
        let ready = read.ready(Interest::PRIORITY | Interest::ERROR).await;
        if ready.is_ok_and(|ready| !ready.is_error()) && !is_gone_at_once(shared, key) {
            tokio::time::sleep(GRACE).await;
        }
    };
    tokio::select! {
        biased;
        reason = std::future::poll_fn(|cx| poll_paused(shared, key, cx)) => reason,
        () = hung_up => Some(CloseReason::Client),
    }
}

/// Notes that the client sends nothing more; whether it need not be waited for.
fn is_gone_at_once(shared: &Shared, key: SessionKey) -> bool {
    let mut engine = shared.engine.borrow_mut();
    engine.note_hang_up(key);
    engine.must_close(key).is_some()
}

fn poll_paused(
    shared: &Shared,
    key: SessionKey,
    cx: &mut Context<'_>,
) -> Poll<Option<CloseReason>> {
    if let Some(reason) = poll_end(shared, key, cx) {
        return Poll::Ready(Some(reason));
    }
    if shared.engine.borrow().wants_input(key) {
        return Poll::Ready(None);
    }
    if let Some(client) = shared
        .clients
        .borrow_mut()
        .get_mut(key.index())
        .and_then(Option::as_mut)
    {
        // The flush task wakes this one when there is room again.
        client.io.paused = true;
    }
    Poll::Pending
}

/// The client sends nothing more. A server writes the replies to the commands before the end, then closes, and so does the proxy:
/// `printf 'PING\r\n' | nc -N` expects one. What takes longer than a while is dropped [PK5].
fn half_closed(shared: &Shared, key: SessionKey) -> Turn {
    let mut engine = shared.engine.borrow_mut();
    engine.end_session(key, CloseReason::Client);
    match engine.must_close(key) {
        Some(reason) => Turn::Ended(reason),
        None => {
            shared.want_flush();
            Turn::HalfClosed
        }
    }
}

/// Waits until the replies of a client that sends nothing more are written, as long as it goes on reading them.
async fn finish(shared: &Shared, key: SessionKey) -> CloseReason {
    let mut left = outstanding(shared, key);
    loop {
        let written = std::future::poll_fn(|cx| match poll_end(shared, key, cx) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        });
        if let Ok(reason) = tokio::time::timeout(GRACE, written).await {
            return reason;
        }
        let before = std::mem::replace(&mut left, outstanding(shared, key));
        if left == before {
            return CloseReason::Client;
        }
    }
}

/// What a client is still owed: requests not taken, requests not answered, bytes not written.
fn outstanding(shared: &Shared, key: SessionKey) -> Option<(usize, usize, usize)> {
    let engine = shared.engine.borrow();
    let session = engine.session(key)?;
    Some((
        session.input_bytes(),
        session.queue.len(),
        session.out.len(),
    ))
}

/// Whether the client may be sending still when its connection is closed: it is we who end it.
const fn lingers(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Quit
            | CloseReason::Protocol
            | CloseReason::Shutdown
            | CloseReason::Uncertain
            | CloseReason::SubscriptionLost
    )
}

/// Reads on, and drops, until the client has seen the end: a socket closed with unread input, or that gets input afterwards, is
/// reset, and with it goes what the client has not received of its replies (RFC 9293, 3.10.4; RFC 2525, 2.17). Not if it has been
/// quiet: idle clients of pools do not look at their connections, and a shutdown would wait for them.
async fn linger(shared: &Shared, read: &mut OwnedReadHalf, was_active: bool) {
    let mut sending = was_active;
    let ended = std::future::poll_fn(|cx| {
        let mut scratch = shared.scratch.borrow_mut();
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *read).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => sending = true,
                Poll::Pending if sending => return Poll::Pending,
                Poll::Ready(_) | Poll::Pending => return Poll::Ready(()),
            }
            if buffer.remaining() == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    });
    // One that goes on sending for that long reads no replies either.
    let _ = tokio::time::timeout(GRACE, ended).await;
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
