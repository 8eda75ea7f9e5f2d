//! The task of one connection to a node: connects, reads, and waits for room when the node is slow. Requests are written by the
//! flush task.

use std::io::ErrorKind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use slotway_core::engine::{LinkKey, LinkLoss};
use slotway_core::topology::Address;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::flush;
use super::shared::{Io, PanicGuard, Shared, set_entry};

/// Idle time before the kernel asks whether the node is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Opens the connection and serves it until it ends.
pub(super) async fn run(shared: Rc<Shared>, key: LinkKey, address: Address) {
    let _guard = PanicGuard::new(&shared);
    let loss = match connect(&shared, &address).await {
        Ok(stream) => serve(&shared, key, stream).await,
        Err(error) => {
            tracing::debug!(node = %address, %error, "connection to node failed");
            LinkLoss::ConnectFailed
        }
    };
    tracing::debug!(node = %address, ?loss, "link ended");
    shared.forget_link(key);
    let mut engine = shared.engine.borrow_mut();
    engine.set_now(shared.now());
    engine.on_link_closed(key, loss);
    drop(engine);
    shared.want_flush();
}

async fn connect(shared: &Shared, address: &Address) -> std::io::Result<TcpStream> {
    let connecting = TcpStream::connect((&*address.host, address.port));
    let stream = tokio::time::timeout(shared.connect_timeout, connecting).await??;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 3),
    )?;
    // The engine notices sooner that a node has vanished; a busy one that takes no bytes for a while must not be cut off earlier.
    socket.set_tcp_user_timeout(Some(shared.busy_timeout))?;
    Ok(stream)
}

async fn serve(shared: &Rc<Shared>, key: LinkKey, stream: TcpStream) -> LinkLoss {
    let (mut read, write) = stream.into_split();
    set_entry(&shared.links, key.index(), Io::new(write));
    {
        let mut engine = shared.engine.borrow_mut();
        engine.set_now(shared.now());
        engine.on_link_connected(key);
    }
    shared.want_flush();
    std::future::poll_fn(|cx| poll(shared, key, &mut read, cx)).await
}

fn poll(
    shared: &Shared,
    key: LinkKey,
    read: &mut OwnedReadHalf,
    cx: &mut Context<'_>,
) -> Poll<LinkLoss> {
    loop {
        if poll_room(shared, key, cx) {
            return Poll::Ready(LinkLoss::Closed);
        }
        if !shared.engine.borrow().wants_link_input(key) {
            // The flush task wakes this one when a client has caught up.
            return Poll::Pending;
        }
        let mut scratch = shared.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        match ready!(Pin::new(&mut *read).poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => return Poll::Ready(end_of(shared, key)),
            Ok(()) => {}
            Err(error) if is_closed(&error) => return Poll::Ready(LinkLoss::Closed),
            Err(_) => return Poll::Ready(LinkLoss::Silent),
        }
        let full = buffer.remaining() == 0;
        let mut engine = shared.engine.borrow_mut();
        engine.set_now(shared.now());
        engine.on_link_read(key, buffer.filled());
        drop(engine);
        shared.want_flush();
        if full {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
    }
}

/// Whether a fault of the socket comes from the other end, which has closed the connection: it executes nothing more of it. One that
/// cannot be reached may [D9].
pub(super) fn is_closed(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// Why there is nothing more to read. A fault is told once, and may have been told to the one who wrote.
fn end_of(shared: &Shared, key: LinkKey) -> LinkLoss {
    let links = shared.links.borrow();
    let io = links.get(key.index()).and_then(Option::as_ref);
    if io.is_some_and(|io| io.unreachable) {
        LinkLoss::Silent
    } else {
        LinkLoss::Closed
    }
}

/// Writes what could not be written before, if there is room now. True if the connection must end.
fn poll_room(shared: &Shared, key: LinkKey, cx: &mut Context<'_>) -> bool {
    let mut links = shared.links.borrow_mut();
    let Some(io) = links.get_mut(key.index()).and_then(Option::as_mut) else {
        return true;
    };
    io.register(cx.waker());
    // After a failed write there is nothing to wait for but the end of what the node sent before: replies it gave must not be
    // lost, or their requests would count as uncertain.
    if io.blocked && !io.broken {
        match io.write.as_ref().poll_write_ready(cx) {
            Poll::Ready(Ok(())) => {
                io.blocked = false;
                flush::write_link(&mut shared.engine.borrow_mut(), key, io);
            }
            Poll::Ready(Err(_)) => io.broken = true,
            Poll::Pending => {}
        }
    }
    io.stop.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_cannot_be_reached_has_not_closed_the_connection_d9() {
        for (kind, expected) in [
            (ErrorKind::ConnectionReset, true),
            (ErrorKind::BrokenPipe, true),
            (ErrorKind::TimedOut, false),
            (ErrorKind::HostUnreachable, false),
            (ErrorKind::NetworkUnreachable, false),
        ] {
            assert_eq!(is_closed(&kind.into()), expected, "{kind}");
        }
    }
}
