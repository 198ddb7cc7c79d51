//! Clicks, types and reads in the browser. Each step waits for its element, for 30 seconds at most.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::chromium::Chromium;
use super::webdriver::ELEMENT;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Key codes of WebDriver.
pub const SHIFT: char = '\u{e008}';
pub const CONTROL: char = '\u{e009}';
pub const TAB: char = '\u{e004}';
pub const ENTER: char = '\u{e007}';

/// Polls until `attempt` succeeds.
#[track_caller]
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(error) => assert!(started.elapsed() < TIMEOUT, "{what}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Chromium {
    pub fn open(&self, path: &str) {
        self.session.call("POST", "/url", &json!({"url": format!("{}{path}", self.origin)}));
    }

    /// Returns the path and query of the current page.
    pub fn address(&self) -> String {
        let url = self.session.call("GET", "/url", &Value::Null);
        url.as_str().unwrap().strip_prefix(&self.origin).unwrap().to_owned()
    }

    #[track_caller]
    pub fn wait_for_address(&self, wanted: &str) {
        wait_for(wanted, || {
            let address = self.address();
            if address == wanted {
                Ok(())
            } else {
                Err(format!("the page is {address}: {}", self.text("body")))
            }
        });
    }

    /// Returns the elements of a selector without waiting.
    pub fn try_all(&self, selector: &str) -> Result<Vec<String>, String> {
        let by = json!({"using": "css selector", "value": selector});
        let found = self.session.try_call("POST", "/elements", &by)?;
        let id = |one: &Value| one[ELEMENT].as_str().unwrap().to_owned();
        Ok(found.as_array().unwrap().iter().map(id).collect())
    }

    pub fn count(&self, selector: &str) -> usize {
        self.try_all(selector).unwrap().len()
    }

    #[track_caller]
    pub fn find(&self, selector: &str) -> String {
        wait_for(selector, || {
            self.try_all(selector)?
                .into_iter()
                .next()
                .ok_or_else(|| format!("not found on {}", self.session.call("GET", "/url", &Value::Null)))
        })
    }

    fn with(&self, selector: &str, method: &str, what: &str, body: &Value) -> Value {
        wait_for(selector, || {
            let element = self.find(selector);
            self.session.try_call(method, &format!("/element/{element}/{what}"), body)
        })
    }

    pub fn click(&self, selector: &str) {
        self.with(selector, "POST", "click", &json!({}));
    }

    /// Clicks the first link with a text.
    #[track_caller]
    pub fn click_link(&self, text: &str) {
        let by = json!({"using": "link text", "value": text});
        wait_for(text, || {
            let found = self.session.try_call("POST", "/element", &by)?;
            let path = format!("/element/{}/click", found[ELEMENT].as_str().unwrap());
            self.session.try_call("POST", &path, &json!({}))
        });
    }

    /// Replaces the text of a field.
    pub fn fill(&self, selector: &str, text: &str) {
        self.with(selector, "POST", "clear", &json!({}));
        self.write(selector, text);
    }

    pub fn write(&self, selector: &str, text: &str) {
        self.with(selector, "POST", "value", &json!({"text": text}));
    }

    /// Returns the visible text of an element.
    pub fn text(&self, selector: &str) -> String {
        self.with(selector, "GET", "text", &Value::Null).as_str().unwrap().to_owned()
    }

    /// Returns the text of each visible element of a selector; waits until there is one.
    #[track_caller]
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let text = |id: &String| {
            let path = format!("/element/{id}/text");
            self.session.try_call("GET", &path, &Value::Null).map(|text| text.as_str().unwrap().to_owned())
        };
        wait_for(selector, || {
            let mut texts = self.try_all(selector)?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
            texts.retain(|text| !text.is_empty());
            if texts.is_empty() { Err("no visible element".into()) } else { Ok(texts) }
        })
    }

    pub fn property(&self, selector: &str, name: &str) -> Value {
        self.with(selector, "GET", &format!("property/{name}"), &Value::Null)
    }

    #[track_caller]
    pub fn expect(&self, selector: &str, part: &str) {
        wait_for(&format!("{part:?} in {selector}"), || {
            let text = self.text(selector);
            if text.contains(part) { Ok(()) } else { Err(format!("the text is {text:?}")) }
        });
    }

    /// Presses keys in sequence.
    pub fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        self.act(&actions);
    }

    /// Runs an action while a key is held down.
    pub fn holding(&self, key: char, then: impl FnOnce()) {
        self.act(&[json!({"type": "keyDown", "value": key})]);
        then();
        self.act(&[json!({"type": "keyUp", "value": key})]);
    }

    fn act(&self, actions: &[Value]) {
        let keys = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.session.call("POST", "/actions", &keys);
    }

    pub fn run(&self, script: &str) -> Value {
        self.session.call("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }
}
