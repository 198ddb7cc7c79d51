//! Inspects the browser: its console, its requests, and the findings of axe-core.

use std::path::Path;

use serde_json::{Value, json};

use super::chromium::{Chromium, Script};
use super::registry::Registry;
use crate::support::tools;

/// Client errors that tests provoke; Chromium logs them as errors.
const PROVOKED: [&str; 3] = ["status of 422", "status of 403", "status of 404"];

impl Chromium {
    /// Checks that the console has no errors, no policy was violated, and no other host was contacted.
    #[track_caller]
    pub fn assert_clean(&self) {
        let errors = self.errors();
        assert!(errors.is_empty(), "errors in the console: {errors:#?}");
        let requested = self.requested();
        let other_hosts: Vec<&String> = requested.iter().filter(|url| !self.is_ours(url)).collect();
        assert!(other_hosts.is_empty(), "requests to other hosts: {other_hosts:?}");
        assert!(
            requested.iter().any(|url| url.ends_with(".css")),
            "no requests were recorded: {requested:?}"
        );
    }

    /// Returns the errors and warnings in the console since the last call, without those that tests provoke.
    fn errors(&self) -> Vec<String> {
        let is_provoked = |text: &str| {
            text.contains("Failed to load resource") && PROVOKED.iter().any(|one| text.contains(one))
        };
        let serious = |entry: &Value| entry["level"] == "SEVERE" || entry["level"] == "WARNING";
        let console = self.log("browser").into_iter().filter(serious);
        let texts = console.map(|entry| entry["message"].as_str().unwrap().to_owned());
        texts.filter(|text| !is_provoked(text)).collect()
    }

    fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(&self.origin).is_some_and(|path| path.starts_with('/'))
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.session.call("POST", "/se/log", &json!({"type": kind}));
        entries.as_array().unwrap().clone()
    }

    /// Returns the addresses that the browser requested since the last call.
    fn requested(&self) -> Vec<String> {
        let entries = self.log("performance");
        let events = entries.iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            let is_request = event["method"] == "Network.requestWillBeSent";
            is_request.then(|| event["params"]["request"]["url"].as_str().unwrap().to_owned())
        });
        // These addresses cause no network traffic.
        events
            .filter(|url| {
                !["data:", "about:", "chrome:", "chrome-untrusted:"].iter().any(|kind| url.starts_with(kind))
            })
            .collect()
    }

    /// Returns the serious and critical findings of axe-core, each with its rule and element.
    pub fn faults(&self, axe: &str) -> Vec<String> {
        let script = format!(
            "var done = arguments[arguments.length - 1]; {axe}; axe.run(document, {{resultTypes: ['violations']}})\
             .then(function (found) {{ done(found.violations); }}, function (error) {{ done(String(error)); }});"
        );
        let found = self.session.call("POST", "/execute/async", &json!({"script": script, "args": []}));
        let found = found.as_array().unwrap_or_else(|| panic!("axe-core: {found}"));
        let serious = found.iter().filter(|one| one["impact"] == "serious" || one["impact"] == "critical");
        serious.flat_map(describe).collect()
    }

    pub fn emulate(&self, theme: &str, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.session.devtools("Emulation.setDeviceMetricsOverride", &size);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.session.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Saves a screenshot of the whole page.
    pub fn save_screenshot(&self, name: &str) {
        use base64::Engine;
        let options = json!({"format": "png", "captureBeyondViewport": true});
        let screenshot = self.session.devtools("Page.captureScreenshot", &options);
        let screenshot =
            base64::engine::general_purpose::STANDARD.decode(screenshot["data"].as_str().unwrap()).unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("{name}.png")), screenshot).unwrap();
    }
}

fn describe(violation: &Value) -> Vec<String> {
    let nodes = violation["nodes"].as_array().unwrap().iter();
    let line = |node: &Value| {
        format!(
            "{} ({}): {} in {}",
            violation["id"], violation["impact"], node["failureSummary"], node["html"]
        )
    };
    nodes.map(line).collect()
}

/// Returns the source of axe-core. `tests/run` downloads it, since its licence keeps it out of this repository.
pub fn axe() -> String {
    let place = tools::place("node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&place).unwrap_or_else(|error| {
        panic!("{}: {error}; npm install --prefix {} axe-core", place.display(), tools::place("").display())
    })
}

/// Checks the checks themselves.
#[test]
fn inspection_finds_faults_policy_violations_and_other_hosts() {
    let registry = Registry::with(|_| ());
    let browser = Chromium::start(&registry, Script::On);
    let axe = axe();
    assert!(browser.faults(&axe).is_empty() && browser.errors().is_empty());
    browser.run("document.querySelector('main').appendChild(document.createElement('button'))");
    let faults = browser.faults(&axe);
    assert!(faults.len() == 1 && faults[0].contains("button-name"), "{faults:?}");
    browser.run("document.querySelector('main').setAttribute('style', 'color: red')");
    assert!(
        browser.errors().iter().any(|error| error.contains("Content Security Policy")),
        "no violation was reported"
    );
    browser.session.call("POST", "/url", &json!({"url": registry.origin.replace("localhost", "127.0.0.1")}));
    assert!(
        browser.requested().iter().any(|url| !browser.is_ours(url)),
        "no request to another host was recorded"
    );
}
