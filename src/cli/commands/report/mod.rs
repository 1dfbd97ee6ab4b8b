//! `enginewright report`

mod collect;

use std::io::IsTerminal;

use super::super::args::ReportArgs;
use super::super::exit::{self, Failed};
use super::super::output;
use super::super::progress::Progress;
use super::super::settings::{Format, Page, Settings};
use crate::diagnostic::Diagnostic;
use crate::fs;
use crate::report;
use crate::source::Network;

pub(super) fn run(settings: &Settings, args: &ReportArgs) -> Result<u8, Failed> {
    let page = settings.page.unwrap_or(Page::Html);
    let is_html = settings.format == Format::Text && page == Page::Html;
    if is_html && args.out.is_none() && std::io::stdout().is_terminal() {
        let error = Diagnostic::error("format", "a page of HTML is nothing for a terminal");
        let help = "name a file with `--out report.html`, or take `--format md`";
        return Err(Failed::new(exit::USAGE, error.help(help)));
    }
    let project = settings.project()?;
    let engines = project.select(&args.engines.engines)?;
    let progress = Progress::new(settings, None);
    let ctx = settings.context(&project, Network::Deny, None, &progress)?;
    let report = collect::report(&ctx, &project, &engines)?;
    let text = match (settings.format, page) {
        (Format::Json, _) => format!("{:#}\n", serde_json::json!(report)),
        (Format::Text, Page::Html) => report::html(&report),
        (Format::Text, Page::Markdown) => report::markdown(&report),
    };
    let Some(out) = &args.out else {
        output::stdout(&text);
        return Ok(exit::DONE);
    };
    fs::write_atomic(&settings.here(out), text.as_bytes()).map_err(|e| {
        let error = Diagnostic::error("report", format!("the report cannot be written: {e}"));
        Failed::new(exit::FAILED, error.help("name a file in a folder that exists and may be written to"))
    })?;
    if !settings.quiet {
        let size = output::size(u64::try_from(text.len()).unwrap_or(u64::MAX));
        output::stderr(&format!("written: {} ({size})\n", out.display()));
    }
    Ok(exit::DONE)
}
