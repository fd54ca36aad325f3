//! One page of the browser: what it shows, what it asks for, what it complains of, and a hand on its
//! mouse and keyboard.

use std::fmt::Display;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::devtools::DevTools;
use crate::until::DEADLINE;

/// Pause between two looks at the page.
const PAUSE: Duration = Duration::from_millis(20);
/// Moves of the mouse in one drag.
const DRAG_STEPS: u32 = 8;

/// A key that has a name instead of a letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names on the keys")]
pub enum Key {
    Tab,
    Enter,
    Space,
    ArrowLeft,
    ArrowRight,
    ArrowDown,
    Escape,
}

impl Key {
    /// Its name, its code in old scripts, and the text it writes.
    fn parts(self) -> (&'static str, &'static str, u32, &'static str) {
        match self {
            Self::Tab => ("Tab", "Tab", 9, ""),
            Self::Enter => ("Enter", "Enter", 13, "\r"),
            Self::Space => (" ", "Space", 32, " "),
            Self::ArrowLeft => ("ArrowLeft", "ArrowLeft", 37, ""),
            Self::ArrowRight => ("ArrowRight", "ArrowRight", 39, ""),
            Self::ArrowDown => ("ArrowDown", "ArrowDown", 40, ""),
            Self::Escape => ("Escape", "Escape", 27, ""),
        }
    }
}

/// A tab, which is closed when it is dropped. What goes wrong in it fails the test, with what it was.
#[derive(Debug)]
pub struct Tab<'a> {
    devtools: &'a mut DevTools,
    session: String,
    target: Value,
    requests: Vec<String>,
    problems: Vec<String>,
}

impl<'a> Tab<'a> {
    pub(super) fn open(devtools: &'a mut DevTools, width: u32, height: u32, colours: &str) -> Self {
        let target = devtools.call("", "Target.createTarget", json!({ "url": "about:blank" }));
        let target = target["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let session =
            devtools.call("", "Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        let mut tab = Self { devtools, session, target, requests: Vec::new(), problems: Vec::new() };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.call(&format!("{domain}.enable"), json!({}));
        }
        // A screenshot of the whole page has no scrollbar, so it must not take its width either.
        tab.call("Emulation.setScrollbarsHidden", json!({ "hidden": true }));
        tab.resize(width, height);
        tab.prefer(colours);
        tab
    }

    /// Changes the size of the page; a narrow one is a phone, with a touch screen.
    pub fn resize(&mut self, width: u32, height: u32) {
        let is_phone = width < 500;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        self.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": is_phone }));
    }

    /// Sets the colours that the viewer prefers: `light` or `dark`.
    pub fn prefer(&mut self, colours: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": colours }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Goes to an address and waits until it is loaded.
    pub fn go(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({ "url": url }));
        assert_eq!(gone["errorText"], Value::Null, "{url}: {gone}");
        self.until("load", "document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// The value of an expression of JavaScript, a promise's after it is kept.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        self.try_evaluate(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The text of the first element that fits a selector.
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!("document.querySelector({}).textContent", quoted(selector)));
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true, within the tests' deadline, and returns its value.
    pub fn until(&mut self, what: impl Display, expression: &str) -> Value {
        let by = Instant::now() + DEADLINE;
        loop {
            // While a page is being loaded there is nothing to evaluate in.
            let found = self.try_evaluate(expression);
            if let Ok(value) = &found
                && !matches!(value, Value::Null | Value::Bool(false))
                && value.as_f64() != Some(0.0)
            {
                return value.clone();
            }
            if Instant::now() > by {
                let body = self.evaluate("document.body.innerText.slice(0, 2000)");
                let problems = self.problems();
                panic!(
                    "no {what} within {DEADLINE:?}: {found:?}; problems {problems:?}; the page shows {body}"
                );
            }
            thread::sleep(PAUSE);
        }
    }

    /// Writes what the tab shows to a file: all of the page, also what is beyond the window.
    pub fn screenshot(&mut self, path: &Path) {
        let size = &self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"];
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let asked = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let shot = self.call("Page.captureScreenshot", asked);
        let bytes = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The middle of the first element that fits a selector, scrolled into view.
    pub fn middle(&mut self, selector: &str) -> (f64, f64) {
        let script = format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{ block: 'center' }});
               const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()",
            quoted(selector)
        );
        let place = self.evaluate(&script);
        (place[0].as_f64().unwrap(), place[1].as_f64().unwrap())
    }

