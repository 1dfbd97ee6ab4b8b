//! The command that trtexec is run by: `docker run …`, `apptainer exec …`, or one that only wraps it, such as `nice`.
//!
//! What a container holds is known by the digest of its image, which the words must name. So a plan starts no container, and
//! is the same on every machine. The words themselves are part of what a toolchain is, as they are written: they set
//! variables and mount folders, both of which can decide an engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::digest::{Digest, Preimage, Value};

/// Programs that run another in a container, by way of `run`; all take the same options as far as they matter here.
const CONTAINERS: [&str; 4] = ["docker", "podman", "nerdctl", "nvidia-docker"];

/// What stands in words for what differs from build to build.
const PLACEHOLDERS: [&str; 3] = ["{work}", "{gpu}", "{user}"];

/// Options of `docker run` that it cannot do with, and why.
const REFUSED: [(&[&str], &str); 4] = [
    (&["-d", "--detach"], "trtexec is waited for"),
    (&["-t", "--tty"], "a terminal makes one stream of two, which are read apart"),
    (&["--name"], "the container is named by the program, which ends it by its name"),
    (&["--cidfile"], "the container is named by the program, which ends it by its name"),
];

/// A command that runs trtexec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    words: Vec<String>,
    /// Where `run` stands in the words of a container's program.
    verb: Option<usize>,
    image: Option<Image>,
}

/// What the trtexec of a runner is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Image {
    /// SHA-256 of an image, and the place of its word.
    Digest(Digest, usize),
    /// An image that is a file.
    File(PathBuf),
}

/// A runner that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableRunner {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// What placeholders stand for in one run.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The folder that trtexec runs in.
    pub work: &'a str,
    /// The UUID of the GPU.
    pub gpu: &'a str,
    /// `UID:GID`.
    pub user: &'a str,
    /// A name for the container; none where nobody ends it.
    pub name: Option<&'a str>,
    /// The most memory that a container may take, in bytes.
    pub memory: Option<u64>,
}

impl Runner {
    /// Reads the words of a manifest.
    ///
    /// # Errors
    /// What they run is not known, or they do not show it where it is to work.
    pub fn read(words: &[String]) -> Result<Runner, UnusableRunner> {
        let error = |message: String, help: &str| UnusableRunner { message, help: help.to_owned() };
        for word in words {
            if let Some(unknown) = placeholders(word).find(|name| !PLACEHOLDERS.contains(name)) {
                let message = format!("`{unknown}` stands for nothing in `{word}`");
                return Err(error(message, "there are `{work}`, `{gpu}` and `{user}`"));
            }
        }
        let container = words.iter().position(|word| CONTAINERS.contains(&base(word)));
        let image = image(words);
        let Some(program) = container else { return Ok(Runner { words: words.to_vec(), verb: None, image }) };
        let verb = (program + 1..words.len()).find(|at| ["run", "exec"].contains(&words[*at].as_str()));
        let Some(verb) = verb.filter(|at| words[*at] == "run") else {
            let message = format!("`{}` must `run` an image", words[program]);
            let help = "what a container that runs already holds is not known by a digest; write `docker run`, as docs/trtexec.md shows";
            return Err(error(message, help));
        };
        let Some(image @ Image::Digest(_, at)) = image else {
            let message = "the words of the container's image name no digest".to_owned();
            let help = "write it as `IMAGE@sha256:…`, or `sha256:…` for one that was made here; `docker image inspect --format '{{.RepoDigests}} {{.Id}}' IMAGE` shows both";
            return Err(error(message, help));
        };
        let options = &words[verb + 1..at];
        for (names, why) in REFUSED {
            if let Some(word) = options.iter().find(|word| names.iter().any(|name| is_option(word, name))) {
                return Err(error(format!("`{word}` does not go: {why}"), "leave it out"));
            }
        }
        for (needed, help) in [
            (
                "{work}",
                "it is the folder with the model and the engine: mount it, `\"-v\", \"{work}:{work}\", \"-w\", \"{work}\"`",
            ),
            (
                "{gpu}",
                "it is the GPU to build on: `\"--gpus\", \"device={gpu}\"`, or `\"-e\", \"CUDA_VISIBLE_DEVICES={gpu}\"` beside what shows it",
            ),
        ] {
            if !options.iter().any(|word| word.contains(needed)) {
                return Err(error(format!("`{needed}` is nowhere before the image"), help));
            }
        }
        if !options.iter().any(|word| is_option(word, "-w") || is_option(word, "--workdir")) {
            let help = "files have names relative to it: add `\"-w\", \"{work}\"`";
            return Err(error("no folder to run in is given".to_owned(), help));
        }
        Ok(Runner { words: words.to_vec(), verb: Some(verb), image: Some(image) })
    }

    /// Does it bring its own TensorRT, rather than run the one of this machine?
    #[must_use]
    pub fn has_image(&self) -> bool {
        self.image.is_some()
    }

    /// Does a container go on if its client is killed?
    #[must_use]
    pub fn is_container(&self) -> bool {
        self.verb.is_some()
    }

