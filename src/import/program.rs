//! Which of the commands are runs of trtexec, and what stands around them: `sudo`, `timeout 1h`, `docker run …`.

use std::path::{Component, Path, PathBuf};

use super::shell::{self, Command, Variables, Word};
use super::{Version, codes};
use crate::diagnostic::Diagnostic;

/// One run of trtexec.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// trtexec as it was called; none if only its arguments were given.
    pub(super) program: Option<Word>,
    pub(super) arguments: Vec<Word>,
    /// Environment variables set for it alone.
    pub(super) environment: Vec<(String, Word)>,
    /// The command that starts its container, up to the image.
    pub(super) runner: Vec<String>,
    /// The image of its container.
    pub(super) image: Option<String>,
    /// Folders of this machine and where its container sees them.
    pub(super) mounts: Vec<(PathBuf, PathBuf)>,
    /// The folder that it runs in, as it sees it.
    pub(super) folder: PathBuf,
    /// Wall-clock limit as `timeout` was given it.
    pub(super) timeout: Option<Word>,
    /// Its redirections, and what it is piped into.
    pub(super) outputs: Vec<Word>,
    /// Version, GPU and compute capability, where a log tells them.
    pub(super) version: Option<Version>,
    pub(super) gpu: Option<String>,
    pub(super) capability: Option<String>,
}

/// The runs of trtexec in a list of commands, and the other commands.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) runs: Vec<Run>,
    /// Commands that do something else.
    pub(super) others: Vec<Word>,
}

/// Programs that wrap another command, with those of their options that take a value of their own.
const WRAPPERS: &[(&str, &[&str])] = &[
    ("sudo", &["-u", "-g", "-h", "-p", "-C"]),
    ("time", &["-f", "-o"]),
    ("nohup", &[]),
    ("nice", &["-n"]),
    ("ionice", &["-c", "-n"]),
    ("exec", &["-a"]),
    ("command", &[]),
    ("env", &["-u", "-C"]),
    ("taskset", &["-c"]),
    ("numactl", &["-C", "-N", "-m"]),
    ("stdbuf", &["-i", "-o", "-e"]),
    ("timeout", &["-k", "-s"]),
];

/// Options of `docker run` and `docker exec` that take no value. All others take one, in the next word or after `=`.
const DOCKER_FLAGS: &[&str] = &[
    "--rm",
    "--init",
    "--privileged",
    "--interactive",
    "--tty",
    "--detach",
    "--read-only",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--sig-proxy",
    "--disable-content-trust",
    "-P",
    "--publish-all",
    "--nv",
];

/// Options of `docker run` that are none of the manifest's: there is no terminal, nobody to type, and the folder, the GPU and
/// the name of the container are the program's to say.
const OURS: &[&str] =
    &["--tty", "--interactive", "--detach", "--rm", "--name", "--cidfile", "-w", "--workdir", "--gpus"];

/// What stands in their place.
const PLACE: [&str; 6] = ["--gpus", "device={gpu}", "-v", "{work}:{work}", "-w", "{work}"];

/// Programs that also make engines, and what to say of them.
const OTHERS: &[(&str, &str)] = &[
    ("polygraphy", "its options are not those of trtexec; write the `trtexec` command that does the same"),
    ("onnx2trt", "it was replaced by `trtexec`; write the `trtexec` command that does the same"),
    ("trtllm-build", "TensorRT-LLM makes engines of its own checkpoints; there is no ONNX to declare"),
    ("tensorrt_rtx", "it is TensorRT-RTX's own program; enginewright builds with TensorRT-RTX without it"),
    ("trtexec_safe", "engines of the safety runtime are not supported"),
    ("atc", "it is not TensorRT"),
    ("mo", "it is OpenVINO's"),
    ("ovc", "it is OpenVINO's"),
    ("migraphx-driver", "it is MIGraphX's"),
];

/// Commands that change nothing of what is built.
const HARMLESS: &[&str] = &[
    "set",
    "mkdir",
    "echo",
    "printf",
    "true",
    "false",
    ":",
    "export",
    "source",
    ".",
    "pushd",
    "popd",
    "cd",
    "rm",
    "ls",
    "cat",
    "tee",
    "grep",
    "tail",
    "head",
    "exit",
    "sleep",
    "nvidia-smi",
    "shopt",
    "trap",
    "ulimit",
    "wait",
    "unset",
    "pip",
    "date",
];

/// How many shells may be run by shells: more is a text that runs itself.
const DEEPEST: usize = 8;