    /// Clicks into the middle of the first element that fits a selector.
    pub fn click(&mut self, selector: &str) {
        let at = self.middle(selector);
        self.drag(at, at);
    }

    /// Presses the mouse at a place, moves it to another one and lets it go.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.mouse("mouseMoved", from, 0);
        self.mouse("mousePressed", from, 1);
        for step in 1..=DRAG_STEPS {
            let part = f64::from(step) / f64::from(DRAG_STEPS);
            let at = (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
            self.mouse("mouseMoved", at, 1);
        }
        self.mouse("mouseReleased", to, 1);
    }

    /// Moves a finger from a place to another one.
    pub fn swipe(&mut self, from: (f64, f64), to: (f64, f64)) {
        let mut touch = |kind: &str, points: Value| {
            self.call("Input.dispatchTouchEvent", json!({ "type": kind, "touchPoints": points }));
        };
        touch("touchStart", json!([{ "x": from.0, "y": from.1 }]));
        for step in 1..=DRAG_STEPS {
            let part = f64::from(step) / f64::from(DRAG_STEPS);
            let (x, y) = (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
            touch("touchMove", json!([{ "x": x, "y": y }]));
        }
        touch("touchEnd", json!([]));
    }

    /// Presses and releases a key.
    pub fn press(&mut self, key: Key) {
        let (name, code, number, text) = key.parts();
        for kind in ["keyDown", "keyUp"] {
            let mut event =
                json!({ "type": kind, "key": name, "code": code, "windowsVirtualKeyCode": number });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types a text.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Every address that was asked for up to now.
    pub fn requests(&mut self) -> &[String] {
        self.look();
        &self.requests
    }

    /// What the page complained of up to now: exceptions, errors and warnings, whether its own or the
    /// browser's.
    pub fn problems(&mut self) -> &[String] {
        self.look();
        &self.problems
    }

    /// How many nodes and listeners the page holds after the garbage is collected, those of elements that
    /// are no longer shown included.
    pub fn held(&mut self) -> (u64, u64) {
        self.call("HeapProfiler.collectGarbage", json!({}));
        let counts = self.call("Memory.getDOMCounters", json!({}));
        (counts["nodes"].as_u64().unwrap(), counts["jsEventListeners"].as_u64().unwrap())
    }

    fn try_evaluate(&mut self, expression: &str) -> Result<Value, Value> {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut found = self.devtools.try_call(&self.session, "Runtime.evaluate", asked)?;
        match found.get("exceptionDetails") {
            Some(details) => Err(details["exception"]["description"].clone()),
            None => Ok(found["result"]["value"].take()),
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.devtools.call(&self.session, method, params)
    }

    fn mouse(&mut self, kind: &str, (x, y): (f64, f64), buttons: u32) {
        let event =
            json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1 });
        self.call("Input.dispatchMouseEvent", event);
    }

    fn look(&mut self) {
        for event in self.devtools.take_events() {
            if event.session != self.session {
                continue;
            }
            let params = event.params;
            match event.method.as_str() {
                "Network.requestWillBeSent" => {
                    self.requests.push(params["request"]["url"].as_str().unwrap_or_default().to_owned());
                }
                "Runtime.exceptionThrown" => self.problems.push(params["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled"
                    if matches!(params["type"].as_str(), Some("error" | "warning" | "assert")) =>
                {
                    self.problems.push(params["args"].to_string());
                }
                "Log.entryAdded"
                    if matches!(params["entry"]["level"].as_str(), Some("error" | "warning")) =>
                {
                    self.problems.push(params["entry"].to_string());
                }
                _ => {}
            }
        }
    }
}

impl Drop for Tab<'_> {
    fn drop(&mut self) {
        // A browser that is gone, which failed the test before, has no tabs.
        if !thread::panicking() {
            let _ = self.devtools.try_call("", "Target.closeTarget", json!({ "targetId": self.target }));
        }
    }
}

/// A text as JavaScript writes it.
fn quoted(text: &str) -> Value {
    Value::from(text)
}
