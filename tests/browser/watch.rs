//! What a browser has to say of the pages: its console, what it asked for, and what axe-core finds.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::chromium::{Chromium, Script};
use super::registry::Registry;

/// Statuses that are answers to mistakes, which the tests make, and which Chromium calls errors.
const MISTAKES: [&str; 3] = ["status of 422", "status of 403", "status of 404"];

impl Chromium {
    /// Nothing in the console, no report of a policy that was broken, no request to anybody else.
    #[track_caller]
    pub fn check_silence(&self) {
        let errors = self.errors();
        assert!(errors.is_empty(), "the console says {errors:#?}");
        let asked = self.asked();
        let strangers: Vec<&String> = asked.iter().filter(|url| !self.is_ours(url)).collect();
        assert!(strangers.is_empty(), "asked somebody else: {strangers:?}");
        assert!(asked.iter().any(|url| url.ends_with(".css")), "nothing is recorded: {asked:?}");
    }

    /// What the console has had to say since the last time, but for recommendations and answers to mistakes.
    fn errors(&self) -> Vec<String> {
        let is_mistake = |text: &str| {
            text.contains("Failed to load resource") && MISTAKES.iter().any(|one| text.contains(one))
        };
        let serious = |entry: &Value| entry["level"] == "SEVERE" || entry["level"] == "WARNING";
        let console = self.log("browser").into_iter().filter(serious);
        let texts = console.map(|entry| entry["message"].as_str().unwrap().to_owned());
        texts.filter(|text| !is_mistake(text)).collect()
    }

    fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(&self.origin).is_some_and(|path| path.starts_with('/'))
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.session.call("POST", "/se/log", &json!({"type": kind}));
        entries.as_array().unwrap().clone()
    }

    /// All addresses that the pages have asked for since the last time.
    fn asked(&self) -> Vec<String> {
        let entries = self.log("performance");
        let events = entries.iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            let is_request = event["method"] == "Network.requestWillBeSent";
            is_request.then(|| event["params"]["request"]["url"].as_str().unwrap().to_owned())
        });
        // Its own pages and what a page carries in itself leave for nowhere.
        events
            .filter(|url| !["data:", "about:", "chrome:"].iter().any(|kind| url.starts_with(kind)))
            .collect()
    }

    /// The faults of the page that axe-core calls serious or critical, each with rule and element.
    pub fn faults(&self, axe: &str) -> Vec<String> {
        let script = format!(
            "var done = arguments[arguments.length - 1]; {axe}; axe.run(document, {{resultTypes: ['violations']}})\
             .then(function (found) {{ done(found.violations); }}, function (error) {{ done(String(error)); }});"
        );
        let found = self.session.call("POST", "/execute/async", &json!({"script": script, "args": []}));
        let found = found.as_array().unwrap_or_else(|| panic!("axe-core: {found}"));
        let serious = found.iter().filter(|one| one["impact"] == "serious" || one["impact"] == "critical");
        serious.flat_map(told).collect()
    }

    pub fn emulate(&self, theme: &str, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.session.devtools("Emulation.setDeviceMetricsOverride", &size);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.session.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Keeps a picture of the whole page.
    pub fn take_picture(&self, name: &str) {
        use base64::Engine;
        let options = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.session.devtools("Page.captureScreenshot", &options);
        let picture =
            base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("{name}.png")), picture).unwrap();
    }
}

fn told(violation: &Value) -> Vec<String> {
    let nodes = violation["nodes"].as_array().unwrap().iter();
    let line = |node: &Value| {
        format!(
            "{} ({}): {} in {}",
            violation["id"], violation["impact"], node["failureSummary"], node["html"]
        )
    };
    nodes.map(line).collect()
}

/// The source of axe-core. Its licence keeps it out of this repository; `tests/run` fetches it.
pub fn axe() -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
    let place: PathBuf = target.join("tools/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&place).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; npm install --prefix {} axe-core",
            place.display(),
            target.join("tools").display()
        )
    })
}

/// The checks would fail if there were something.
#[test]
fn what_is_wrong_is_heard() {
    let registry = Registry::with(|_| ());
    let browser = Chromium::start(&registry, Script::On);
    let axe = axe();
    assert!(browser.faults(&axe).is_empty() && browser.errors().is_empty());
    browser.run("document.querySelector('main').appendChild(document.createElement('button'))");
    let faults = browser.faults(&axe);
    assert!(faults.len() == 1 && faults[0].contains("button-name"), "{faults:?}");
    browser.run("document.querySelector('main').setAttribute('style', 'color: red')");
    assert!(browser.errors().iter().any(|error| error.contains("Content Security Policy")), "no report");
    browser.session.call("POST", "/url", &json!({"url": registry.origin.replace("localhost", "127.0.0.1")}));
    assert!(browser.asked().iter().any(|url| !browser.is_ours(url)), "a request to another host is not seen");
}
