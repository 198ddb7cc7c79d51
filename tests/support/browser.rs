//! A simulated browser: stores cookies, sends Origin, and submits the CSRF token of its last page.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;

pub struct Browser {
    address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
    /// The CSRF token of the last page with a form.
    pub token: String,
    headers: Vec<(String, String)>,
}

impl Browser {
    pub fn new(daemon: &Daemon) -> Self {
        Browser::at(daemon.address)
    }

    pub fn at(address: SocketAddr) -> Self {
        Browser { address, cookies: BTreeMap::new(), token: String::new(), headers: Vec::new() }
    }

    /// Logs in.
    #[track_caller]
    pub fn of(daemon: &Daemon, name: &str, password: &str) -> Self {
        let mut browser = Browser::new(daemon);
        browser.log_in(name, password).expect(303);
        browser
    }

    /// Adds a header to every request.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::new(self.address, method, path).header("Accept", "text/html,*/*;q=0.8");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if cookies.is_empty() { request } else { request.header("Cookie", &cookies.join("; ")) }
    }

    pub fn get(&mut self, path: &str) -> Response {
        let answer = self.request("GET", path).send();
        self.remember(answer)
    }

    /// Returns the text of a page; panics unless its status is 200.
    #[track_caller]
    pub fn page(&mut self, path: &str) -> String {
        text(&self.get(path).expect(200))
    }

    /// Submits a form with the CSRF token, from a page of the registry.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let token = self.token.clone();
        let mut fields = fields.to_vec();
        fields.push(("token", &token));
        self.post_as(path, &fields, "http://registry")
    }

    /// Submits a form with these fields only, from a page of `origin`; without the header if it is empty.
    pub fn post_as(&mut self, path: &str, fields: &[(&str, &str)], origin: &str) -> Response {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let request = self.request("POST", path).header("Content-Type", "application/x-www-form-urlencoded");
        let request = if origin.is_empty() { request } else { request.header("Origin", origin) };
        let answer = request.body(body.finish().as_bytes()).send();
        self.remember(answer)
    }

    pub fn log_in(&mut self, name: &str, password: &str) -> Response {
        self.get("/login");
        let answer = self.post("/login", &[("name", name), ("password", password), ("next", "/")]);
        if answer.status == 303 {
            self.get("/push");
        }
        answer
    }

    /// Deletes tags through their confirmation.
    #[track_caller]
    pub fn delete(&mut self, name: &str, tags: &[&str]) -> Response {
        let fields = self.confirmation(name, tags);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.post("/delete", &fields)
    }

    /// Returns the fields of the form that confirms the delete of tags.
    #[track_caller]
    pub fn confirmation(&mut self, name: &str, tags: &[&str]) -> Vec<(&'static str, String)> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("name", name).extend_pairs(tags.iter().map(|tag| ("tag", tag)));
        let confirmation = self.page(&format!("/delete?{}", query.finish()));
        let values = confirmation.split("name=\"tag\" value=\"").skip(1);
        let tags = values.map(|rest| ("tag", rest.split('"').next().unwrap().to_owned()));
        std::iter::once(("name", name.to_owned())).chain(tags).collect()
    }

    /// Stores the cookies and the CSRF token of an answer.
    fn remember(&mut self, answer: Response) -> Response {
        for cookie in answer.headers("set-cookie") {
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if rest.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let page = text(&answer);
        if let Some((_, rest)) = page.split_once("name=\"token\" value=\"") {
            self.token = rest.split('"').next().unwrap().to_owned();
        }
        answer
    }
}

pub fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}
