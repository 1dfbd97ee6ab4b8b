//! The `enginewright` program. All of it is in the library.

fn main() -> std::process::ExitCode {
    enginewright::cli::main()
}
