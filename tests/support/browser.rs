//! A browser without a window: keeps cookies, says where it comes from, and sends the token of the page it has.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;

pub struct Browser {
    address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
    /// The token of the last page that had one.
    pub token: String,
    more: Vec<(String, String)>,
}

impl Browser {
    pub fn new(daemon: &Daemon) -> Self {
        Browser::at(daemon.address)
    }

    pub fn at(address: SocketAddr) -> Self {
        Browser { address, cookies: BTreeMap::new(), token: String::new(), more: Vec::new() }
    }

    /// As somebody who is logged in.
    #[track_caller]
    pub fn of(daemon: &Daemon, name: &str, password: &str) -> Self {
        let mut browser = Browser::new(daemon);
        browser.log_in(name, password).expect(303);
        browser
    }

    /// Sends a header with everything.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.more.push((name.into(), value.into()));
        self
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::new(self.address, method, path).header("Accept", "text/html,*/*;q=0.8");
        for (name, value) in &self.more {
            request = request.header(name, value);
        }
        if cookies.is_empty() { request } else { request.header("Cookie", &cookies.join("; ")) }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        let answer = self.request("GET", path).send();
        self.keep(answer)
    }

    /// The text of a page that has to be there.
    #[track_caller]
    pub fn page(&mut self, path: &str) -> String {
        text(&self.get(path).expect(200))
    }

    /// Sends a form as its page does.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.token.clone();
        let mut fields = fields.to_vec();
        fields.push(("token", &token));
        self.post_as(path, &fields, "http://registry")
    }

    /// Sends a form with just these fields, from this origin.
    pub fn post_as(&mut self, path: &str, fields: &[(&str, &str)], origin: &str) -> Answer {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let request = self.request("POST", path).header("Content-Type", "application/x-www-form-urlencoded");
        let request = if origin.is_empty() { request } else { request.header("Origin", origin) };
        let answer = request.body(body.finish().as_bytes()).send();
        self.keep(answer)
    }

    pub fn log_in(&mut self, name: &str, password: &str) -> Answer {
        self.get("/login");
        let answer = self.post("/login", &[("name", name), ("password", password), ("next", "/")]);
        if answer.status == 303 {
            self.get("/push");
        }
        answer
    }

    /// Asks about tags and says yes to what the question shows.
    #[track_caller]
    pub fn delete(&mut self, name: &str, tags: &[&str]) -> Answer {
        let fields = self.doomed(name, tags);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.post("/delete", &fields)
    }

    /// The fields of the question about some tags.
    #[track_caller]
    pub fn doomed(&mut self, name: &str, tags: &[&str]) -> Vec<(&'static str, String)> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("name", name).extend_pairs(tags.iter().map(|tag| ("tag", tag)));
        let question = self.page(&format!("/delete?{}", query.finish()));
        let values = question.split("name=\"tag\" value=\"").skip(1);
        let tags = values.map(|rest| ("tag", rest.split('"').next().unwrap().to_owned()));
        std::iter::once(("name", name.to_owned())).chain(tags).collect()
    }

    fn keep(&mut self, answer: Answer) -> Answer {
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

pub fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}