    /// The program that is started.
    #[must_use]
    pub fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What is known of it by its words alone, by name: part of what the toolchain is.
    #[must_use]
    pub fn words_identity(&self) -> BTreeMap<String, Digest> {
        let mut identity = BTreeMap::new();
        // Which program runs containers, and how it is called, decides nothing; of an image its digest does.
        let from = self.verb.map_or(usize::from(self.program_file().is_some()), |verb| verb + 1);
        let image = match &self.image {
            Some(Image::Digest(digest, at)) => {
                // The digest of an image can stand for one image each of several processors.
                identity.insert(format!("image {}", std::env::consts::ARCH), *digest);
                Some(*at)
            }
            _ => None,
        };
        let decides = |(at, _): &(usize, &String)| *at >= from && Some(*at) != image;
        let words = self.words.iter().enumerate().filter(decides);
        let words: Vec<Value> = words.map(|(_, word)| Value::from(word.clone())).collect();
        identity.insert("runner".to_owned(), Preimage::new("runner").with("words", words).key());
        identity
    }

    /// The files that decide what it does, by name.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, PathBuf> {
        let program = self.program_file().map(|path| ("runner program".to_owned(), path));
        let image = match &self.image {
            Some(Image::File(path)) => Some(("image".to_owned(), path.clone())),
            _ => None,
        };
        program.into_iter().chain(image).collect()
    }

    /// A program that is named by its path decides like any other file; one in `PATH` is the system's.
    fn program_file(&self) -> Option<PathBuf> {
        let is_file = self.verb.is_none() && self.program().contains('/');
        is_file.then(|| PathBuf::from(self.program()))
    }

    /// The words before the arguments of trtexec: the runner's, and `trtexec` as it is called there.
    #[must_use]
    pub fn command(&self, trtexec: &Path, place: &Place<'_>) -> Vec<String> {
        let mut command: Vec<String> = Vec::new();
        for (at, word) in self.words.iter().enumerate() {
            command.push(filled(word, place));
            if Some(at) == self.verb {
                command.push("--rm".to_owned());
                command.extend(place.name.map(|name| format!("--name={name}")));
                command.extend(place.memory.map(|bytes| format!("--memory={bytes}")));
            }
        }
        let is_named = self.image.is_some() && self.words.last().is_some_and(|word| base(word) == "trtexec");
        if !is_named {
            command.push(trtexec.display().to_string());
        }
        command
    }

    /// The commands that end a container of this name, whose client may be gone: `kill` at once, and `rm` for one that did
    /// not run yet.
    #[must_use]
    pub fn end(&self, name: &str) -> Vec<Vec<String>> {
        let Some(verb) = self.verb else { return Vec::new() };
        let command = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned());
            self.words[..verb].iter().cloned().chain(words).collect()
        };
        vec![command(&["kill", name]), command(&["rm", "-f", name])]
    }
}

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// Is a word this option: `--name`, `--name=x`, or `-t` within `-it`?
fn is_option(word: &str, name: &str) -> bool {
    match name.strip_prefix("--") {
        Some(_) => word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')),
        None if name == "-w" => word.starts_with("-w"),
        None => {
            let letters =
                word.strip_prefix('-').filter(|l| !l.is_empty() && l.chars().all(|c| "ditqP".contains(c)));
            letters.is_some_and(|letters| letters.contains(&name[1..]))
        }
    }
}

/// The names in braces of a word: `{work}`.
fn placeholders(word: &str) -> impl Iterator<Item = &str> {
    word.match_indices('{').filter_map(|(start, _)| {
        let end = word[start..].find('}')? + start + 1;
        let name = &word[start + 1..end - 1];
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        is_name.then_some(&word[start..end])
    })
}

fn filled(word: &str, place: &Place<'_>) -> String {
    // In one pass, so that what is filled in is not looked at again.
    let mut filled = String::new();
    let mut rest = word;
    while let Some(start) = rest.find('{') {
        let (before, after) = rest.split_at(start);
        filled += before;
        let values = PLACEHOLDERS.into_iter().zip([place.work, place.gpu, place.user]);
        match values.into_iter().find(|(name, _)| after.starts_with(name)) {
            Some((name, value)) => {
                filled += value;
                rest = &after[name.len()..];
            }
            None => {
                filled.push('{');
                rest = &after[1..];
            }
        }
    }
    filled + rest
}

