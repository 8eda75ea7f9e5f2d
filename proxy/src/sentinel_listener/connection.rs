//! One client of the Sentinel: its requests are answered one after another; while it does not read, it is not read.

use std::future::Future;
use std::time::Duration;

use slotway_core::local::{LocalOutcome, SentinelClient, answer_as_sentinel};
use slotway_core::resp::{
    Args, DecodeStep, RequestDecoder, RequestError, RequestLimits, inline_to_resp,
};
use slotway_core::session::client_state::ClientState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Counted, Registered, Shared};
use crate::places::Place;

/// Nobody has much to ask a Sentinel.
const LIMITS: RequestLimits = RequestLimits {
    max_args: 1024,
    max_bulk_bytes: 16 << 10,
    max_inline_bytes: 16 << 10,
    max_request_bytes: 64 << 10,
    ..RequestLimits::DEFAULT
};
/// Read at a time, and answers that are written before the next request is taken.
const CHUNK_BYTES: usize = 16 << 10;
/// A client that takes nothing of its answers for this long is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the client until its connection ends. Its place is taken until then.
pub(super) async fn serve(stream: TcpStream, client: ClientState, counted: Counted, place: Place) {
    let shared = &*counted.0;
    let _registered = Registered::new(shared, &client, &stream);
    let remote = client.remote;
    let connection = Connection {
        shared,
        stream,
        client: SentinelClient::new(client),
        input: Vec::new(),
        output: Vec::new(),
    };
    if let Err(error) = connection.run().await {
        tracing::debug!(%error, client = %remote, "connection to the Sentinel lost");
    }
    drop(place);
}

struct Connection<'s> {
    shared: &'s Shared,
    stream: TcpStream,
    client: SentinelClient,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Connection<'_> {
    async fn run(mut self) -> std::io::Result<()> {
        let mut decoder = RequestDecoder::new();
        loop {
            let taken = self.take(&mut decoder);
            let is_over = matches!(taken, Taken::Last);
            if is_over || self.output.len() >= CHUNK_BYTES || matches!(taken, Taken::All) {
                within(WRITE_TIMEOUT, self.stream.write_all(&self.output)).await?;
                self.output.clear();
            }
            if is_over {
                return Ok(());
            }
            if matches!(taken, Taken::All) && !self.read().await? {
                return Ok(());
            }
        }
    }

    /// Takes one request, if there is a whole one.
    fn take(&mut self, decoder: &mut RequestDecoder) -> Taken {
        let limits = if self.client.state.authenticated {
            LIMITS
        } else {
            LIMITS.unauthenticated()
        };
        match decoder.decode(&self.input, &limits) {
            Ok(DecodeStep::Incomplete) => return Taken::All,
            Ok(DecodeStep::Skip { len }) => {
                self.input.drain(..len);
            }
            Ok(DecodeStep::Inline { line_len, len }) => {
                let mut request = Vec::new();
                let line = self.input.get(..line_len).unwrap_or_default();
                let words = inline_to_resp(line, &mut request);
                self.input.splice(..len, request);
                // What stands there now is taken as a request, the next time.
                if let Err(error) = words {
                    return self.fail(error);
                }
            }
            Ok(DecodeStep::Command { len }) => {
                let shared = self.shared;
                let outcome = answer_as_sentinel(
                    Args::new(&self.input, decoder.ranges()),
                    &mut self.client,
                    &shared.env,
                    &shared.services,
                    &mut self.output,
                );
                self.input.drain(..len);
                if outcome == LocalOutcome::ReplyThenClose {
                    return Taken::Last;
                }
            }
            Err(error) => return self.fail(error),
        }
        Taken::One
    }

    fn fail(&mut self, error: RequestError) -> Taken {
        error.write_reply(&mut self.output);
        Taken::Last
    }

    /// Reads more; false at the end, or when the client has been idle for too long. Who has subscribed may wait for ever.
    async fn read(&mut self) -> std::io::Result<bool> {
        let limit = self.shared.facts.limits().idle_timeout;
        let is_patient = limit.is_zero() || self.client.is_subscribed();
        let reading = self.read_some();
        if is_patient {
            return Ok(reading.await? > 0);
        }
        match timeout(limit, reading).await {
            Ok(read) => Ok(read? > 0),
            Err(_) => Ok(false),
        }
    }

    /// Number of bytes read; 0 is the end. Most clients ask once and stay: they hold no buffers meanwhile.
    async fn read_some(&mut self) -> std::io::Result<usize> {
        if self.input.is_empty() {
            (self.input, self.output) = (Vec::new(), Vec::new());
            self.stream.readable().await?;
        }
        self.input.reserve(CHUNK_BYTES);
        self.stream.read_buf(&mut self.input).await
    }
}

/// What was taken of the input.
enum Taken {
    /// One request, or nothing of meaning; there may be more.
    One,
    /// All that is whole.
    All,
    /// The last request: the connection ends when it is answered.
    Last,
}

async fn within(
    limit: Duration,
    writing: impl Future<Output = std::io::Result<()>>,
) -> std::io::Result<()> {
    timeout(limit, writing)
        .await
        .unwrap_or_else(|_late| Err(std::io::ErrorKind::TimedOut.into()))
}
