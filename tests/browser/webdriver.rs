//! A WebDriver client: JSON over HTTP to chromedriver. The crates for it bring a licence that `deny.toml` refuses, or
//! enable features of serde_json in the tested daemon.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Response;

/// The timeout of a command; page loads and scripts have shorter ones.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The JSON key of element ids in WebDriver.
pub const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Session {
    address: SocketAddr,
    path: String,
}

impl Session {
    pub fn open(address: SocketAddr, capabilities: &Value) -> Self {
        let body = json!({"capabilities": {"alwaysMatch": capabilities}});
        let answer = send(address, "POST", "/session", &body).unwrap();
        Session { address, path: format!("/session/{}", answer["sessionId"].as_str().unwrap()) }
    }

    /// Sends a command and returns its value, or the error.
    pub fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        send(self.address, method, &format!("{}{path}", self.path), body)
    }

    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_call(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends a command of the Chrome DevTools Protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.call("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }
}

fn send(address: SocketAddr, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let body = if method == "POST" { body.to_string() } else { String::new() };
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()))
        .map_err(|error| error.to_string())?;
    let answer = Response::try_read(&mut stream, false).map_err(|error| error.to_string())?;
    let value = answer.json()["value"].take();
    if answer.status == 200 { Ok(value) } else { Err(format!("{}: {}", value["error"], value["message"])) }
}
