//! The rows of statements, as they are read.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use strandline_runtime::LiveState;
use strandline_state_api::{Error, ErrorKind};
use strandline_state_reader::{CheckpointReader, Decoders, Value};
use strandline_state_sql::datafusion::arrow::array::RecordBatch;
use strandline_state_sql::datafusion::arrow::datatypes::SchemaRef;
use strandline_state_sql::datafusion::arrow::error::ArrowError;
use strandline_state_sql::datafusion::arrow::ipc::writer::StreamWriter;
use strandline_state_sql::datafusion::arrow::json::WriterBuilder;
use strandline_state_sql::datafusion::arrow::json::writer::LineDelimited;
use strandline_state_sql::{QueryError, StateCatalog, StateSession};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::wire::{ERROR_TRAILER, WireError};
use super::{Body, Served};

/// How rows are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Arrow,
    JsonLines,
}

/// What a client asks for.
pub(super) enum Asked {
    /// The rows of statements, over the state of one instant.
    Statements(String),
    /// The rows of one key of a state, between two records.
    Key { operator: String, state: String, key: String },
}

/// Batches that wait for the client.
const AHEAD: usize = 4;

/// Begins to answer. Returns the body of the answer once there are rows or an end, or the
/// error if that comes first. The query ends when the body is dropped.
pub(super) async fn begin(served: Arc<Served>, asked: Asked, form: Form) -> Result<Body, WireError> {
    let (sender, mut receiver) = channel(AHEAD);
    tokio::spawn(async move {
        tokio::select! {
            done = run(&served, &asked, form, &sender) => if let Err(error) = done {
                // Where nobody listens, nobody asks.
                let _ = sender.send(Err(error)).await;
            },
            () = sender.closed() => {}
        }
    });
    let first = match receiver.recv().await {
        Some(Ok(first)) => Some(first),
        Some(Err(error)) => return Err(error),
        None => None,
    };
    Ok(StreamBody::new(Frames { first, receiver, form }.map(Ok)).boxed_unsync())
}

async fn run(
    served: &Served,
    asked: &Asked,
    form: Form,
    sender: &Sender<Result<Bytes, WireError>>,
) -> Result<(), WireError> {
    let queries = Arc::clone(&served.queries);
    let _permit = queries.acquire_owned().await.map_err(|_| WireError::invalid("the endpoint ends"))?;
    let (session, text) = match asked {
        Asked::Statements(text) => {
            let checkpoint = opened(served.control.live_state().await?).await?;
            (StateSession::new(StateCatalog::beside(checkpoint, &served.storage).await?), text.clone())
        }
        Asked::Key { operator, state, key } => {
            let found = opened(look_up(served, operator, state, key).await?).await?;
            let table = format!("{operator}/{state}").replace('"', "\"\"");
            let session = StateSession::new(StateCatalog::of_checkpoint(found));
            (session, format!("SELECT * FROM \"{table}\""))
        }
    };
    for statement in session.parse(&text)? {
        let mut rows = session.run(&statement).await?;
        let mut encoder = Encoder::new(form, &rows.schema())?;
        while let Some(batch) = rows.next().await {
            encoder.add(&batch.map_err(QueryError::from)?)?;
            send(sender, encoder.take()).await;
        }
        send(sender, encoder.finish()?).await;
    }
    Ok(())
}

async fn opened(live: LiveState) -> Result<CheckpointReader, Error> {
    CheckpointReader::of_manifest(live.manifest().clone(), live.segments(), Decoders::default()).await
}

/// Looks up a key as a person writes it. The state of one instant has the type of the keys, which is kept.
async fn look_up(served: &Served, operator: &str, state: &str, key: &str) -> Result<LiveState, Error> {
    let path = format!("{operator}/{state}");
    let known = served.types.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
    let stored = match known {
        Some(known) => known,
        None => {
            let stored = opened(served.control.live_state().await?).await?.state(&path)?.clone();
            let mut types = served.types.lock().unwrap_or_else(PoisonError::into_inner);
            types.entry(path).or_insert(stored).clone()
        }
    };
    let value = Value::parse(key, stored.key().data_type())?;
    let encoded = stored.key().decoder().encode(&value)?;
    served.control.look_up_encoded(stored.operator(), stored.name(), encoded).await
}

async fn send(sender: &Sender<Result<Bytes, WireError>>, bytes: Vec<u8>) {
    if !bytes.is_empty() {
        // Where nobody listens, the query is about to end.
        let _ = sender.send(Ok(bytes.into())).await;
    }
}

/// Rows of one statement as bytes.
enum Encoder {
    /// Of a statement without a result.
    Nothing,
    Arrow(Box<StreamWriter<Vec<u8>>>),
    JsonLines(Vec<u8>),
}

impl Encoder {
    fn new(form: Form, schema: &SchemaRef) -> Result<Self, Error> {
        Ok(match form {
            _ if schema.fields().is_empty() => Self::Nothing,
            Form::Arrow => Self::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema).map_err(unsent)?)),
            Form::JsonLines => Self::JsonLines(Vec::new()),
        })
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        match self {
            Self::Nothing => Ok(()),
            Self::Arrow(writer) => writer.write(batch).map_err(unsent),
            Self::JsonLines(lines) => {
                let mut writer =
                    WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(lines);
                writer.write(batch).and_then(|()| writer.finish()).map_err(unsent)
            }
        }
    }

    fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Arrow(writer) => std::mem::take(writer.get_mut()),
            Self::JsonLines(lines) => std::mem::take(lines),
        }
    }

    fn finish(mut self) -> Result<Vec<u8>, Error> {
        if let Self::Arrow(writer) = &mut self {
            writer.finish().map_err(unsent)?;
        }
        Ok(self.take())
    }
}

fn unsent(error: ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "a row cannot be sent").caused_by(error)
}

/// The frames of an answer: bytes, and an error at its end.
struct Frames {
    first: Option<Bytes>,
    receiver: Receiver<Result<Bytes, WireError>>,
    form: Form,
}

impl Stream for Frames {
    type Item = Frame<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Frame::data(first)));
        }
        let form = self.form;
        self.receiver.poll_recv(context).map(|next| {
            Some(match next? {
                Ok(bytes) => Frame::data(bytes),
                // Whoever reads lines may not look behind them.
                Err(error) if form == Form::JsonLines => Frame::data(error.line().into()),
                Err(error) => {
                    let value = HeaderValue::from_str(&error.trailer()).ok()?;
                    let name = HeaderName::from_static(ERROR_TRAILER);
                    Frame::trailers(HeaderMap::from_iter([(name, value)]))
                }
            })
        })
    }
}
