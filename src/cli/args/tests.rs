//! The command line, and its reference docs/cli.md, which is made from it.

use std::fmt::Write as _;

use clap::Command;

use super::help;
use crate::cli::explain::tests::is_up_to_date;

fn program() -> Command {
    let mut program = super::program().term_width(100);
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
    program().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    for (path, command) in all() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example: enginewright "), "`{path} --help` has no example");
    }
}

/// `-h` on the smallest terminal there is, `--help` on one of today, and every command's help too.
#[test]
fn help_fits_a_screen() {
    let fits = |path: &str, help: &str, most: usize| {
        let lines = help.lines().count();
        assert!(lines <= most, "`{path}` has {lines} lines:\n{help}");
        if let Some(line) = help.lines().find(|line| line.chars().count() > 80) {
            panic!("`{path}` has lines of more than 80 characters:\n{line}");
        }
    };
    fits("-h", &program().term_width(80).render_help().to_string(), 23);
    fits("--help", &program().term_width(80).render_long_help().to_string(), 48);
    for (path, command) in all() {
        fits(&path, &command.term_width(80).render_help().to_string(), 42);
        // `--help` says no more: an argument with two paragraphs would spread all of them.
        let said = |flag: &str| {
            let asked = path.split(' ').chain([flag]);
            program().try_get_matches_from(asked).unwrap_err().to_string()
        };
        assert!(
            said("-h") == said("--help"),
            "`{path}`: `--help` spreads: an argument or a value has a long text"
        );
    }
}

#[test]
fn every_command_is_in_one_group() {
    let mut grouped: Vec<&str> = help::GROUPS.iter().flat_map(|group| group.commands).copied().collect();
    let program = program();
    let mut shown: Vec<&str> =
        program.get_subcommands().filter(|c| !c.is_hide_set()).map(Command::get_name).collect();
    grouped.sort_unstable();
    shown.sort_unstable();
    assert_eq!(grouped, shown);
}

/// The page, as it should be.
fn reference() -> String {
    let mut page =
        "# Commands\n\nMade from the program's own help. Options that all commands take are listed once.\n"
            .to_owned();
    let mut section = |title: &str, help: String| {
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = write!(page, "\n## {title}\n\n```text\n{}\n```\n", lines.join("\n"));
    };
    section("enginewright", program().render_long_help().to_string());
    for (path, command) in all() {
        let own = command.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
        section(&path, own.bin_name(path.clone()).term_width(100).render_help().to_string());
    }
    page
}

/// `UPDATE=1 cargo test --lib reference` writes the page anew.
#[test]
fn the_reference_is_what_the_program_says() {
    is_up_to_date("docs/cli.md", &reference());
}
