//! Which profile, sizes and node TensorRT means when it refuses a profile's sizes: it tells them in its own expressions,
//! such as `(+ (CEIL_DIV (+ samples -671) 160) 1)`, by the number of the profile or by nothing.

use super::failure::Failure;
use crate::diagnostic::Diagnostic;
use crate::manifest::{Engine, Profile, Range};

/// The code of such a failure.
const CODE: &str = "profile-unfit";

/// How much of TensorRT's line is quoted, in characters.
const QUOTED: usize = 300;

/// Tells a failure in the words of the manifest, if it is one.
pub(super) fn tell(engine: &Engine, failure: &Failure, what: &str, diagnostic: Diagnostic) -> Diagnostic {
    if failure.code != CODE {
        return diagnostic;
    }
    let is_of_sizes = |text: &&str| text.contains("shape constraints") || text.contains("cannot be negative");
    let Some(line) = failure.log.iter().map(|line| line.text.as_str()).find(is_of_sizes) else {
        return diagnostic;
    };
    let profiles: Vec<&Profile> = match number(line) {
        Some(index) => engine.profiles.get(index).into_iter().collect(),
        None => engine.profiles.iter().collect(),
    };
    let Some(first) = profiles.first() else { return diagnostic };
    let names: Vec<String> = profiles.iter().map(|profile| format!("`{}`", profile.name)).collect();
    let which = if let [one] = &names[..] {
        format!("profile {one}")
    } else {
        format!("a profile of {}", names.join(", "))
    };
    let at = which_of(line).map_or_else(String::new, |which| format!(" ({which})"));
    let message = match (line.contains("cannot be negative"), node(line)) {
        (true, Some(node)) => format!(
            "the sizes of {which}{at} are too small: the output of `{node}` would have a negative size"
        ),
        (true, None) => {
            format!("the sizes of {which}{at} are too small: a size inside the network would be negative")
        }
        (false, _) => format!("the network cannot have the sizes of {which}{at}"),
    };
    let mut told = Diagnostic { message: format!("{what} failed: {message}"), ..diagnostic };
    let origin =
        first.dims.keys().find(|dim| names_dim(line, dim)).and_then(|dim| first.key_origins.get(dim));
    told = told.at(origin.unwrap_or(&first.origin), "these sizes");
    for profile in profiles {
        let sizes = sizes(profile, line);
        if !sizes.is_empty() {
            told = told.note(format!("in `{}`, {}", profile.name, sizes.join(", ")));
        }
    }
    let mut quoted: String = line.chars().take(QUOTED).collect();
    if quoted.len() < line.len() {
        quoted.push('…');
    }
    told.note(format!("TensorRT says: {}", quoted.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// `kOPT values for profile 0 violate shape constraints`
fn number(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once("values for profile ")?;
    rest.split(' ').next()?.parse().ok()
}

/// Which of the three sizes are meant.
fn which_of(line: &str) -> Option<&'static str> {
    let all = [("kMIN", "min"), ("kOPT", "opt"), ("kMAX", "max")];
    all.into_iter().find(|(word, _)| line.contains(&format!("{word} values for"))).map(|(_, which)| which)
}

/// The node before `: spatial dimension of …`.
fn node(line: &str) -> Option<&str> {
    let (before, _) = line.split_once(": spatial dimension")?;
    before.rsplit(": ").next().filter(|name| !name.is_empty())
}

fn names_dim(line: &str, dim: &str) -> bool {
    line.split(|c: char| c.is_whitespace() || "(),=".contains(c)).any(|word| word == dim)
}

/// The sizes that the line names; all if it names none.
fn sizes(profile: &Profile, line: &str) -> Vec<String> {
    let show = |(dim, range): (&String, &Range<i64>)| {
        format!("`{dim}` is [{}, {}, {}]", range.min, range.opt, range.max)
    };
    let named: Vec<String> = profile.dims.iter().filter(|(dim, _)| names_dim(line, dim)).map(show).collect();
    if !named.is_empty() {
        return named;
    }
    let shapes = profile
        .shapes
        .iter()
        .map(|(input, range)| format!("`{input}` is {:?}, {:?}, {:?}", range.min, range.opt, range.max));
    profile.dims.iter().map(show).chain(shapes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use crate::worker::protocol::LogLine;

    fn told(line: &str) -> Diagnostic {
        let folder = tempfile::tempdir().unwrap();
        let text = "schema = 1\n[target.t]\ngpu = \"RTX 3090\"\n[model.m]\nsource = { path = \"m.onnx\" }\ntargets = [\"t\"]\n\
                    [[model.m.profile]]\nname = \"short\"\ndims = { batch = 1, samples = [1, 16, 32] }\n\
                    [[model.m.profile]]\nname = \"long\"\ndims = { batch = 2, samples = [1, 160, 320] }\n";
        crate::fs::create_dir_all(&folder.path().join("manifests")).unwrap();
        crate::fs::write_atomic(&folder.path().join("manifests/m.toml"), text.as_bytes()).unwrap();
        let loaded = manifest::load(folder.path(), &manifest::Options::default()).unwrap();
        let failure = Failure {
            code: CODE.to_owned(),
            message: String::new(),
            notes: Vec::new(),
            help: Vec::new(),
            log: vec![LogLine { level: "error".into(), text: line.into() }],
            stderr: String::new(),
            bundle: None,
        };
        let engine = &loaded.manifest.unwrap().engines[0];
        tell(engine, &failure, "building `m@t`", failure.diagnostic("building `m@t`"))
    }

    #[test]
    fn the_profile_the_sizes_and_the_node_are_named() {
        let told = told(
            "IBuilder::buildSerializedNetwork: Error Code 4: Internal Error (kOPT values for profile 1 violate shape \
             constraints: Conv_132: spatial dimension of convolution/deconvolution output cannot be negative (build-time \
             output dimension of axis 2 is (CEIL_DIV (+ samples -671) 64)))",
        );
        assert_eq!(
            told.message,
            "building `m@t` failed: the sizes of profile `long` (opt) are too small: the output of `Conv_132` would have a \
             negative size"
        );
        assert_eq!(told.notes[0], "in `long`, `samples` is [1, 160, 320]");
        assert!(told.notes[1].starts_with("TensorRT says: IBuilder::"), "{:?}", told.notes);
        assert!(told.place.is_some());
    }

    #[test]
    fn without_a_number_any_profile_may_be_meant() {
        let told = told(
            "API Usage Error (IConvolutionLayer Conv_2: Conv_2: spatial dimension of convolution/deconvolution output cannot \
             be negative (build-time output dimension of axis 2 is (+ samples -671)))",
        );
        assert!(
            told.message.contains("the sizes of a profile of `short`, `long` are too small"),
            "{}",
            told.message
        );
        assert!(told.message.contains("the output of `Conv_2`"), "{}", told.message);
        assert_eq!(
            told.notes[..2],
            ["in `short`, `samples` is [1, 16, 32]", "in `long`, `samples` is [1, 160, 320]"]
        );
    }

    #[test]
    fn other_constraints_are_quoted_with_all_sizes() {
        let told =
            told("kMIN values for profile 0 violate shape constraints: Condition '==' violated: 3 != 4.");
        assert!(
            told.message.ends_with("the network cannot have the sizes of profile `short` (min)"),
            "{}",
            told.message
        );
        assert_eq!(told.notes[0], "in `short`, `batch` is [1, 1, 1], `samples` is [1, 16, 32]");
    }
}
