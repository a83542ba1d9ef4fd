//! The endpoint of a running job: its state, live, in SQL.
//!
//! HTTP/1.1 on one address, for as long as the job runs. Each request has a barrier of its own, and with it the state
//! of one instant.

mod answer;
mod guard;
pub(crate) mod wire;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue, TRAILER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use strandline_checkpoint_storage::Storage;
use strandline_runtime::JobControl;
use strandline_state_api::{Error, ErrorKind, Result};
use strandline_state_reader::StoredState;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use self::answer::Asked;
use self::guard::Guard;
use self::wire::{ARROW, JSON_LINES, SQL, WireError};
use crate::Failure;

/// The longest text of statements.
const LONGEST: usize = 1 << 20;
/// Queries that run at once; each holds the state of an instant.
const AT_ONCE: usize = 4;
/// How long a client may take for the head of a request.
const HEAD_WAIT: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The endpoint, which ends when this is dropped.
pub(crate) struct Endpoint {
    runtime: Option<Runtime>,
    pub(crate) address: SocketAddr,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What all requests share.
struct Served {
    control: JobControl,
    storage: Storage,
    guard: Guard,
    queries: Arc<Semaphore>,
    /// The states whose types are known, by `operator/state`.
    types: Mutex<HashMap<String, StoredState>>,
}

/// Serves the state of a job at an address. Where that is no loopback address, a token must be set.
pub(crate) fn serve(
    address: SocketAddr,
    token: Option<String>,
    control: &JobControl,
    storage: &Storage,
) -> Result<Endpoint, Failure> {
    let Some(guard) = Guard::new(address, token) else {
        let text = format!(
            "error: {address} is no loopback address, so whoever asks there must show a token: set {}\n",
            wire::TOKEN_VARIABLE
        );
        return Err(Failure::Usage(text));
    };
    let failed = |error: std::io::Error| {
        let message = "the state of the job cannot be served at this address";
        Error::new(ErrorKind::Unavailable, message).with("address", address).caused_by(error)
    };
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).thread_name("strandline-serve").enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let listener = TcpListener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let (control, storage) = (control.clone(), storage.clone());
    let served = Arc::new(Served {
        control,
        storage,
        guard,
        queries: Arc::new(Semaphore::new(AT_ONCE)),
        types: Mutex::default(),
    });
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    drop(entered);
    runtime.spawn(accept(listener, served));
    Ok(Endpoint { runtime: Some(runtime), address })
}

async fn accept(listener: tokio::net::TcpListener, served: Arc<Served>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The process has too many files open, say: others may close.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let served = Arc::clone(&served);
        let service = service_fn(move |request| {
            let served = Arc::clone(&served);
            async move { Ok::<_, Infallible>(answer(served, request).await) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT);
        let connection = server.serve_connection(TokioIo::new(stream), service);
        // A client that goes away is no failure of the job.
        tokio::spawn(async move { drop(connection.await) });
    }
}

/// Answers one request.
async fn answer(served: Arc<Served>, request: Request<Incoming>) -> Response<Body> {
    if let Err((status, error)) = served.guard.check(request.headers()) {
        return refused(status, &error);
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, path) if path.starts_with("/state/") => look_up(served, &request).await,
        (&Method::POST, "/sql") => query(served, request).await,
        (_, "/sql") => refused(
            StatusCode::METHOD_NOT_ALLOWED,
            &WireError::invalid("statements are sent with POST to /sql"),
        ),
        _ => refused(
            StatusCode::NOT_FOUND,
            &WireError::invalid(
                "there is nothing here: POST statements to /sql, or GET /state/OPERATOR/STATE?key=KEY",
            ),
        ),
    }
}

async fn query(served: Arc<Served>, request: Request<Incoming>) -> Response<Body> {
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // A web page cannot send this without asking first, which nobody answers.
    if header(CONTENT_TYPE).is_none_or(|of| of.split(';').next().is_none_or(|of| of.trim() != SQL)) {
        let error = WireError::invalid(format!("send statements with the header `Content-Type: {SQL}`"));
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error);
    }
    let form = match header(ACCEPT).is_some_and(|accepted| accepted.contains(ARROW)) {
        true => answer::Form::Arrow,
        false => answer::Form::JsonLines,
    };
    let body = Limited::new(request.into_body(), LONGEST).collect().await;
    let Ok(text) =
        body.map_err(drop).and_then(|body| String::from_utf8(body.to_bytes().into()).map_err(drop))
    else {
        let error = WireError::invalid(format!("statements are text in UTF-8 of at most {LONGEST} bytes"));
        return refused(StatusCode::BAD_REQUEST, &error);
    };
    answered(answer::begin(served, Asked::Statements(text), form).await, form)
}

/// Looks up a key.
async fn look_up(served: Arc<Served>, request: &Request<Incoming>) -> Response<Body> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let path = request.uri().path().strip_prefix("/state/").and_then(|path| path.split_once('/'));
    let key = request.uri().query().and_then(|query| query.strip_prefix("key="));
    let parts =
        path.and_then(|(operator, state)| Some((decoded(operator)?, decoded(state)?, decoded(key?)?)));
    let Some((operator, state, key)) = parts else {
        let error = WireError::invalid(
            "a key is looked up with GET /state/OPERATOR/STATE?key=KEY, all percent-encoded",
        );
        return refused(StatusCode::BAD_REQUEST, &error);
    };
    let form = answer::Form::JsonLines;
    answered(answer::begin(served, Asked::Key { operator, state, key }, form).await, form)
}

fn answered(answer: Result<Body, WireError>, form: answer::Form) -> Response<Body> {
    match answer {
        Err(error) => refused(error.status(), &error),
        Ok(body) => {
            let mut response = Response::new(body);
            let of = if form == answer::Form::Arrow { ARROW } else { JSON_LINES };
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(of));
            response.headers_mut().insert(TRAILER, HeaderValue::from_static(wire::ERROR_TRAILER));
            response
        }
    }
}

fn refused(status: StatusCode, error: &WireError) -> Response<Body> {
    let body = Full::new(Bytes::from(error.line())).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