/// The runs in these commands; `depth` shells run each other around them.
pub(super) fn find(commands: Vec<Command>, variables: &Variables, depth: usize) -> Result<Found, Diagnostic> {
    let mut found = Found::default();
    let mut after_pipe_of_run = false;
    for command in commands {
        if after_pipe_of_run {
            // What the output goes through, such as `tee`, is no work of its own.
            after_pipe_of_run = command.is_piped;
            let texts: Vec<&str> = command.words.iter().map(|w| w.text.as_str()).collect();
            let (Some(run), Some(first)) = (found.runs.last_mut(), command.words.first()) else { continue };
            run.outputs.push(Word { text: format!("| {}", texts.join(" ")), origin: first.origin.clone() });
            continue;
        }
        let before = found.runs.len();
        after_pipe_of_run = command.is_piped;
        one(command, variables, depth, &mut found)?;
        after_pipe_of_run &= found.runs.len() > before;
    }
    Ok(found)
}

fn one(command: Command, variables: &Variables, depth: usize, found: &mut Found) -> Result<(), Diagnostic> {
    let mut run =
        Run { environment: command.assignments, outputs: command.redirections, ..Run::new(command.folder) };
    let mut words = command.words.into_iter().peekable();
    while let Some(word) = words.peek() {
        let name = base(&word.text).to_owned();
        if is_trtexec(&name) {
            run.program = words.next();
            run.arguments = words.collect();
            found.runs.push(run);
            return Ok(());
        }
        if word.text.starts_with("--") && run.program.is_none() && run.runner.is_empty() {
            // Only the arguments of trtexec.
            run.arguments = words.collect();
            found.runs.push(run);
            return Ok(());
        }
        if let Some((_, why)) = OTHERS.iter().find(|(other, _)| *other == name) {
            let error =
                Diagnostic::error(codes::PROGRAM, format!("this is a command of `{name}`, not of `trtexec`"));
            return Err(error.at(&word.origin, "").help(*why));
        }
        let Some(word) = words.next() else { break };
        if let Some((_, valued)) = WRAPPERS.iter().find(|(wrapper, _)| *wrapper == name) {
            unwrap(&name, valued, &mut words, &mut run);
        } else if is_container(&name) {
            container(&word, &mut words, &mut run)?;
        } else if ["singularity", "apptainer", "srun"].contains(&name.as_str()) {
            run.runner.push(word.text);
            while let Some(next) = words.next_if(|w| !is_trtexec(base(&w.text))) {
                run.runner.push(next.text);
            }
        } else if ["ssh", "kubectl"].contains(&name.as_str()) {
            let error = Diagnostic::error(
                codes::NOT_YET,
                format!("a command for another machine (`{name}`) is not imported yet"),
            );
            return Err(error
                .at(&word.origin, "")
                .help("give the command that runs there, and run enginewright there"));
        } else if ["bash", "sh", "zsh"].contains(&name.as_str()) {
            return inner_shell(word, words.collect(), run, (variables, depth + 1), found);
        } else {
            let texts: Vec<String> =
                std::iter::once(word.text.clone()).chain(words.map(|w| w.text)).collect();
            if !HARMLESS.contains(&name.as_str()) {
                found.others.push(Word { text: texts.join(" "), origin: word.origin });
            }
            return Ok(());
        }
    }
    Ok(())
}

/// `bash -c '…'`, maybe in a container.
fn inner_shell(
    shell: Word,
    words: Vec<Word>,
    outer: Run,
    (variables, depth): (&Variables, usize),
    found: &mut Found,
) -> Result<(), Diagnostic> {
    if depth > DEEPEST {
        let error = Diagnostic::error(codes::SHELL, "this shell runs itself again and again");
        return Err(error.at(&shell.origin, "").help("give the command line of `trtexec` alone"));
    }
    let has_text = words.iter().position(|w| w.text.starts_with('-') && w.text.ends_with('c'));
    let Some(text) = has_text.and_then(|at| words.get(at + 1)) else {
        let error = Diagnostic::error(codes::SHELL, "what this script does is not known here");
        return Err(error
            .at(&shell.origin, "")
            .help("give the command line of `trtexec` that it runs; `bash -x SCRIPT` shows it"));
    };
    let commands = shell::split_inner(text, &outer.folder, variables)?;
    let inner = find(commands, variables, depth)?;
    found.others.extend(inner.others);
    for mut run in inner.runs {
        run.runner = [outer.runner.clone(), run.runner].concat();
        run.image = run.image.or_else(|| outer.image.clone());
        run.mounts.extend(outer.mounts.clone());
        run.environment.splice(0..0, outer.environment.clone());
        run.outputs.extend(outer.outputs.clone());
        run.timeout = run.timeout.or_else(|| outer.timeout.clone());
        found.runs.push(run);
    }
    Ok(())
}

/// Does a program run others in a container, by its name?
fn is_container(program: &str) -> bool {
    ["docker", "podman", "nvidia-docker"].contains(&base(program))
}

