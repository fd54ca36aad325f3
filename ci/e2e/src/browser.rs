//! A real browser: Chromium without a window, driven over its DevTools protocol.

mod devtools;
mod tab;

pub use tab::{Key, Tab};

use std::process::Command;

use tempfile::TempDir;

use crate::process::Process;
use crate::services::directory;
use devtools::DevTools;

/// A running Chromium with a profile of its own. Dropping it kills it.
#[derive(Debug)]
pub struct Chromium {
    // Dropped in this order: nobody writes into the profile that is removed.
    _process: Process,
    _profile: TempDir,
    devtools: DevTools,
}

impl Chromium {
    /// Starts the `chromium` that is on the path, or the program that `CHROMIUM` names.
    ///
    /// # Panics
    /// If there is none, or it does not start.
    pub fn start() -> Self {
        let profile = directory();
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let mut command = Command::new(&program);
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            // It must not look for updates and the like: a test counts every request.
            .args(["--disable-background-networking", "--disable-component-update", "--no-first-run"])
            // Tests open several windows at one time from within the page.
            .args(["--disable-popup-blocking", "--log-level=3", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .env("TZ", "America/New_York");
        let mut process = Process::spawn(command);
        let line = process.line("DevTools listening on ");
        let address = line.split_whitespace().last().unwrap_or_default().to_owned();
        Self { devtools: DevTools::connect(&address), _process: process, _profile: profile }
    }

    /// Opens an empty tab of a size in pixels, with `light` or `dark` as the colours that the viewer
    /// prefers.
    ///
    /// # Panics
    /// If the browser refuses; so for all here.
    pub fn tab(&mut self, width: u32, height: u32, colours: &str) -> Tab<'_> {
        Tab::open(&mut self.devtools, width, height, colours)
    }
}
