//! `enginewright completions`, and the hidden `man`: what a package of the program holds beside it.

use std::path::Path;

use super::super::args;
use super::super::exit::{self, Failed};
use super::super::output;
use crate::diagnostic::Diagnostic;
use crate::fs;

pub(super) fn completions(shell: clap_complete::Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::program(), "enginewright", &mut script);
    output::stdout(&String::from_utf8_lossy(&script));
    exit::DONE
}

/// Writes a page for the program and one for each command.
pub(super) fn man(folder: &Path) -> Result<u8, Failed> {
    let failed = |e: String| Failed::new(exit::CANNOT_START, Diagnostic::error("file", e));
    fs::create_dir_all(folder).map_err(|e| failed(e.to_string()))?;
    let mut program = args::program();
    program.build();
    let mut pages = Vec::new();
    collect(&program, "enginewright", &mut pages);
    for (name, command) in pages {
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command.display_name(name.clone()));
        man.render(&mut page).map_err(|e| failed(e.to_string()))?;
        let file = folder.join(format!("{name}.1"));
        fs::write_atomic(&file, &page).map_err(|e| failed(e.to_string()))?;
        output::stdout(&format!("{}\n", file.display()));
    }
    Ok(exit::DONE)
}

/// A command and those below it, by the names of their pages.
fn collect(command: &clap::Command, name: &str, pages: &mut Vec<(String, clap::Command)>) {
    if command.is_hide_set() {
        return;
    }
    pages.push((name.to_owned(), command.clone()));
    for below in command.get_subcommands() {
        collect(below, &format!("{name}-{}", below.get_name()), pages);
    }
}
