//! An HTTP client that sends exactly the bytes of a request.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use serde_json::Value;

/// Connects from this local address.
pub fn connect_from(local: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((local, 0))))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(fd))
}

/// A request in preparation; it closes the connection unless [`Request::keep_alive`] is set.
pub struct Request {
    pub address: SocketAddr,
    /// The local address to connect from, if not chosen by the system.
    local: Option<Ipv4Addr>,
    head: String,
    body: Vec<u8>,
}

impl Request {
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n");
        Request { address, local: None, head, body: Vec::new() }
    }

    /// Connects from another loopback address, as another client would.
    pub fn from(mut self, local: Ipv4Addr) -> Self {
        self.local = Some(local);
        self
    }

    pub fn local(&self) -> Option<Ipv4Addr> {
        self.local
    }

    /// Keeps the connection open for another request.
    pub fn keep_alive(mut self) -> Self {
        self.head = self.head.replace("Connection: close\r\n", "");
        self
    }

    /// Sends the head of this request on an open connection.
    pub fn send_on(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(format!("{}\r\n", self.head).as_bytes())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        match self.local {
            None => TcpStream::connect(self.address),
            Some(local) => connect_from(local, self.address),
        }
    }

    /// Sets the `Host` header.
    pub fn host(mut self, host: &str) -> Self {
        self.head = self.head.replace("Host: registry\r\n", &format!("Host: {host}\r\n"));
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// Sets a body with `Content-Length`.
    pub fn body(mut self, body: &[u8]) -> Self {
        self.head += &format!("Content-Length: {}\r\n", body.len());
        self.body = body.to_vec();
        self
    }

    /// Sets a chunked body, as Docker sends it.
    pub fn chunked(mut self, body: &[u8]) -> Self {
        self.head += "Transfer-Encoding: chunked\r\n";
        for part in body.chunks(100_000) {
            self.body.extend(format!("{:x}\r\n", part.len()).bytes());
            self.body.extend(part);
            self.body.extend(b"\r\n");
        }
        self.body.extend(b"0\r\n\r\n");
        self
    }

    /// Adds Basic credentials.
    pub fn login(self, name: &str, password: &str) -> Self {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        self.header("Authorization", &format!("Basic {text}"))
    }

    /// Connects and sends the head; returns the connection.
    pub fn open(&self) -> TcpStream {
        let mut stream = self.connect().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(format!("{}\r\n", self.head).as_bytes()).unwrap();
        stream
    }

    /// As [`Request::send`], for a daemon that may be killed during the request.
    pub fn try_send(self) -> io::Result<Response> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let written = stream
            .write_all(format!("{}\r\n", self.head).as_bytes())
            .and_then(|()| stream.write_all(&self.body));
        let answer = Response::try_read(&mut stream, self.head.starts_with("HEAD"))?;
        // The server need not read a refused body to its end.
        if answer.status < 400 {
            written?;
        }
        Ok(answer)
    }

    /// Sends the request; returns the complete response.
    pub fn send(self) -> Response {
        let mut stream = self.open();
        // The server may cut off the rest of a refused body after its response, but never before.
        let written = stream.write_all(&self.body);
        let answer = Response::read(&mut stream, self.head.starts_with("HEAD"));
        if answer.status < 400 {
            written.unwrap();
        }
        answer
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    headers: BTreeMap<String, Vec<String>>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn read(stream: &mut impl Read, head: bool) -> Self {
        Self::try_read(stream, head).unwrap()
    }

    /// Reads a response; a truncated one is an error.
    pub fn try_read(stream: &mut impl Read, head: bool) -> io::Result<Self> {
        Self::try_read_one(&mut BufReader::new(stream), head)
    }

    /// Reads one response of several on a connection.
    pub fn read_one(reader: &mut impl BufRead, head: bool) -> Self {
        Self::try_read_one(reader, head).unwrap()
    }

    fn try_read_one(reader: &mut impl BufRead, head: bool) -> io::Result<Self> {
        let truncated = |message: String| io::Error::new(io::ErrorKind::UnexpectedEof, message);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).ok_or_else(|| truncated(format!("no response: {line:?}")))?;
        let status = status.parse().unwrap();
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(truncated("the headers are truncated".into()));
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.entry(name.to_ascii_lowercase()).or_default().push(value.trim_start().to_owned());
        }
        let mut answer = Response { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if !head && !matches!(status, 204 | 304) {
            reader.take(length).read_to_end(&mut answer.body)?;
            if answer.body.len() as u64 != length {
                return Err(truncated("the body is truncated".into()));
            }
        }
        Ok(answer)
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]).into_owned();
        assert_eq!(self.status, status, "{:?} {body}", self.headers);
        self
    }

    /// Returns the first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|values| values[0].as_str())
    }

    /// Returns all headers of this name, in lower case.
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.headers.get(name).cloned().unwrap_or_default()
    }

    #[track_caller]
    /// Returns a header that has to be there.
    pub fn required_header(&self, name: &str) -> String {
        self.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).to_owned()
    }

    /// Returns the address to which a form redirects, without the seal of its result.
    #[track_caller]
    pub fn result_address(&self) -> String {
        let location = self.required_header("location");
        location.split("&seal=").next().unwrap().to_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the code of the first error.
    #[track_caller]
    pub fn error_code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}
