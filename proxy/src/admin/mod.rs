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
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::listener::AcceptErrors;
use crate::sentinel_listener::SentinelHandle;
use crate::supervisor::{Service, Status, Workers};

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
  /readyz    200 while clients should be sent here: listening, every slot has an owner, not shutting down;
             of several upstreams all must be ready, and else it says which are not
  /topology  nodes, shards and slots as JSON
";

/// What the endpoint shows. Lives on the control thread.
pub(crate) struct Admin {
    /// Whether we listen, and whether we are shutting down.
    pub(crate) status: Rc<Status>,
    /// Every upstream; at least one.
    pub(crate) services: Vec<Rc<Service>>,
    /// The Sentinel that the proxy is, if it is one.
    pub(crate) sentinel: Option<SentinelHandle>,
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
            spawn_local(async move {
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
        let mut text = String::new();
        let asked = self.of_each(|workers| async move { workers.missing().await });
        for (service, (stuck, ended)) in self.services.iter().zip(asked.await) {
            if !stuck.is_empty() || (!ended.is_empty() && !self.status.draining()) {
                let workers = service.workers.len();
                let of = service
                    .name
                    .as_ref()
                    .map_or_else(String::new, |name| format!(" of upstream {name}"));
                text += &format!(
                    "of {workers} workers{of}, {stuck:?} do not answer and {ended:?} have ended\n"
                );
            }
        }
        if text.is_empty() {
            return reply(StatusCode::OK, PLAIN, "ok\n".to_owned());
        }
        reply(StatusCode::SERVICE_UNAVAILABLE, PLAIN, text)
    }

    /// What `ask` says of the workers of each upstream. All are asked at once, since those that are stuck are waited for.
    async fn of_each<A: Future<Output: 'static> + 'static>(
        &self,
        ask: impl Fn(Rc<Workers>) -> A,
    ) -> Vec<A::Output> {
        let services = self.services.iter();
        let asked: Vec<_> = services
            .map(|service| spawn_local(ask(Rc::clone(&service.workers))))
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            // It can only fail by a panic, which is logged.
            answers.extend(answer.await.ok());
        }
        answers
    }

    /// Why clients should not be sent here now, if there is a reason: one line for each upstream that is not ready.
    fn not_ready(&self) -> Option<String> {
        if let Some(reason) = self.cannot_serve() {
            return Some(reason.to_owned());
        }
        let troubles = self.services.iter().filter_map(|service| {
            let trouble = service.trouble()?;
            Some(match &service.name {
                Some(name) => format!("upstream {name}: {trouble}"),
                None => trouble,
            })
        });
        let troubles: Vec<String> = troubles.collect();
        (!troubles.is_empty()).then(|| troubles.join("\nnot ready: "))
    }

    /// Why nobody should come here, whichever upstream they want.
    fn cannot_serve(&self) -> Option<&'static str> {
        if self.status.draining() {
            return Some("shutting down");
        }
        (!self.status.listening()).then_some("not listening yet")
    }

    fn topology(&self) -> String {
        let services = self.services.iter().map(|service| {
            let mut value = topology::to_json(&service.snapshot.load(), service.discovery.age());
            let known = service.replicas.borrow();
            value["replicas"] = known.replicas.iter().map(topology::replica).collect();
            (service.name.as_deref(), value)
        });
        topology::page(services)
    }

    async fn metrics(&self) -> String {
        let reports = self
            .of_each(|workers| async move { workers.collect().await })
            .await;
        let snapshots: Vec<_> = self
            .services
            .iter()
            .map(|service| service.snapshot.load_full())
            .collect();
        let replicas: Vec<_> = self
            .services
            .iter()
            .map(|service| service.replicas.borrow().clone())
            .collect();
        let known = reports.iter().zip(snapshots.iter().zip(&replicas));
        let upstreams = self.services.iter().zip(known);
        let upstreams =
            upstreams.map(
                |(service, (workers, (snapshot, replicas)))| exposition::Upstream {
                    name: service.name.as_deref(),
                    workers,
                    snapshot,
                    replicas,
                    discovery: &service.discovery,
                    learned_commands: service.learned.commands(),
                    command_conflicts: service.learned.conflicts(),
                    ready: self.cannot_serve().is_none() && service.trouble().is_none(),
                    worker_count: service.workers.len(),
                },
            );
        exposition::render(&exposition::Scrape {
            upstreams: &upstreams.collect::<Vec<_>>(),
            rejected: &self.status.rejected(),
            accept_pauses: self.status.accept_pauses(),
            sentinel_connections: self
                .sentinel
                .as_ref()
                .map_or(0, SentinelHandle::connections),
            reloads: &self.status.reloads(),
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
