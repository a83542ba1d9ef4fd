//! A running job that is asked at its endpoint.

use std::io::{self, Read};
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, TE};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use strandline_state_api::{Error, ErrorKind, Result};
use strandline_state_sql::QueryError;
use strandline_state_sql::datafusion::arrow::array::RecordBatch;
use strandline_state_sql::datafusion::arrow::datatypes::SchemaRef;
use strandline_state_sql::datafusion::arrow::error::ArrowError;
use strandline_state_sql::datafusion::arrow::ipc::reader::StreamReader;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, channel};

use crate::Failure;
use crate::serve::wire::{self, ARROW, ERROR_TRAILER, SQL, WireError};

/// The most bytes of an error that are read.
const ERROR_BYTES: usize = 1 << 20;

/// The endpoint of a running job.
pub(super) struct Remote {
    pub(super) url: String,
    authority: String,
    token: Option<String>,
}

/// Why a query at an endpoint has no rows, or no more.
pub(super) enum Unanswered {
    /// What the job answers.
    Query(QueryError),
    Failed(Failure),
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Remote {
    /// The endpoint at a URL; `None` where the text is none.
    pub(super) fn at(text: &str) -> Result<Option<Self>> {
        if text.starts_with("https://") {
            return Err(Error::invalid("a running job answers plain HTTP: begin the URL with http://"));
        }
        if !text.starts_with("http://") {
            return Ok(None);
        }
        let wrong =
            || Error::invalid("expected the URL of a running job: http://HOST:PORT").with("found", text);
        let uri: Uri = text.parse().map_err(|e| wrong().caused_by(e))?;
        let authority = uri.authority().filter(|_| matches!(uri.path(), "/" | "")).ok_or_else(wrong)?;
        let port = authority.port_u16().unwrap_or(80);
        let authority = format!("{}:{port}", authority.host());
        Ok(Some(Self { url: text.to_owned(), authority, token: wire::token() }))
    }

    /// Runs statements, and calls `visit` with the schema and each batch of each that has rows.
    pub(super) fn query(
        &self,
        runtime: &Runtime,
        interrupted: &Arc<Notify>,
        text: &str,
        mut visit: impl FnMut(&SchemaRef, Option<&RecordBatch>) -> Result<(), Failure>,
    ) -> Result<(), Unanswered> {
        let mut body = runtime.block_on(async {
            tokio::select! {
                begun = self.send(text) => begun.map(|response| body(response, interrupted)),
                () = interrupted.notified() => Err(Failure::Cancelled.into()),
            }
        })?;
        while !body.is_over() {
            let read = read(&mut body, &mut visit);
            if let Some(unanswered) = body.failed.take() {
                return Err(unanswered);
            }
            read?;
        }
        body.failed.take().map_or(Ok(()), Err)
    }

    async fn send(&self, text: &str) -> Result<Response<Incoming>, Unanswered> {
        let failed = |message: &'static str| {
            let url = &self.url;
            move |error: Box<dyn std::error::Error + Send + Sync>| {
                Error::new(ErrorKind::Unavailable, message).with("url", url).caused_by(error)
            }
        };
        let unreachable = failed("no job answers there: is it running, with --serve and this address?");
        let stream = TcpStream::connect(&self.authority).await.map_err(|e| unreachable(e.into()))?;
        let broken = failed("the job does not answer as the endpoint of a job does");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(e.into()))?;
        // It ends with the body of the answer.
        tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::post("/sql")
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, SQL)
            .header(ACCEPT, ARROW)
            .header(TE, "trailers");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(text.to_owned()))).map_err(|e| broken(e.into()))?;
        let response = sender.send_request(request).await.map_err(|e| broken(e.into()))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let body = Limited::new(response.into_body(), ERROR_BYTES).collect().await;
        let body = body.map_err(&broken)?.to_bytes();
        let error: Result<WireError, _> = serde_json::from_slice(&body);
        let error = error.map_err(|e| broken(e.into()).with("status", status))?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let error = error.into_error().error;
            let message = format!("{}; {} has the token", error.message(), wire::TOKEN_VARIABLE);
            return Err(Error::invalid(message).with("url", &self.url).into());
        }
        Err(Unanswered::Query(error.into_error()))
    }
}

/// Reads the rows of one statement.
fn read(
    body: &mut Body,
    visit: &mut impl FnMut(&SchemaRef, Option<&RecordBatch>) -> Result<(), Failure>,
) -> Result<(), Unanswered> {
    let rows = StreamReader::try_new(body, None).map_err(unreadable)?;
    let schema = rows.schema();
    for batch in rows {
        visit(&schema, Some(&batch.map_err(unreadable)?))?;
    }
    Ok(visit(&schema, None)?)
}

fn unreadable(error: ArrowError) -> Error {
    Error::new(ErrorKind::Unavailable, "the answer of the job ends early, or is none").caused_by(error)
}

/// The bytes of an answer, as they come.
struct Body {
    chunks: Receiver<Result<Bytes, Unanswered>>,
    chunk: Bytes,
    failed: Option<Unanswered>,
}

/// Reads an answer in the background, until somebody interrupts that.
fn body(response: Response<Incoming>, interrupted: &Arc<Notify>) -> Body {
    let (sender, chunks) = channel(4);
    let interrupted = Arc::clone(interrupted);
    tokio::spawn(async move {
        let mut body = response.into_body();
        let forward = async {
            while let Some(frame) = body.frame().await {
                let next = match frame.map(hyper::body::Frame::into_data) {
                    Ok(Ok(bytes)) => Ok(bytes),
                    Ok(Err(frame)) => match frame.trailers_ref().and_then(|all| all.get(ERROR_TRAILER)) {
                        Some(value) => Err(trailer(value.to_str().unwrap_or_default())),
                        None => continue,
                    },
                    Err(error) => {
                        let message = "the job ended, or the connection to it, before all rows came";
                        Err(Error::new(ErrorKind::Unavailable, message).caused_by(error).into())
                    }
                };
                if sender.send(next).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = forward => {}
            () = interrupted.notified() => drop(sender.send(Err(Failure::Cancelled.into())).await),
        }
    });
    Body { chunks, chunk: Bytes::new(), failed: None }
}

fn trailer(text: &str) -> Unanswered {
    match WireError::of_trailer(text) {
        // Rows had come: the statements were right, and reading failed.
        Some(error) => error.into_error().error.into(),
        None => Error::new(ErrorKind::Internal, "the job failed without a reason").into(),
    }
}

impl Body {
    /// Whether nothing is left, or nothing more will come.
    fn is_over(&mut self) -> bool {
        while self.chunk.is_empty() && self.failed.is_none() {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(unanswered)) => self.failed = Some(unanswered),
                None => return true,
            }
        }
        self.chunk.is_empty()
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.is_over() {
            return Ok(0);
        }
        let count = self.chunk.len().min(into.len());
        into[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}