/// Switches in one word, as in `-dit`: that there is a terminal, someone to type, or nobody to wait.
fn is_switches(option: &str) -> bool {
    let letters = option.strip_prefix('-').filter(|letters| !letters.starts_with('-'));
    letters.is_some_and(|letters| !letters.is_empty() && letters.chars().all(|c| "dit".contains(c)))
}

fn base(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// `trtexec`, `trtexec.exe`, `trtexec-10.3`.
fn is_trtexec(name: &str) -> bool {
    let name = name.strip_suffix(".exe").unwrap_or(name);
    let version = |c: char| c.is_ascii_digit() || "-._v".contains(c);
    name.strip_prefix("trtexec").is_some_and(|rest| rest.chars().all(version))
}

/// Passes over the options of a wrapper.
fn unwrap(
    name: &str,
    valued: &[&str],
    words: &mut std::iter::Peekable<impl Iterator<Item = Word>>,
    run: &mut Run,
) {
    let mut operands = usize::from(["timeout", "taskset"].contains(&name));
    while let Some(word) = words.peek() {
        if let Some((variable, value)) =
            word.text.split_once('=').filter(|_| name == "env" && !word.text.starts_with('-'))
        {
            let value = Word { text: value.to_owned(), origin: word.origin.clone() };
            run.environment.push((variable.to_owned(), value));
            words.next();
        } else if word.text.starts_with('-') && word.text.len() > 1 {
            let takes_value = valued.contains(&word.text.as_str());
            // `taskset -c LIST`: the list is its operand.
            operands -= usize::from(name == "taskset" && takes_value && operands > 0);
            words.next();
            if takes_value {
                words.next();
            }
        } else if operands > 0 {
            operands -= 1;
            let word = words.next();
            if name == "timeout" {
                run.timeout = word;
            }
        } else {
            return;
        }
    }
}

/// `docker run [OPTION…] IMAGE`, `docker exec [OPTION…] CONTAINER`.
fn container(
    program: &Word,
    words: &mut std::iter::Peekable<impl Iterator<Item = Word>>,
    run: &mut Run,
) -> Result<(), Diagnostic> {
    let wrong = |word: &Word, message: &str| {
        Err(Diagnostic::error(codes::PROGRAM, message).at(&word.origin, "").help(
            "understood are `docker run [OPTIONS] IMAGE trtexec …` and `docker exec [OPTIONS] CONTAINER trtexec …`",
        ))
    };
    run.runner.push(program.text.clone());
    let Some(verb) = words.next() else { return wrong(program, "the command of the container is missing") };
    if !["run", "exec"].contains(&verb.text.as_str()) {
        return wrong(&verb, &format!("`{} {}` runs no trtexec", program.text, verb.text));
    }
    run.runner.push(verb.text.clone());
    let mut folder = None;
    while let Some(option) = words.next_if(|w| w.text.starts_with('-')) {
        let (name, mut value) = match option.text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            // `-v/a:/b`, beside `-dit`.
            _ => match option.text.char_indices().nth(2) {
                Some((end, _)) if !option.text.starts_with("--") && !is_switches(&option.text) => {
                    let (name, value) = option.text.split_at(end);
                    (name.to_owned(), Some(value.to_owned()))
                }
                _ => (option.text.clone(), None),
            },
        };
        if is_switches(&name) {
            continue;
        }
        let mut taken = vec![option.text.clone()];
        if value.is_none() && !DOCKER_FLAGS.contains(&name.as_str()) {
            let Some(next) = words.next() else {
                return wrong(&option, "the value of this option is missing");
            };
            taken.push(next.text.clone());
            value = Some(next.text);
        }
        if !OURS.contains(&name.as_str()) {
            run.runner.extend(taken);
        }
        let value = value.unwrap_or_default();
        match name.as_str() {
            "-v" | "--volume" => {
                if let [host, inside, ..] = value.split(':').collect::<Vec<_>>().as_slice() {
                    run.mounts.push((run.folder.join(host), PathBuf::from(inside)));
                }
            }
            "--mount" => {
                let part = |keys: &[&str]| {
                    let mut parts = value.split(',').filter_map(|part| part.split_once('='));
                    parts.find(|(key, _)| keys.contains(key)).map(|(_, value)| PathBuf::from(value))
                };
                if let Some((host, inside)) =
                    part(&["source", "src"]).zip(part(&["target", "dst", "destination"]))
                {
                    run.mounts.push((run.folder.join(host), inside));
                }
            }
            "-w" | "--workdir" => folder = Some(PathBuf::from(&value)),
            "-e" | "--env" => {
                if let Some((variable, value)) = value.split_once('=') {
                    let value = Word { text: value.to_owned(), origin: option.origin.clone() };
                    run.environment.push((variable.to_owned(), value));
                }
            }
            _ => {}
        }
    }
    let Some(image) = words.next() else { return wrong(&verb, "the image of the container is missing") };
    if verb.text == "run" {
        run.runner.extend(PLACE.map(str::to_owned));
        run.image = Some(image.text.clone());
    }
    run.runner.push(image.text);
    run.folder = folder.unwrap_or_else(|| PathBuf::from("/workspace"));
    Ok(())
}

