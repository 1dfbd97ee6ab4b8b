//! What a run tells while it works: one moving line for each engine in flight and one for all on a terminal, plain lines
//! elsewhere. The same lines go to the log file, and the events to the record of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output;
use super::settings::Settings;
use crate::build::{Event, Made, Sink};
use crate::cache::RunLog;
use crate::plan::Action;

/// What takes less than this is not worth a line, nor a moving one.
const SHORT: Duration = Duration::from_millis(250);
/// How often moving lines are drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Shows events, and records them.
pub(super) struct Progress {
    mode: Mode,
    verbose: bool,
    started: Instant,
    live: Arc<Live>,
    log: Mutex<Option<RunLog>>,
}

/// The moving lines.
#[derive(Default)]
struct Live {
    bars: MultiProgress,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Plain,
    Silent,
}

/// What is in flight, and how far the run is.
#[derive(Default)]
struct State {
    lines: BTreeMap<String, Line>,
    /// The line below all others.
    total: Option<Line>,
    /// Engines of this run; 0 if it is none that has engines to finish.
    engines: usize,
    /// Engines that needed nothing.
    unchanged: usize,
    ready: usize,
    failed: usize,
    in_flight: BTreeSet<String>,
}

/// A moving line, which is seen when what it tells of has lasted.
struct Line {
    text: String,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Line {
    fn new(text: String) -> Line {
        Line { text, since: Instant::now(), bar: None }
    }

    /// Shows it, if it is time to: with a bar that is put where it belongs.
    fn draw(&mut self, template: &str, put: impl FnOnce(ProgressBar) -> ProgressBar) {
        if self.bar.is_none() && self.since.elapsed() >= SHORT {
            let bar = ProgressBar::new_spinner().with_elapsed(self.since.elapsed());
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            self.bar = Some(put(bar));
        }
        if let Some(bar) = &self.bar {
            bar.set_message(output::lines(&self.text));
            bar.tick();
        }
    }

    fn clear(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Live {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self) {
        let State { lines, total, .. } = &mut *self.state();
        if let Some(line) = total {
            line.draw("  {elapsed:>4}  {wide_msg}", |bar| self.bars.add(bar));
        }
        let total = total.as_ref().and_then(|line| line.bar.as_ref());
        for line in lines.values_mut() {
            line.draw("{spinner} {elapsed:>4}  {wide_msg}", |bar| match total {
                Some(total) => self.bars.insert_before(total, bar),
                None => self.bars.add(bar),
            });
        }
    }

    /// Draws as long as somebody has lines to show.
    fn start(live: &Arc<Live>) {
        let live = Arc::downgrade(live);
        let drawing = move || {
            while let Some(live) = live.upgrade() {
                live.draw();
                drop(live);
                std::thread::sleep(FRAME);
            }
        };
        // Without a thread nothing moves, and the run goes on.
        let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(drawing);
    }
}

/// What to do with a line.
enum Step {
    /// Something begins: the line stays until it ends.
    Begin(String, String),
    /// The same for what is mostly short: told elsewhere when it ends.
    BeginQuietly(String, String),
    /// Something ends, with something to say.
    End(String, String),
    /// Something ends, and only those who want everything are told.
    EndQuietly(String, String),
    /// Only those who want everything are told.
    Detail(String),
    Say(String),
}

impl Progress {
    pub(super) fn new(settings: &Settings, log: Option<RunLog>) -> Progress {
        let mode = match (settings.live, settings.quiet) {
            (true, _) => Mode::Live,
            (false, false) => Mode::Plain,
            (false, true) => Mode::Silent,
        };
        let live = Arc::default();
        if mode == Mode::Live {
            Live::start(&live);
        }
        Progress { mode, verbose: settings.verbose, started: Instant::now(), live, log: Mutex::new(log) }
    }

    /// Prints a line; below the moving ones it would be in their way.
    fn say(&self, text: &str) {
        // Names of nodes and what TensorRT says of them are not ours.
        let text = output::lines(text);
        let timed = || format!("{:>8.2} s  {text}\n", self.started.elapsed().as_secs_f64());
        let shown = if self.verbose { timed() } else { format!("{text}\n") };
        match self.mode {
            Mode::Live => {
                let _ = self.live.bars.println(shown.trim_end());
            }
            Mode::Plain => output::stderr_only(&shown),
            Mode::Silent => {}
        }
        output::log(&timed());
    }

    /// For those who want everything: `-v`, and the log file.
    fn detail(&self, text: &str) {
        if self.verbose {
            self.say(text);
        } else {
            let text = output::lines(text);
            output::log(&format!("{:>8.2} s  {text}\n", self.started.elapsed().as_secs_f64()));
        }
    }

    fn begin(&self, key: String, text: String) {
        self.detail(&text);
        if let Some(old) = self.live.state().lines.insert(key, Line::new(text)) {
            old.clear();
        }
    }

    fn end(&self, key: &str) {
        if let Some(line) = self.live.state().lines.remove(key) {
            line.clear();
        }
    }

    /// Keeps count, and the line for all of them.
    fn count(&self, event: &Event) {
        let mut state = self.live.state();
        match event {
            Event::RunStarted { engines, .. } => state.engines = *engines,
            Event::Planned { action: Action::UpToDate, .. } => state.unchanged += 1,
            Event::BuildStarted { engines, .. } => state.in_flight.extend(engines.iter().cloned()),
            Event::MeasureStarted { engine, .. } => {
                state.in_flight.insert(engine.clone());
            }
            Event::EngineFinished { engine, outcome, .. } => {
                state.in_flight.remove(engine);
                match outcome {
                    Made::Failed => state.failed += 1,
                    Made::Unchanged | Made::NotDone => {}
                    Made::Built | Made::Cache | Made::Restored => state.ready += 1,
                }
            }
            _ => return,
        }
        if self.mode != Mode::Live || state.engines == 0 {
            return;
        }
        let done = state.unchanged + state.ready + state.failed;
        let is_over = done >= state.engines;
        let text = [
            (state.unchanged, "up to date"),
            (state.ready, "done"),
            (state.failed, "failed"),
            (state.in_flight.len(), "in flight"),
            (state.engines.saturating_sub(done + state.in_flight.len()), "waiting"),
        ];
        let parts: Vec<String> =
            text.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let text = format!("{done} of {}: {}", output::count(state.engines, "engine"), parts.join(", "));
        if is_over {
            if let Some(total) = state.total.take() {
                total.clear();
            }
        } else if let Some(total) = &mut state.total {
            total.text = text;
        } else if !state.in_flight.is_empty() {
            state.total = Some(Line::new(text));
        }
    }
}

/// What is mostly short has ended.
fn ended(ms: u64, key: String, text: String) -> Step {
    if Duration::from_millis(ms) < SHORT { Step::EndQuietly(key, text) } else { Step::End(key, text) }
}

/// What is said of an event. Words have one width, so that names stand below each other.
fn step(event: &Event) -> Step {
    let say = |word: &str, text: String| format!("{word:<9} {text}");
    let time = |ms: &u64| output::duration(*ms);
    match event {
        Event::RunStarted { command, project, tool, engines } => Step::Detail(say(
            "run",
            format!("{tool}: {command} of {} in {project}", output::count(*engines, "engine")),
        )),
        Event::RunFinished { ms } => Step::Detail(say("done", format!("in {}", time(ms)))),
        Event::ToolchainFetching { toolchain } => {
            Step::Begin(toolchain.clone(), say("fetching", toolchain.clone()))
        }
        Event::ToolchainFetched { toolchain, ms } => {
            Step::End(toolchain.clone(), say("fetched", format!("{toolchain} in {}", time(ms))))
        }
        Event::ToolchainFailed { toolchain } => {
            Step::End(toolchain.clone(), say("failed", toolchain.clone()))
        }
        Event::SourceStarted { source } => Step::BeginQuietly(source.clone(), say("reading", source.clone())),
        Event::SourceKnown { source } => {
            Step::EndQuietly(source.clone(), say("known", format!("{source}: as it was read before")))
        }
        Event::SourceRead { source, ms } => {
            ended(*ms, source.clone(), say("read", format!("{source} in {}", time(ms))))
        }
        Event::SourceFailed { source } => Step::End(source.clone(), say("failed", source.clone())),
        Event::PrepareStarted { engine } => {
            Step::BeginQuietly(engine.clone(), say("preparing", engine.clone()))
        }
        Event::PrepareFinished { engine, ms } => {
            ended(*ms, engine.clone(), say("prepared", format!("{engine} in {}", time(ms))))
        }
        Event::PrepareFailed { engine } => Step::End(engine.clone(), say("failed", engine.clone())),
        Event::Planned { engine, action, reasons, .. } => {
            let why: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
            Step::Detail(say("planned", format!("{engine}: {}{why}", action.name())))
        }
        Event::BuildStarted { engine, engines, size } => {
            let others = match engines.len() {
                0 | 1 => String::new(),
                n => format!(" (and {} with equal inputs)", n - 1),
            };
            let size = output::size(*size);
            Step::Begin(engine.clone(), say("building", format!("{engine}{others} from {size}")))
        }
        Event::BuildWaiting { engine, pid } => {
            Step::Say(say("waiting", format!("{engine}: process {pid} builds it")))
        }
        Event::BuildFinished { engine, from_cache: true, .. } => {
            Step::End(engine.clone(), say("found", format!("{engine}: another process built it")))
        }
        Event::BuildFinished { engine, ms, size, .. } => {
            let text = format!("{engine}: {} in {}", output::size(*size), time(ms));
            Step::End(engine.clone(), say("built", text))
        }
        Event::BuildFailed { engine, code, .. } | Event::MeasureFailed { engine, code, .. }
            if code == "worker-cancelled" =>
        {
            Step::End(engine.clone(), say("stopped", engine.clone()))
        }
        Event::BuildFailed { engine, message, .. } | Event::MeasureFailed { engine, message, .. } => {
            Step::End(engine.clone(), say("failed", format!("{engine}: {}", output::brief(message))))
        }
        Event::MeasureStarted { engine, samples } => {
            let samples = output::count(usize::try_from(*samples).unwrap_or(usize::MAX), "sample");
            Step::Begin(engine.clone(), say("measuring", format!("{engine}: {samples}")))
        }
        Event::MeasureFinished { engine, ms, verdict } => {
            Step::End(engine.clone(), say("measured", format!("{engine}: {verdict} in {}", time(ms))))
        }
        Event::Published { engine, path, how } => {
            Step::Detail(say("published", format!("{engine}: {path} ({how})")))
        }
        Event::EngineFinished { engine, outcome, errors, .. } => {
            let what = match outcome {
                Made::Built => "built",
                Made::Cache => "from the cache",
                Made::Restored => "restored from the cache",
                Made::Unchanged => "up to date",
                Made::Failed => "failed",
                Made::NotDone => "not done",
            };
            let errors: Vec<String> = errors.iter().map(|error| output::brief(error)).collect();
            let why = if errors.is_empty() { String::new() } else { format!(": {}", errors.join("; ")) };
            Step::Detail(say("finished", format!("{engine}: {what}{why}")))
        }
        Event::Warning { message } => Step::Say(format!("warning: {message}")),
    }
}

impl Sink for Progress {
    fn event(&self, event: &Event) {
        if let Some(log) = &mut *self.log.lock().unwrap_or_else(PoisonError::into_inner) {
            // A run whose record cannot be written goes on.
            let _ = log.event(&serde_json::json!(event));
        }
        match step(event) {
            Step::Begin(key, text) if self.mode == Mode::Live => self.begin(key, text),
            Step::Begin(_, text) => self.say(&text),
            Step::BeginQuietly(key, text) if self.mode == Mode::Live => self.begin(key, text),
            Step::BeginQuietly(_, text) => self.detail(&text),
            Step::End(key, text) => {
                self.end(&key);
                self.say(&text);
            }
            Step::EndQuietly(key, text) => {
                self.end(&key);
                self.detail(&text);
            }
            Step::Detail(text) => self.detail(&text),
            Step::Say(text) => self.say(&text),
        }
        self.count(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_short_line() {
        let message = "the library cannot build the model: ".repeat(20);
        let failed =
            Event::BuildFailed { engine: "m@t".to_owned(), code: "build-failed".to_owned(), message };
        let Step::End(_, text) = step(&failed) else { panic!("a build ends") };
        assert!(text.contains("m@t: the library cannot") && text.chars().count() < 200, "{text}");
    }
}
