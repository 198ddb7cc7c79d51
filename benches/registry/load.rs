//! Load generator: blocking connections with one request in flight each.
//!
//! A thread writes the requests of all its connections and then reads all the responses, so that the client costs only two
//! system calls per request and is not the bottleneck.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::report::{median, milliseconds};

/// Timeout of a response.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Address and credentials of requests.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
    /// A complete header line with its line end, or empty.
    pub authorization: String,
}

/// The head of a response.
pub struct Head {
    pub status: u16,
    pub length: u64,
    pub chunked: bool,
    pub location: Option<String>,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.read(buffer),
            Transport::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.write(bytes),
            Transport::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.flush(),
            Transport::Tls(stream) => stream.flush(),
        }
    }
}

/// A keep-alive connection.
pub struct Connection {
    stream: BufReader<Transport>,
    authorization: String,
}

impl Connection {
    pub fn open(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        let transport = match &target.tls {
            None => Transport::Plain(stream),
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Transport::Tls(Box::new(StreamOwned::new(session, stream)))
            }
        };
        let stream = BufReader::with_capacity(256 << 10, transport);
        Ok(Connection { stream, authorization: target.authorization.clone() })
    }

    /// Returns the head of a request.
    pub fn head_of(&self, method: &str, path: &str, more: &str) -> Vec<u8> {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{}{more}\r\n", self.authorization)
            .into_bytes()
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Reads the head of a response.
    pub fn head(&mut self) -> io::Result<Head> {
        let buffer = self.stream.fill_buf()?;
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(buffer).map_err(io::Error::other)? {
            httparse::Status::Complete(used) => {
                let head = parse_head(&response);
                self.stream.consume(used);
                Ok(head)
            }
            // All compared servers write a head with one system call; a partial one would distort the measurement.
            httparse::Status::Partial => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends a request, reads the whole response and checks its status.
    pub fn exchange(&mut self, head: &[u8], body: &[u8], status: u16) -> io::Result<Head> {
        let response = self.exchange_any(head, body)?;
        if response.status != status {
            let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or(&[]));
            return Err(io::Error::other(format!("{line}: status {} instead of {status}", response.status)));
        }
        Ok(response)
    }

    /// Sends a request and reads the whole response, whatever its status.
    pub fn exchange_any(&mut self, head: &[u8], body: &[u8]) -> io::Result<Head> {
        self.send(&[head, body].concat())?;
        let response = self.head()?;
        if !head.starts_with(b"HEAD ") {
            self.discard(&response)?;
        }
        Ok(response)
    }

    /// Reads and discards the body of a response; returns its length.
    pub fn discard(&mut self, head: &Head) -> io::Result<u64> {
        if !head.chunked {
            return self.discard_bytes(head.length);
        }
        let mut total = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            // The chunk, and the line end after it.
            self.discard_bytes(size + 2)?;
            total += size;
            if size == 0 {
                return Ok(total);
            }
        }
    }

    fn discard_bytes(&mut self, length: u64) -> io::Result<u64> {
        let mut left = length;
        while left > 0 {
            let available = self.stream.fill_buf()?.len() as u64;
            if available == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let taken = available.min(left);
            self.stream.consume(usize::try_from(taken).unwrap_or(usize::MAX));
            left -= taken;
        }
        Ok(length)
    }
}

fn parse_head(response: &httparse::Response) -> Head {
    let mut head = Head { status: response.code.unwrap_or(0), length: 0, chunked: false, location: None };
    for header in response.headers.iter() {
        let text = std::str::from_utf8(header.value).unwrap_or_default();
        if header.name.eq_ignore_ascii_case("content-length") {
            head.length = text.parse().unwrap_or(0);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = text.contains("chunked");
        } else if header.name.eq_ignore_ascii_case("location") {
            head.location = Some(text.to_owned());
        }
    }
    head
}

/// Requests manifests on `connections` connections for `time`, by HEAD or GET, one path after the other; returns responses
/// per second.
pub fn manifest_rate(
    target: &Target,
    method: &str,
    paths: &[String],
    connections: usize,
    time: Duration,
) -> io::Result<f64> {
    const THREADS: usize = 2;
    let begun = Instant::now();
    let count = std::thread::scope(|scope| {
        let work = || request_loop(target, method, paths, connections / THREADS, time);
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(join).sum::<io::Result<u64>>()
    })?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

fn request_loop(
    target: &Target,
    method: &str,
    paths: &[String],
    connections: usize,
    time: Duration,
) -> io::Result<u64> {
    let mut open = (0..connections).map(|_| Connection::open(target)).collect::<io::Result<Vec<_>>>()?;
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json\r\n";
    let requests: Vec<_> = paths.iter().map(|path| open[0].head_of(method, path, accept)).collect();
    let mut requests = requests.iter().cycle();
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < time {
        for (connection, request) in open.iter_mut().zip(&mut requests) {
            connection.send(request)?;
        }
        for connection in &mut open {
            let head = connection.head()?;
            if head.status != 200 {
                return Err(io::Error::other(format!("status {} for {method}", head.status)));
            }
            if method != "HEAD" {
                connection.discard(&head)?;
            }
            count += 1;
        }
    }
    Ok(count)
}

/// Returns the median response time for a GET by a client of HTML, in milliseconds.
pub fn response_time(target: &Target, path: &str) -> io::Result<f64> {
    const REQUESTS: usize = 21;
    let mut connection = Connection::open(target)?;
    let request = connection.head_of("GET", path, "Accept: text/html\r\n");
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        connection.exchange(&request, &[], 200)?;
        times.push(milliseconds(begun.elapsed()));
    }
    Ok(median(times))
}

/// Pulls a blob on each of `connections` connections at once; returns the seconds.
pub fn pull(target: &Target, path: &str, size: u64, connections: usize) -> io::Result<f64> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let work = || {
            let mut connection = Connection::open(target)?;
            let request = connection.head_of("GET", path, "");
            connection.send(&request)?;
            let head = connection.head()?;
            if head.status != 200 || connection.discard(&head)? != size {
                return Err(io::Error::other(format!("status {} for GET", head.status)));
            }
            Ok(())
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(join)
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Returns the result of a thread; resumes its panic.
pub fn join<T>(thread: std::thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