impl Run {
    /// From the banner of a log.
    pub(super) fn of_log(run: super::log::Run, folder: &Path) -> Run {
        let mut words = run.words.into_iter();
        Run {
            program: words.next(),
            arguments: words.collect(),
            version: Some(run.version),
            gpu: run.gpu,
            capability: run.capability,
            ..Run::new(folder.to_owned())
        }
    }

    fn new(folder: PathBuf) -> Run {
        Run {
            program: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            runner: Vec::new(),
            image: None,
            mounts: Vec::new(),
            folder,
            timeout: None,
            outputs: Vec::new(),
            version: None,
            gpu: None,
            capability: None,
        }
    }

    /// Does it build an engine, rather than time one?
    pub(super) fn builds(&self) -> bool {
        !self.arguments.iter().any(|word| word.text.starts_with("--loadEngine") || word.text == "--help")
    }

    /// A file that trtexec was given, as this machine sees it; none if it lies in the container alone.
    pub(super) fn host_path(&self, path: &str) -> Option<PathBuf> {
        let path = plain(&self.folder.join(path));
        if self.runner.is_empty()
            || (self.image.is_none() && self.mounts.is_empty() && !is_container(&self.runner[0]))
        {
            return Some(path);
        }
        // The innermost mount is the one that counts.
        let mounts = self.mounts.iter().filter(|(_, inside)| path.starts_with(inside));
        let (host, inside) = mounts.max_by_key(|(_, inside)| inside.components().count())?;
        let rest = path.strip_prefix(inside).ok()?;
        Some(if rest.as_os_str().is_empty() { plain(host) } else { plain(&host.join(rest)) })
    }

    /// The version that the path of the program, of its libraries or of its image names.
    pub(super) fn named_version(&self) -> Option<(Version, String)> {
        if let Some(version) = self.image.as_deref().and_then(image_version) {
            return Some((version, format!("the image `{}`", self.image.as_deref().unwrap_or_default())));
        }
        let program = self.program.iter().map(|word| word.text.clone());
        let folders = self.environment.iter().filter(|(name, _)| name == "LD_LIBRARY_PATH" || name == "PATH");
        let named = program.chain(folders.map(|(_, word)| word.text.clone()));
        named.into_iter().find_map(|text| {
            let at = ["TensorRT-", "tensorrt-", "TensorRT_", "trtexec-"]
                .iter()
                .find_map(|m| Some(text.find(m)? + m.len()))?;
            let rest = &text[at..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            Some((rest[..end].trim_end_matches('.').parse().ok()?, format!("the path `{text}`")))
        })
    }

    /// The folder of the TensorRT that is used, if the command names it.
    pub(super) fn root(&self) -> Option<PathBuf> {
        let program = Path::new(&self.program.as_ref()?.text);
        let folder = program.parent().filter(|folder| !folder.as_os_str().is_empty())?;
        let folder = plain(&self.folder.join(folder));
        let names = ["bin", "targets"];
        let is_inner = folder.file_name().is_some_and(|name| names.iter().any(|n| name == *n));
        Some(if is_inner { folder.parent()?.to_owned() } else { folder })
    }
}

/// A path without `.` and `..`.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// NVIDIA's containers and the TensorRT in them, as their release notes say.
const IMAGES: &[(&str, &str, &str)] = &[
    ("23.04", "24.01", "8.6.1"),
    ("24.02", "24.04", "8.6.3"),
    ("24.05", "24.05", "10.0.1"),
    ("24.06", "24.06", "10.1.0"),
    ("24.07", "24.07", "10.2.0"),
    ("24.08", "24.08", "10.3.0"),
    ("24.09", "24.09", "10.4.0"),
    ("24.10", "24.10", "10.5.0"),
    ("24.11", "24.11", "10.6.0"),
    ("24.12", "24.12", "10.7.0"),
    ("25.01", "25.02", "10.8.0"),
    ("25.03", "25.04", "10.9.0"),
    ("25.05", "25.05", "10.10.0"),
    ("25.06", "25.06", "10.11.0"),
];

fn image_version(image: &str) -> Option<Version> {
    let (name, tag) = image.rsplit_once(':')?;
    let of_nvidia = ["nvidia/tensorrt", "nvidia/pytorch", "nvidia/tritonserver"];
    if !of_nvidia.iter().any(|known| name.ends_with(known)) {
        return None;
    }
    let month = tag.get(..5)?;
    let (_, _, version) = IMAGES.iter().find(|(first, last, _)| (*first..=*last).contains(&month))?;
    version.parse().ok()
}
