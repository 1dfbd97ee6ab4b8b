//! Help of the program as a whole: commands in groups, on one screen. That of each command is clap's.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// Commands that belong together.
pub(super) struct Group {
    title: &'static str,
    pub(super) commands: &'static [&'static str],
    /// Is each described in `-h` too?
    is_first: bool,
}

pub(super) const GROUPS: [Group; 6] = [
    Group { title: "First steps", commands: &["init", "check", "gpu", "explain"], is_first: true },
    Group {
        title: "Every day",
        commands: &["plan", "apply", "status", "why", "log", "report"],
        is_first: true,
    },
    Group { title: "Precision and accuracy", commands: &["rules", "verify", "tune"], is_first: false },
    Group {
        title: "Look inside, repeat",
        commands: &["inspect", "rebuild", "build-action", "replay"],
        is_first: false,
    },
    Group { title: "What is kept", commands: &["cache", "lock", "toolchain"], is_first: false },
    Group {
        title: "Other programs",
        commands: &["import", "export", "schema", "completions"],
        is_first: false,
    },
];

/// The program with its help: `-h` for a screen of 24 lines, `--help` with all commands.
pub(super) fn grouped(program: Command) -> Command {
    let (short, long) = (short(&program), long(&program));
    program
        .help_template("{about}\n\n{usage-heading} {usage}{after-help}")
        .after_help(short)
        .after_long_help(long)
}

fn short(program: &Command) -> String {
    let mut text = String::new();
    for group in GROUPS.iter().filter(|group| group.is_first) {
        described(&mut text, program, group);
    }
    for group in GROUPS.iter().filter(|group| !group.is_first) {
        let _ = writeln!(text, "{}: {}", group.title, group.commands.join(", "));
    }
    let options: Vec<String> =
        options(program).map(flags).map(|(short, long)| if long.is_empty() { short } else { long }).collect();
    let _ = write!(
        text,
        "Options: {}\n`--help` tells more, and `enginewright COMMAND --help` shows an example.",
        options.join(", ")
    );
    text
}

fn long(program: &Command) -> String {
    let mut text = String::new();
    for group in &GROUPS {
        described(&mut text, program, group);
    }
    text += "\nOptions:\n";
    for option in options(program) {
        let (short, long) = flags(option);
        let comma = if short.is_empty() || long.is_empty() { "" } else { ", " };
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        let flags = format!("{short:<2}{comma:<2}{long}");
        let _ = writeln!(text, "  {flags:<22} {help}");
    }
    text +=
        "  -h, --help             Print this, or less with -h\n  -V, --version          Print the version\n";
    text += "`enginewright explain exit-codes` and `explain environment` tell what to rely on.";
    text
}

fn described(text: &mut String, program: &Command, group: &Group) {
    let _ = writeln!(text, "{}:", group.title);
    for name in group.commands {
        let about = program.find_subcommand(name).and_then(Command::get_about);
        let about = about.map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "  {name:<13} {about}");
    }
}

/// The options of all commands.
fn options(program: &Command) -> impl Iterator<Item = &Arg> {
    program.get_arguments().filter(|arg| !arg.is_hide_set())
}

/// An option as it is written: short, long with its value.
fn flags(option: &Arg) -> (String, String) {
    let takes = option.get_action().takes_values();
    let value =
        option.get_value_names().filter(|_| takes).map(|names| format!(" {}", names[0])).unwrap_or_default();
    let short = option.get_short().map(|c| format!("-{c}")).unwrap_or_default();
    match option.get_long() {
        Some(long) => (short, format!("--{long}{value}")),
        None => (short + &value, String::new()),
    }
}
