//! What the command line promises beside its options: environment variables and exit codes, as data. docs/environment.md is made from
//! it, and `explain` prints it.

use super::exit;

/// A variable of the environment, or a family of them, and what it does.
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) does: &'static str,
}

const fn variable(name: &'static str, does: &'static str) -> Variable {
    Variable { name, does }
}

/// What the program reads itself.
pub(super) const READ: &[Variable] = &[
    variable("ENGINEWRIGHT_CACHE", "The folder of the cache; `--cache-dir` goes before it"),
    variable(
        "ENGINEWRIGHT_ROOT_<NAME>",
        "The folder of toolchain NAME on this machine, in capitals, `_` for all but letters and digits; goes before `root` of manifests",
    ),
    variable("NO_COLOR", "If it is not empty: no colours, unless `--color always` is given"),
    variable("CI", "If it is not empty: progress as plain lines, on a terminal too"),
    variable("TERM", "`dumb`: no colours, and progress as plain lines"),
    variable(
        "PATH",
        "Where pip, uv, curl and python3 are found, and `trtexec` where a toolchain has no `root`",
    ),
    variable("HOME", "What `~` is in command lines for `import trtexec`"),
    variable("CUDA_VISIBLE_DEVICES", "Which GPUs `gpu` and `init` see, and builds that need one may use"),
    variable("CUDA_DEVICE_ORDER", "Their order, as for every program of CUDA"),
    variable("LD_LIBRARY_PATH", "Where NVIDIA's driver is looked for, to ask it for GPUs"),
    variable(
        "TMPDIR",
        "Where models are read that are not to be kept: by `import trtexec`, and with a read-only cache",
    ),
];

