//! What lies between a job and a store on a network: it refuses requests with 503 and 429, hangs, loses
//! answers, and repeats requests, at once or late.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    /// Refused with 503, as S3 does when it is asked too much.
    SlowDown,
    /// Refused with 429.
    TooMany,
    /// Nothing is done, and no answer comes before the client has given up.
    Hung,
    /// Done, and the answer is lost with the connection.
    AnswerLost,
    /// Done, and the answer comes when the client has given up.
    AnswerLate,
    /// Done twice; the answer is the first one.
    Repeated,
    /// Done twice; the answer is the second one.
    RepeatedBlindly,
    /// Done, and once more some time after the answer.
    RepeatedLate,
}

use Fate::*;

const FAULTS: [Fate; 8] =
    [SlowDown, TooMany, Hung, AnswerLost, AnswerLate, Repeated, RepeatedBlindly, RepeatedLate];
/// The share of requests that something happens to.
const RATE: f64 = 0.04;
/// Longer than the timeout of a request.
const LATE: Duration = Duration::from_millis(1_500);
const HEADERS: usize = 64 * 1024;

/// A proxy in front of one server, on a free port, until the process ends.
pub(super) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    random: Mutex<fastrand::Rng>,
    counts: [AtomicU64; 9],
    /// How many connections are open.
    open: Mutex<usize>,
    closed: Condvar,
}

impl Proxy {
    pub(super) fn start(server: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let (counts, open, closed) = (Default::default(), Mutex::new(0), Condvar::new());
        let shared = Arc::new(Shared { server: server.to_owned(), random, counts, open, closed });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                *of_thread.open.lock().unwrap() += 1;
                let shared = Arc::clone(&of_thread);
                std::thread::spawn(move || {
                    // A client that is killed, or gives up, leaves a broken connection.
                    let _ = shared.serve(client);
                    *shared.open.lock().unwrap() -= 1;
                    shared.closed.notify_all();
                });
            }
        });
        Self { address, shared }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until nothing is under way: what comes late has come.
    pub(super) fn settle(&self) {
        let open = self.shared.open.lock().unwrap();
        drop(self.shared.closed.wait_while(open, |open| *open > 0).unwrap());
    }

    pub(super) fn counts(&self) -> ProxyCounts {
        ProxyCounts(self.shared.counts.each_ref().map(|count| count.load(Relaxed)))
    }
}

/// How many requests met which fate.
pub(super) struct ProxyCounts([u64; 9]);

impl ProxyCounts {
    pub(super) fn all_happened(&self) -> bool {
        self.0.iter().all(|count| *count > 0)
    }
}

impl fmt::Display for ProxyCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0[0])?;
        FAULTS.iter().zip(&self.0[1..]).try_for_each(|(fate, count)| write!(f, ", {fate:?} {count}"))
    }
}

impl Shared {
    fn fate(&self) -> Fate {
        // One after the other, so that few requests meet all of them.
        let faults: u64 = self.counts[1..].iter().map(|count| count.load(Relaxed)).sum();
        let fault = FAULTS[faults as usize % FAULTS.len()];
        let fate = if self.random.lock().unwrap().f64() < RATE { fault } else { Passed };
        self.counts[FAULTS.iter().position(|fault| *fault == fate).map_or(0, |at| at + 1)]
            .fetch_add(1, Relaxed);
        fate
    }

    /// Serves one request, and closes the connection.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some(request) = read_message(&client, true)? else { return Ok(()) };
        match self.fate() {
            Passed => client.write_all(&self.ask(&request)?),
            SlowDown => client.write_all(&refusal("503 Service Unavailable", "SlowDown")),
            TooMany => client.write_all(&refusal("429 Too Many Requests", "TooManyRequests")),
            Hung => {
                // The client closes the connection when it has waited long enough, and if not, the proxy does.
                client.set_read_timeout(Some(2 * LATE))?;
                client.read(&mut [0]).map(drop)
            }
            AnswerLost => self.ask(&request).map(drop),
            AnswerLate => {
                let answer = self.ask(&request)?;
                std::thread::sleep(LATE);
                client.write_all(&answer)
            }
            Repeated => {
                let first = self.ask(&request)?;
                self.ask(&request)?;
                client.write_all(&first)
            }
            RepeatedBlindly => {
                self.ask(&request)?;
                client.write_all(&self.ask(&request)?)
            }
            RepeatedLate => {
                client.write_all(&self.ask(&request)?)?;
                client.shutdown(std::net::Shutdown::Both)?;
                std::thread::sleep(LATE);
                self.ask(&request).map(drop)
            }
        }
    }

    /// Sends a request to the server and returns its answer.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.server)?;
        server.write_all(request)?;
        read_message(&server, false)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Reads a whole message, with the header that closes the connection behind it; `None` where the other side
/// has closed it already.
fn read_message(stream: &TcpStream, is_request: bool) -> io::Result<Option<Vec<u8>>> {
    let mut reader = BufReader::new(stream);
    let (mut message, mut length, mut first) = (Vec::new(), None, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || message.len() > HEADERS {
            return Ok(None);
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "connection" | "keep-alive" => continue,
            "content-length" => length = value.trim().parse::<u64>().ok(),
            "transfer-encoding" | "expect" => return Err(io::Error::other(format!("unexpected {line}"))),
            _ if first.is_empty() => first.clone_from(&line),
            _ => {}
        }
        if line == "\r\n" {
            break;
        }
        message.extend_from_slice(line.as_bytes());
    }
    message.extend_from_slice(b"Connection: close\r\n\r\n");
    // An answer to HEAD has the length of what is left out. The server closes behind each answer.
    match length {
        Some(length) if is_request => {
            reader.take(length).read_to_end(&mut message)?;
        }
        None if is_request => {}
        _ => drop(reader.read_to_end(&mut message)?),
    }
    Ok(Some(message))
}

fn refusal(status: &str, code: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Reduce your rate.</Message></Error>"
    );
    let head = "Content-Type: application/xml\r\nConnection: close";
    format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
