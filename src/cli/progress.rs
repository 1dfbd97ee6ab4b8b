//! What a run tells while it works: moving lines on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output;
use super::settings::Settings;
use crate::build::{Event, Sink};
use crate::cache::RunLog;

/// Shows events, and records them.
pub(super) struct Progress {
    mode: Mode,
    bars: MultiProgress,
    lines: Mutex<BTreeMap<String, ProgressBar>>,
    log: Mutex<Option<RunLog>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Plain,
    Silent,
}

impl Progress {
    pub(super) fn new(settings: &Settings, log: Option<RunLog>) -> Progress {
        let mode = match (settings.live, settings.quiet) {
            (true, _) => Mode::Live,
            (false, false) => Mode::Plain,
            (false, true) => Mode::Silent,
        };
        Progress {
            mode,
            bars: MultiProgress::new(),
            lines: Mutex::new(BTreeMap::new()),
            log: Mutex::new(log),
        }
    }

    fn say(&self, text: &str) {
        match self.mode {
            Mode::Live => {
                let _ = self.bars.println(text);
            }
            Mode::Plain => output::stderr(&format!("{text}\n")),
            Mode::Silent => {}
        }
    }

    fn begin(&self, key: &str, text: String) {
        match self.mode {
            Mode::Live => {
                let bar = self.bars.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                    bar.set_style(style);
                }
                bar.set_message(text);
                bar.enable_steady_tick(Duration::from_millis(100));
                self.lines.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), bar);
            }
            Mode::Plain => self.say(&text),
            Mode::Silent => {}
        }
    }

    fn end(&self, key: &str, text: Option<String>) {
        if let Some(bar) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(key) {
            bar.finish_and_clear();
        }
        if let Some(text) = text {
            self.say(&text);
        }
    }

    fn show(&self, event: &Event) {
        match event {
            Event::ToolchainFetching { toolchain } => self.begin(toolchain, format!("fetching  {toolchain}")),
            Event::ToolchainFetched { toolchain, ms } => {
                self.end(toolchain, Some(format!("fetched   {toolchain} in {}", output::duration(*ms))));
            }
            Event::ToolchainFailed { toolchain } => {
                self.end(toolchain, Some(format!("failed    {toolchain}")))
            }
            Event::SourceStarted { source } if self.mode == Mode::Live => {
                self.begin(source, format!("reading   {source}"));
            }
            Event::SourceKnown { source } => self.end(source, None),
            Event::Started { .. }
            | Event::SourceStarted { .. }
            | Event::Planned { .. }
            | Event::Published { .. } => {}
            Event::SourceRead { source, ms } => {
                self.end(source, Some(format!("read      {source} in {}", output::duration(*ms))));
            }
            Event::SourceFailed { source } => self.end(source, Some(format!("failed    {source}"))),
            Event::PrepareStarted { engine } if self.mode == Mode::Live => {
                self.begin(engine, format!("preparing {engine}"));
            }
            Event::PrepareStarted { .. } => {}
            Event::PrepareFinished { engine, ms } => {
                self.end(engine, Some(format!("prepared  {engine} in {}", output::duration(*ms))));
            }
            Event::PrepareFailed { engine } => self.end(engine, Some(format!("failed    {engine}"))),
            Event::BuildStarted { engine, engines } => {
                let others = match engines.len() {
                    0 | 1 => String::new(),
                    n => format!(" (and {} with equal inputs)", n - 1),
                };
                self.begin(engine, format!("building  {engine}{others}"));
            }
            Event::BuildWaiting { engine, pid } => {
                self.say(&format!("waiting   {engine}: process {pid} builds it"));
            }
            Event::BuildFinished { engine, from_cache: true, .. } => {
                self.end(engine, Some(format!("found     {engine}: another process built it")));
            }
            Event::BuildFinished { engine, ms, size, .. } => {
                let (size, time) = (output::size(*size), output::duration(*ms));
                self.end(engine, Some(format!("built     {engine}: {size} in {time}")));
            }
            Event::BuildFailed { engine, message, .. } => {
                self.end(engine, Some(format!("failed    {engine}: {message}")));
            }
            Event::MeasureStarted { engine, samples } => {
                let samples = output::count(usize::try_from(*samples).unwrap_or(usize::MAX), "sample");
                self.begin(engine, format!("measuring {engine}: {samples}"));
            }
            Event::MeasureFinished { engine, ms, verdict } => {
                let time = output::duration(*ms);
                self.end(engine, Some(format!("measured  {engine}: {verdict} in {time}")));
            }
            Event::MeasureFailed { engine, message, .. } => {
                self.end(engine, Some(format!("failed    {engine}: {message}")));
            }
            Event::Warning { message } => self.say(&format!("warning: {message}")),
        }
    }
}

impl Sink for Progress {
    fn event(&self, event: &Event) {
        if let Some(log) = &mut *self.log.lock().unwrap_or_else(PoisonError::into_inner) {
            // A run whose record cannot be written goes on.
            let _ = log.event(&serde_json::json!(event));
        }
        self.show(event);
    }
}