/// The image that words name: the last one with a digest, or a file.
fn image(words: &[String]) -> Option<Image> {
    let digest = |word: &String| -> Option<Digest> {
        let (before, hex) = word.rsplit_once("sha256:")?;
        (before.is_empty() || before.ends_with('@')).then(|| hex.parse().ok())?
    };
    let by_digest = words.iter().enumerate().filter(|(_, word)| !word.starts_with('-'));
    let by_digest = by_digest.filter_map(|(at, word)| Some(Image::Digest(digest(word)?, at))).next_back();
    let file = || words.iter().find(|word| word.ends_with(".sif") && word.starts_with('/'));
    by_digest.or_else(|| Some(Image::File(file()?.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "f92e64cca947238f501ecd9f4958e30a268ea4f1e0d426f337df8a45faa0ace5";

    fn words(text: &str) -> Vec<String> {
        text.replace("HEX", HEX).split(' ').map(str::to_owned).collect()
    }

    fn read(text: &str) -> Result<Runner, UnusableRunner> {
        Runner::read(&words(text))
    }

    const PLACE: Place<'_> =
        Place { work: "/job", gpu: "GPU-1", user: "7:8", name: Some("n"), memory: Some(4096) };

    const DOCKER: &str =
        "sudo docker run --gpus device={gpu} -v {work}:{work} -w {work} --user={user} img@sha256:HEX";

    #[test]
    fn a_container_is_named_shown_its_folder_and_ended() {
        let runner = read(DOCKER).unwrap();
        let command = runner.command(Path::new("trtexec"), &PLACE).join(" ");
        let expected = format!(
            "sudo docker run --rm --name=n --memory=4096 --gpus device=GPU-1 -v /job:/job -w /job --user=7:8 img@sha256:{HEX} trtexec"
        );
        assert_eq!(command, expected);
        assert_eq!(runner.end("n"), [words("sudo docker kill n"), words("sudo docker rm -f n")]);
        let named = read(&format!("{DOCKER} /opt/tensorrt/bin/trtexec")).unwrap();
        assert!(
            named.command(Path::new("trtexec"), &PLACE).join(" ").ends_with(" /opt/tensorrt/bin/trtexec")
        );
    }

    #[test]
    fn what_is_not_known_or_not_shown_is_refused() {
        for (text, says) in [
            ("docker run -v {work}:{work} -w {work} -e G={gpu} img:24.08-py3", "no digest"),
            ("docker exec box", "must `run`"),
            ("docker", "must `run`"),
            ("docker run --gpus device={gpu} img@sha256:HEX", "`{work}` is nowhere"),
            ("docker run -v {work}:/w -w /w --gpus all img@sha256:HEX", "`{gpu}` is nowhere"),
            ("docker run -v {work}:/w --gpus device={gpu} img@sha256:HEX", "no folder to run in"),
            (
                "docker run -v {wrok}:/w -w /w --gpus device={gpu} img@sha256:HEX",
                "`{wrok}` stands for nothing",
            ),
            ("docker run -it -v {work}:/w -w /w --gpus device={gpu} img@sha256:HEX", "`-it` does not go"),
            (
                "docker run --detach -v {work}:/w -w /w --gpus device={gpu} img@sha256:HEX",
                "`--detach` does not go",
            ),
            (
                "docker run --name=x -v {work}:/w -w /w --gpus device={gpu} img@sha256:HEX",
                "`--name=x` does not go",
            ),
            // What stands after the image is no option.
            ("docker run -v {work}:/w --gpus device={gpu} img@sha256:HEX -w /w", "no folder to run in"),
            ("docker run -v {work}:/w -w /w --gpus device={gpu} img@sha256:HEXx", "no digest"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.message.contains(says) && !error.help.is_empty(), "{text}: {error:?}");
        }
    }

    #[test]
    fn what_decides_is_in_the_identity() {
        let identity = |text: &str| read(text).unwrap().words_identity();
        let docker = identity(DOCKER);
        assert_eq!(docker.values().filter(|digest| digest.to_string() == HEX).count(), 1);
        assert_eq!(identity(&DOCKER.replace("sudo docker", "podman")), docker);
        assert_eq!(identity(&DOCKER.replace("img@", "mirror/of/img:1@")), docker);
        assert_ne!(identity(&DOCKER.replace("--user", "-e A=1 --user")), docker);
        let other = HEX.replace('f', "0");
        assert_ne!(identity(&DOCKER.replace("HEX", &other)), docker);
        assert_ne!(identity("nice -n 10"), identity("nice -n 11"));
        assert_eq!(identity("/a/run.sh x"), identity("/b/run.sh x"), "its content is");
        let runner = read("/a/run.sh x").unwrap();
        assert_eq!(runner.files().into_values().collect::<Vec<_>>(), [PathBuf::from("/a/run.sh")]);
    }

    #[test]
    fn a_wrapper_runs_the_program_of_this_machine() {
        let runner = read("taskset -c 0-3").unwrap();
        assert!(!runner.has_image() && !runner.is_container() && runner.end("n").is_empty());
        assert_eq!(
            runner.command(Path::new("/trt/bin/trtexec"), &PLACE).join(" "),
            "taskset -c 0-3 /trt/bin/trtexec"
        );
        let apptainer = read("apptainer exec --nv /images/trt.sif").unwrap();
        assert!(apptainer.has_image() && !apptainer.is_container());
        assert_eq!(apptainer.files()["image"], PathBuf::from("/images/trt.sif"));
        assert!(read("apptainer exec --nv docker://img@sha256:HEX").unwrap().has_image());
        // Nothing that is filled in is looked at again.
        let odd = Place { work: "/{gpu}", ..PLACE };
        assert_eq!(read("w {work}{{gpu}").unwrap().command(Path::new("t"), &odd)[1], "/{gpu}{GPU-1");
    }
}
