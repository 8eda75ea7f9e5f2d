//! The admin endpoint: metrics, health and the topology over HTTP, on the control thread.
//!
//! It needs no password and changes nothing: every path is a GET. It never touches the request path: workers hand over a copy
//! of their counters when asked.

mod exposition;
mod nodes;
mod process;
mod topology;

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use slotway_core::topology::Snapshot;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::discovery::DiscoveryStatus;
use crate::listener::AcceptErrors;
use crate::supervisor::{Status, Workers};

pub(crate) use process::{ProcessFigures, max_fds, read as read_process};

/// Connections at a time: scrapers and probes need a handful.
const MAX_CONNECTIONS: usize = 64;
/// A client that takes longer over its request line and headers is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Age at which a connection is asked to end after the answer under way, and time it then has. Without a bound, clients that do
/// not read their answers could keep everybody else from the endpoint.
const LIFETIME: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));

const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

const HELP: &str = "\
slotway admin endpoint

  /metrics   counters and histograms for Prometheus
  /healthz   200 while the process works (also /livez)
  /readyz    200 while clients should be sent here: listening, every slot has an owner, not shutting down
  /topology  nodes, shards and slots as JSON
";

/// What the endpoint shows. Lives on the control thread.
pub(crate) struct Admin {
    /// Whether we listen, and whether we are shutting down.
    pub(crate) status: Rc<Status>,
    /// The workers, to ask for their counters.
    pub(crate) workers: Rc<Workers>,
    /// The topology in use.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// What discovery counts.
    pub(crate) discovery: Arc<DiscoveryStatus>,
    /// Start of the process.
    pub(crate) started: SystemTime,
}

/// Serves HTTP on `listener` until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, admin: Rc<Admin>) {
    let open = Rc::new(());
    let mut errors = AcceptErrors::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                errors.wait("admin", &error).await;
                continue;
            }
        };
        // One reference is ours; a connection over the bound is closed by dropping it.
        if Rc::strong_count(&open) <= MAX_CONNECTIONS {
            let (admin, open) = (Rc::clone(&admin), Rc::clone(&open));
            tokio::task::spawn_local(async move {
                serve_connection(stream, admin).await;
                drop(open);
            });
        }
    }
}

async fn serve_connection(stream: TcpStream, admin: Rc<Admin>) {
    let service = service_fn(move |request| {
        let admin = Rc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(&request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let (age, rest) = LIFETIME;
    let ended = match timeout(age, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            timeout(rest, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection failed");
    }
}

impl Admin {
    async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = reply(
                StatusCode::METHOD_NOT_ALLOWED,
                PLAIN,
                format!("Only GET is served here.\n\n{HELP}"),
            );
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/" => reply(StatusCode::OK, PLAIN, HELP.to_owned()),
            "/metrics" => reply(StatusCode::OK, PROMETHEUS, self.metrics().await),
            "/healthz" | "/livez" => self.health().await,
            "/readyz" => match self.not_ready() {
                None => reply(StatusCode::OK, PLAIN, "ready\n".to_owned()),
                Some(reason) => reply(
                    StatusCode::SERVICE_UNAVAILABLE,
                    PLAIN,
                    format!("not ready: {reason}\n"),
                ),
            },
            "/topology" => reply(StatusCode::OK, JSON, self.topology()),
            path => reply(
                StatusCode::NOT_FOUND,
                PLAIN,
                format!("Nothing at {path}.\n\n{HELP}"),
            ),
        }
    }

    /// Alive is: every worker's loop turns. What the nodes do has no part in it, or a dead cluster would get proxies restarted;
    /// nor has a shutdown, in which workers end one by one.
    async fn health(&self) -> Response<Full<Bytes>> {
        let (stuck, ended) = self.workers.missing().await;
        if stuck.is_empty() && (ended.is_empty() || self.status.draining()) {
            return reply(StatusCode::OK, PLAIN, "ok\n".to_owned());
        }
        let text = format!(
            "of {} workers, {stuck:?} do not answer and {ended:?} have ended\n",
            self.workers.len()
        );
        reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, text)
    }

    /// Why clients should not be sent here now, if there is a reason.
    fn not_ready(&self) -> Option<String> {
        if self.status.draining() {
            return Some("shutting down".to_owned());
        }
        if !self.status.listening() {
            return Some("not listening yet".to_owned());
        }
        if let Some(trouble) = self.discovery.trouble() {
            return Some(trouble);
        }
        let snapshot = self.snapshot.load();
        if snapshot.is_empty() {
            return Some(
                "the topology is not known yet: no node of the cluster, or not the server, has answered".to_owned(),
            );
        }
        let uncovered = snapshot.uncovered_slots();
        (uncovered > 0).then(|| format!("{uncovered} of 16384 slots have no owner"))
    }

    fn topology(&self) -> String {
        topology::to_json(&self.snapshot.load(), self.discovery.age())
    }

    async fn metrics(&self) -> String {
        let workers = self.workers.collect().await;
        let snapshot = self.snapshot.load_full();
        exposition::render(&exposition::Scrape {
            workers: &workers,
            snapshot: &snapshot,
            discovery: &self.discovery,
            rejected: &self.status.rejected(),
            accept_pauses: self.status.accept_pauses(),
            reloads: &self.status.reloads(),
            learned_commands: self.status.learned_commands(),
            command_conflicts: self.status.command_conflicts(),
            ready: self.not_ready().is_none(),
            worker_count: self.workers.len(),
            started: self.started,
            process: process::read_all(),
        })
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
