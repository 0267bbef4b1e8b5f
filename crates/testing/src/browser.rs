//! Headless Chromium, controlled through chromedriver (W3C WebDriver).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Curl;
use super::run::Started;

/// The key of an element reference in WebDriver's responses.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser window.
#[derive(Debug)]
pub struct Browser {
    session: String,
    _driver: Started,
    _profile: TempDir,
}

/// An element of the page.
#[derive(Clone, Debug)]
pub struct Element(String);

impl Browser {
    /// Starts a browser that accepts every certificate, like a user who ignores the warning.
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver");
        let mut driver = Started::by(driver.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()));
        let said = BufReader::new(driver.stdout.take().expect("stdout is a pipe")).lines();
        let port = said.map_while(Result::ok).find_map(|line| {
            Some(
                line.split_once("successfully on port ")?
                    .1
                    .trim_end_matches('.')
                    .to_owned(),
            )
        });
        let port = port.filter(|port| port.parse::<u16>().is_ok());
        let url = format!(
            "http://127.0.0.1:{}/session",
            port.expect("chromedriver prints its port")
        );
        let profile = tempfile::tempdir().expect("a temporary folder");
        let options = json!({
            "args": [
                "--headless=new",
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-proxy-server",
                "--window-size=1200,900",
                format!("--user-data-dir={}", profile.path().display()),
            ],
        });
        let wishes = json!({"capabilities": {"alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let answer = post(&url, &wishes);
        let session = answer["sessionId"].as_str().expect("a session").to_owned();
        Self {
            session: format!("{url}/{session}"),
            _driver: driver,
            _profile: profile,
        }
    }

    pub fn open(&self, url: &str) {
        self.post("url", &json!({"url": url}));
    }

    /// Runs a script and returns its value. It runs even if the page's CSP forbids scripts.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Returns the rendered texts of all visible elements.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let script = format!(
            "return [...document.querySelectorAll({})].filter(e => e.checkVisibility()).map(e => e.innerText)",
            Value::from(selector)
        );
        let texts = self.run(&script);
        let texts = texts.as_array().expect("a list").iter();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        self.texts(selector)
            .into_iter()
            .next()
            .unwrap_or_else(|| panic!("nothing is shown at {selector}"))
    }

    pub fn find(&self, selector: &str) -> Element {
        let found = self.post("element", &json!({"using": "css selector", "value": selector}));
        Element(found[ELEMENT].as_str().expect("an element").to_owned())
    }

    /// Types the text key by key. `\u{e000}` and the code points after it are WebDriver's special keys.
    pub fn type_into(&self, element: &Element, text: &str) {
        self.post(&format!("element/{}/value", element.0), &json!({"text": text}));
    }

    pub fn click(&self, element: &Element) {
        self.post(&format!("element/{}/click", element.0), &json!({}));
    }

    /// Sends a command of the Chrome DevTools Protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    /// Returns the messages of the browser's console: blocked styles and scripts, script errors, failed requests.
    pub fn complaints(&self) -> Vec<String> {
        self.log("browser")
            .iter()
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    /// Returns the URLs of all requests that the browser sent over the network.
    pub fn requests(&self) -> Vec<String> {
        let request = |entry: &Value| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let sent = message["message"]["method"] == "Network.requestWillBeSent";
            let url = message["message"]["params"]["request"]["url"].as_str()?;
            (sent && !url.starts_with("chrome:") && !url.starts_with("data:")).then(|| url.to_owned())
        };
        self.log("performance").iter().filter_map(request).collect()
    }

    /// Writes a screenshot of the whole page to a PNG file.
    pub fn picture(&self, file: &Path) {
        let picture = self.post(
            "goog/cdp/execute",
            &json!({
                "cmd": "Page.captureScreenshot",
                "params": {"captureBeyondViewport": true},
            }),
        );
        let picture = picture["data"].as_str().expect("a picture");
        std::fs::write(file, BASE64.decode(picture.as_bytes()).expect("base64")).expect("a file can be written");
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.post("se/log", &json!({"type": kind}))
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        post(&format!("{}/{command}", self.session), body)
    }
}

fn post(url: &str, body: &Value) -> Value {
    let answer = Curl::get(url).with([
        "--header",
        "Content-Type: application/json",
        "--data",
        &body.to_string(),
    ]);
    let answer = answer.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["value"].clone()
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Deleting the session ends the browser.
        let _ = Curl::get(&self.session).method("DELETE").send();
    }
}