/// What programs that fetch read: they get the whole environment, as it is.
pub(super) const PASSED_ON: &[Variable] = &[
    variable(
        "PIP_*, UV_*",
        "Index, mirror, credentials and certificates of pip and uv: `PIP_INDEX_URL`, `PIP_CONFIG_FILE`",
    ),
    variable("HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "Proxies of pip, uv and curl, in small letters too"),
    variable(
        "DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH, CONTAINER_HOST, CONTAINERD_ADDRESS, \
         XDG_RUNTIME_DIR",
        "Where docker, podman or nerdctl are reached, with PATH and HOME: all that the `runner` of a toolchain gets",
    ),
    variable("SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE", "Certificates"),
];

/// What other processes get instead of the environment.
pub(super) const SET: &[Variable] = &[
    variable("LC_ALL", "`C`, in every worker: messages have one language"),
    variable(
        "CUDA_VISIBLE_DEVICES",
        "Empty for TensorRT-RTX and ONNX Runtime, which use no GPU; the GPU of the target for `trtexec`",
    ),
    variable("LD_PRELOAD", "What makes a build of TensorRT-RTX deterministic"),
    variable("LD_LIBRARY_PATH", "The folders of its toolchain, for `trtexec`"),
    variable("TMPDIR", "The folder of its job in the cache, for `trtexec`"),
    variable(
        "CUDA_CACHE_DISABLE",
        "`1`, for `trtexec` and `verify --on gpu`: kernels that CUDA compiles are kept nowhere",
    ),
    variable("MALLOC_ARENA_MAX", "`1`, where models are read: glibc gives memory to one thread faster"),
];

/// Exit codes, and when they are given.
pub(super) const EXIT_CODES: &[(u8, &str)] = &[
    (exit::DONE, "done, or nothing to do"),
    (
        exit::FAILED,
        "it ran and the answer is no: an engine failed, `check` found errors, something differs under `--locked`",
    ),
    (exit::CHANGES, "`plan --detailed-exitcode` found work to do"),
    (exit::INVALID, "a bad manifest, model, plan or lock file, before any work"),
    (exit::CANNOT_START, "nothing could start: no project, no toolchain, no cache, no driver"),
    (exit::USAGE, "a bad command line"),
    (exit::BUG, "a bug of enginewright: it crashed; please report what it said"),
    (exit::INTERRUPTED, "stopped by SIGINT: finished engines are kept, and a second run goes on"),
    (exit::TERMINATED, "stopped by SIGTERM, likewise"),
];

/// The pages of [`topic`].
pub(super) const TOPICS: [(&str, &str); 2] = [
    ("environment", "Which variables of the environment do what"),
    ("exit-codes", "What the program's exit codes mean"),
];

/// A page of `explain` that is about no code, as text.
pub(super) fn topic(name: &str) -> Option<String> {
    match name {
        "environment" => Some(
            SECTIONS
                .iter()
                .map(|(_, says, variables)| format!("{says}\n\n{}", listed(variables)))
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        "exit-codes" => Some(EXIT_CODES.iter().map(|(code, when)| format!("{code:>5}  {when}\n")).collect()),
        _ => None,
    }
}

/// Variables by what becomes of them: heading, sentence, variables.
pub(super) const SECTIONS: [(&str, &str, &[Variable]); 3] = [
    (
        "Read",
        "Read by enginewright itself. None is part of a key: what is found by them is known by its digest.",
        READ,
    ),
    (
        "Passed on",
        "Packages and URLs are fetched by pip, uv, curl or Python, which get your whole environment, such as\n\
         these. Passwords and tokens in it are taken out of all messages.",
        PASSED_ON,
    ),
    (
        "Set for others",
        "TensorRT and ONNX Runtime run in processes with an environment of their own, which is empty but for\n\
         these. Temporary files lie in the cache and beside what they become.",
        SET,
    ),
];

fn listed(variables: &[Variable]) -> String {
    variables.iter().map(|v| format!("  {}\n      {}\n", v.name, v.does)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    fn page() -> String {
        let mut page = "# Environment and exit codes\n\nMade from the tables in `src/cli/reference.rs`, which the tests hold \
                        against the sources. `enginewright explain environment` and\n`enginewright explain exit-codes` print \
                        the same.\n"
            .to_owned();
        let mut table = |heading: &str, says: &str, head: &str, rows: Vec<(String, String)>| {
            let _ = write!(page, "\n## {heading}\n\n{says}{head}\n|---|---|\n");
            for (left, right) in rows {
                let _ = writeln!(page, "| {left} | {right} |");
            }
        };
        for (heading, says, variables) in SECTIONS {
            let rows = variables.iter().map(|v| {
                let names: Vec<String> = v.name.split(", ").map(|name| format!("`{name}`")).collect();
                (names.join(", "), v.does.to_owned())
            });
            table(
                &format!("Variables: {}", heading.to_lowercase()),
                &format!("{says}\n\n"),
                "| variable | does |",
                rows.collect(),
            );
        }
        let codes = EXIT_CODES.iter().map(|(code, when)| (code.to_string(), (*when).to_owned()));
        table("Exit codes", "", "| code | when |", codes.collect());
        page
    }

    /// `UPDATE=1 cargo test --lib reference` writes the page anew.
    #[test]
    fn the_page_is_what_the_tables_say() {
        super::super::explain::tests::is_up_to_date("docs/environment.md", &page());
    }

    #[test]
    fn every_exit_code_is_listed() {
        let source = crate::fs::read_to_string(Path::new("src/cli/exit.rs")).unwrap();
        let constant = regex::Regex::new(r"pub const \w+: u8 = (\d+);").unwrap();
        let declared: Vec<u8> = constant.captures_iter(&source).map(|c| c[1].parse().unwrap()).collect();
        let listed: Vec<u8> = EXIT_CODES.iter().map(|(code, _)| *code).collect();
        assert_eq!(declared, listed);
    }

    /// Names of variables stand as text in files that deal with an environment.
    #[test]
    fn every_variable_of_the_sources_is_listed_and_every_listed_one_is_used() {
        let name = regex::Regex::new(r#""([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+_?|PATH|HOME|CI|TERM|TMPDIR|LANG)""#)
            .unwrap();
        let by_the_compiler = regex::Regex::new("^(CARGO_.*|OUT_DIR|ENGINEWRIGHT_[A-Z]+_VERSION)$").unwrap();
        let mut used = BTreeSet::new();
        for (file, code) in super::super::explain::tests::sources() {
            // Command lines of others name variables that are not ours.
            if !code.contains("env") || file.starts_with("src/import") || file.ends_with("cli/reference.rs") {
                continue;
            }
            let found = name.captures_iter(&code).map(|c| c[1].to_owned());
            used.extend(found.filter(|name| !by_the_compiler.is_match(name)));
        }
        let names = |variables: &'static [Variable]| {
            let names = variables.iter().flat_map(|v| v.name.split(", "));
            names.map(|name| name.split('<').next().unwrap_or_default().to_owned()).collect::<BTreeSet<_>>()
        };
        let ours = &names(READ) | &names(SET);
        let listed = &ours | &names(PASSED_ON);
        let missing: Vec<_> = used.difference(&listed).collect();
        assert!(missing.is_empty(), "read, and not listed: {missing:?}");
        let stale: Vec<_> = ours.difference(&used).collect();
        assert!(stale.is_empty(), "listed, and in no source: {stale:?}");
    }
}
