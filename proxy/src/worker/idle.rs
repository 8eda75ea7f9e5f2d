//! Ends connections of clients that do nothing: those that are idle, and those that let their replies lie.
//!
//! Nothing is noted per request. Every second some clients are looked at, in turn: a client is quiet if it has no request
//! outstanding and has done nothing since it was last looked at. It is never closed early: the time counts from the first look that
//! found it quiet, by which its last reply is written. It may be closed late, by two turns.

use std::rc::Rc;
use std::time::Duration;

use slotway_core::engine::{Engine, SessionKey};
use slotway_core::metrics::CloseReason;
use slotway_core::time::Timestamp;

use super::shared::{Client, PanicGuard, Shared};

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Clients looked at each time: a worker with more needs several seconds for a turn, and is not held up meanwhile.
const LOOKS: usize = 16_384;

/// Runs as long as the worker.
pub(super) async fn run(shared: Rc<Shared>) {
    let _guard = PanicGuard::new(&shared);
    let mut limits = shared.live_limits();
    let mut position = 0;
    loop {
        tokio::time::sleep(PERIOD).await;
        let known = std::mem::replace(&mut limits, shared.live_limits());
        if known.output != limits.output {
            shared.engine.borrow_mut().set_output_limits(limits.output);
        }
        position = look(&shared, position, limits.idle_timeout);
    }
}

/// Looks at the clients from table position `first` on; where to go on.
pub(super) fn look(shared: &Shared, first: usize, idle_timeout: Duration) -> usize {
    let now = shared.now();
    let mut engine = shared.engine.borrow_mut();
    engine.set_now(now);
    let mut clients = shared.clients.borrow_mut();
    let count = clients.len();
    for (index, client) in clients.iter_mut().enumerate().skip(first).take(LOOKS) {
        let Some(client) = client else { continue };
        let key = SessionKey::from_index(index);
        engine.watch_output(key);
        if idle_timeout > Duration::ZERO && quiet_for(&engine, key, client, now) >= idle_timeout {
            client.io.stop.get_or_insert(CloseReason::Idle);
        }
        if client.io.stop.is_some() || engine.must_close(key).is_some() {
            client.io.wake();
        }
    }
    if count > first + LOOKS {
        first + LOOKS
    } else {
        0
    }
}

/// How long the client has certainly done nothing.
fn quiet_for(engine: &Engine, key: SessionKey, client: &mut Client, now: Timestamp) -> Duration {
    let is_owed = engine
        .session(key)
        .is_some_and(|session| !session.queue.is_empty());
    // One that waits for messages does nothing, as it should; servers let it be, too.
    let waits = engine
        .session(key)
        .is_some_and(|session| session.subscriber.is_some());
    let waits = waits || engine.is_monitor(key) || engine.paused_until().is_some();
    // It may have sent what is not read.
    if waits || is_owed || engine.holds_back(key) {
        client.quiet_since = None;
        return Duration::ZERO;
    }
    let since = match client.quiet_since {
        Some(since) if since > client.entry.last_active() => since,
        _ => now,
    };
    client.quiet_since = Some(since);
    now.since(since)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, sleep};

    use super::super::tests::{Stage, run_test, until};
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(20);

    fn closed(stage: &Stage, reason: CloseReason) -> u64 {
        stage.shared.engine.borrow().metrics().closed[reason.index()]
    }

    #[test]
    fn a_quiet_client_is_closed_and_not_before_its_time() {
        run_test(async {
            let stage = Stage::new(|_| {}).await;
            let mut client = stage.client().await;
            let start = Instant::now();
            until("it is closed", || {
                look(&stage.shared, 0, TIMEOUT);
                closed(&stage, CloseReason::Idle) == 1
            })
            .await;
            assert!(start.elapsed() >= TIMEOUT);
            assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0);
            stage.nobody_left().await;
        });
    }

    #[test]
    fn without_a_timeout_nobody_is_idle() {
        run_test(async {
            let stage = Stage::new(|_| {}).await;
            let _client = stage.client().await;
            for _ in 0..50 {
                sleep(Duration::from_millis(1)).await;
                look(&stage.shared, 0, Duration::ZERO);
            }
            assert_eq!(stage.handle.connections(), 1);
        });
    }

    #[test]
    fn a_client_that_waits_for_a_node_is_not_idle_and_has_all_its_time_after_the_answer() {
        run_test(async {
            let stage = Stage::new(|_| {}).await;
            let mut client = stage.client().await;
            client.write_all(b"GET k\r\n").await.unwrap();
            let mut link = stage.link().await;
            assert_eq!(link.request().await, "GET k");
            let start = Instant::now();
            while start.elapsed() < TIMEOUT * 5 {
                sleep(Duration::from_millis(1)).await;
                look(&stage.shared, 0, TIMEOUT);
            }
            link.send(b"$-1\r\n").await;
            let mut reply = [0; 5];
            client.read_exact(&mut reply).await.unwrap();
            let answered = Instant::now();
            until("it is closed", || {
                look(&stage.shared, 0, TIMEOUT);
                closed(&stage, CloseReason::Idle) == 1
            })
            .await;
            // The worker had written the answer a little before it was here.
            assert!(answered.elapsed() >= TIMEOUT - Duration::from_millis(5));
        });
    }

    #[test]
    fn a_long_table_is_looked_at_in_parts() {
        run_test(async {
            let stage = Stage::new(|_| {}).await;
            let _client = stage.client().await;
            until("the client is served", || {
                stage.shared.clients.borrow().len() == 1
            })
            .await;
            let far = 2 * LOOKS + 5;
            stage.shared.clients.borrow_mut().resize_with(far, || None);
            let second = look(&stage.shared, 0, TIMEOUT);
            let third = look(&stage.shared, second, TIMEOUT);
            assert_eq!((second, third), (LOOKS, 2 * LOOKS));
            assert_eq!(look(&stage.shared, third, TIMEOUT), 0);
        });
    }
}
