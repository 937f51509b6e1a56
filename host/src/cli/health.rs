//! Tells by HTTP whether a worker lives and is of use: `/livez` and `/readyz`.
//!
//! Two questions and no state: one request a connection, GET or HEAD, everything else is refused. `httparse` reads the
//! request.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use palfrey_host::worker::Health;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_util::task::AbortOnDropHandle;

use super::Failure;
use palfrey_host::WorkerRuntime;

/// Requests at a time. Others wait.
const AT_ONCE: usize = 16;

/// Whoever is slower than that is not answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a request's head. Probes send some hundred.
const MAX_HEAD: usize = 8 << 10;

/// The listener. It ends when this is dropped.
pub(super) struct HealthServer {
    worker: watch::Sender<Option<WorkerRuntime>>,
    _task: AbortOnDropHandle<()>,
}

impl HealthServer {
    /// Answers from now on. Until the worker is connected it is not ready.
    pub(super) async fn listen(address: SocketAddr) -> Result<Self, Failure> {
        let listening = async {
            let listener = TcpListener::bind(address).await?;
            let local = listener.local_addr()?;
            std::io::Result::Ok((listener, local))
        };
        let (listener, local) = listening.await.map_err(|source| Failure::Listen { address, source })?;
        tracing::info!(address = %local, "answering /livez and /readyz");
        let (worker, reader) = watch::channel(None);
        Ok(Self { worker, _task: AbortOnDropHandle::new(tokio::spawn(serve(listener, reader))) })
    }

    /// The worker is connected.
    pub(super) fn tell_of(&self, worker: &WorkerRuntime) {
        self.worker.send_replace(Some(worker.clone()));
    }
}

async fn serve(listener: TcpListener, worker: watch::Receiver<Option<WorkerRuntime>>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, for instance: it may pass.
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let worker = worker.clone();
        tokio::spawn(async move {
            if !matches!(tokio::time::timeout(PATIENCE, answer(stream, &worker)).await, Ok(Ok(()))) {
                tracing::debug!("a request for the worker's health was not answered");
            }
            drop(permit);
        });
    }
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Live { with_body: bool },
    Ready { with_body: bool },
    Elsewhere,
    Otherwise,
    Malformed,
}

impl Request {
    /// Reads the head of a request. `None` if it is not complete.
    fn parse(head: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Partial) => return None,
            Ok(httparse::Status::Complete(_)) => {}
            Err(_) => return Some(Self::Malformed),
        }
        let with_body = match request.method {
            Some("GET") => true,
            Some("HEAD") => false,
            _ => return Some(Self::Otherwise),
        };
        let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
        Some(match path {
            "/livez" => Self::Live { with_body },
            "/readyz" => Self::Ready { with_body },
            _ => Self::Elsewhere,
        })
    }
}

async fn answer(mut stream: TcpStream, worker: &watch::Receiver<Option<WorkerRuntime>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let request = loop {
        if let Some(request) = Request::parse(&head) {
            break request;
        }
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            break Request::Malformed;
        }
    };
    let health = async || {
        let worker = worker.borrow().clone();
        match worker {
            Some(worker) => worker.health().await,
            None => Health::connecting(),
        }
    };
    let (status, text, with_body) = match request {
        Request::Live { with_body } => {
            let health = health().await;
            (if health.is_alive() { "200 OK" } else { "503 Service Unavailable" }, to_json(&health), with_body)
        }
        Request::Ready { with_body } => {
            let health = health().await;
            (if health.is_ready() { "200 OK" } else { "503 Service Unavailable" }, to_json(&health), with_body)
        }
        Request::Elsewhere => ("404 Not Found", json!({ "error": "there are /livez and /readyz" }).to_string(), true),
        Request::Otherwise => ("405 Method Not Allowed", json!({ "error": "use GET or HEAD" }).to_string(), true),
        Request::Malformed => ("400 Bad Request", json!({ "error": "this is not HTTP/1.1" }).to_string(), true),
    };
    let length = text.len() + 1;
    let body = if with_body { format!("{text}\n") } else { String::new() };
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         Allow: GET, HEAD\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

fn to_json(health: &Health) -> String {
    let checks = health.checks().map(|(name, problem)| (name.to_owned(), json!(problem.unwrap_or("ok"))));
    json!({
        "alive": health.is_alive(),
        "ready": health.is_ready(),
        "checks": checks.collect::<serde_json::Map<_, _>>(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_probe_sends_is_understood_and_nothing_else() {
        let check = |head: &str, expect| assert_eq!(Request::parse(head.as_bytes()), expect, "{head:?}");
        check("GET /livez HTTP/1.1\r\nHost: here\r\n\r\n", Some(Request::Live { with_body: true }));
        check("HEAD /readyz?verbose HTTP/1.0\r\n\r\n", Some(Request::Ready { with_body: false }));
        check("GET /readyz HTTP/1.1\r\nHost:", None);
        check("", None);
        check("GET / HTTP/1.1\r\n\r\n", Some(Request::Elsewhere));
        check("POST /livez HTTP/1.1\r\n\r\n", Some(Request::Otherwise));
        check("\x16\x03\x01\x02\0", Some(Request::Malformed));
        let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        check(&many, Some(Request::Malformed));
    }

    proptest::proptest! {
        /// Whatever arrives is answered in one way, as soon as there is enough of it, and takes no memory.
        #[test]
        fn a_head_of_any_bytes_is_one_request_whatever_comes_behind_it(
            method in "GET|HEAD|POST|[A-Z]{0,9}",
            path in "/livez|/readyz|(/[a-z?%]{0,5}){0,3}",
            rest in "( HTTP/1\\.[01]| HTTP/[0-9.]{0,4}| )(\r\n[A-Za-z-]{0,9}: ?[ -~]{0,20}){0,70}(\r\n){0,3}",
            edits in proptest::collection::vec(proptest::prelude::any::<(proptest::sample::Index, u8)>(), 0..3),
            more in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20),
        ) {
            let mut head = format!("{method} {path}{rest}").into_bytes();
            edits.iter().for_each(|(at, byte)| {
                let at = at.index(head.len());
                head[at] = *byte;
            });
            let mut request = None;
            let allocated = allocation_counter::measure(|| request = Request::parse(&head));
            proptest::prop_assert_eq!(allocated.bytes_max, 0);
            if request.is_some() {
                proptest::prop_assert_eq!(Request::parse(&[head.as_slice(), more.as_slice()].concat()), request);
            }
            if let Some(Request::Live { with_body } | Request::Ready { with_body }) = request {
                proptest::prop_assert_eq!(head.trim_ascii_start().starts_with(b"GET "), with_body);
            }
        }
    }
}
