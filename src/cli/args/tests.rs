//! The command line, and its reference docs/cli.md, which is made from it.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::Args;

fn program() -> Command {
    let mut program = Args::command().term_width(100);
    program.build();
    program
}

/// Every command that is shown, by its path.
fn commands(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let path = format!("{path} {}", below.get_name());
        found.push((path.clone(), below.clone()));
        commands(below, &path, found);
    }
}

fn all() -> Vec<(String, Command)> {
    let mut found = Vec::new();
    commands(&program(), "enginewright", &mut found);
    found
}

#[test]
fn arguments_are_consistent() {
    Args::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    for (path, command) in all() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example: enginewright "), "`{path} --help` has no example");
    }
}

#[test]
fn help_fits_a_screen() {
    let lines = program().render_help().to_string().lines().count();
    assert!(lines <= 56, "`--help` has {lines} lines");
}

/// The page, as it should be.
fn reference() -> String {
    let mut page =
        "# Commands\n\nMade from the program's own help. Options that all commands take are listed once.\n"
            .to_owned();
    let mut section = |title: &str, mut command: Command| {
        let help = command.render_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = write!(page, "\n## {title}\n\n```text\n{}\n```\n", lines.join("\n"));
    };
    section("enginewright", program());
    for (path, command) in all() {
        let own = command.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
        section(&path, own.bin_name(path.clone()).term_width(100));
    }
    page
}

/// `UPDATE=1 cargo test --lib reference` writes the page anew.
#[test]
#[expect(clippy::disallowed_methods, reason = "who runs the tests asks for it")]
fn the_reference_is_what_the_program_says() {
    let file = Path::new("docs/cli.md");
    let expected = reference();
    if std::env::var_os("UPDATE").is_some() {
        crate::fs::write_atomic(file, expected.as_bytes()).unwrap();
    }
    let page = crate::fs::read_to_string(file).unwrap_or_default();
    assert!(page == expected, "docs/cli.md is out of date: run `UPDATE=1 cargo test --lib reference`");
}
