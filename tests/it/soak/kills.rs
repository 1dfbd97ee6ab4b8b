//! Kills at any moment, and many processes at once.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use enginewright::digest::Digest;

use super::bed::{Bed, MODELS, VARIANTS, files};
use crate::support::fake::{self, TARGETS};
use crate::support::{Project, models};

/// What is killed, and how often.
const COMMANDS: [(&str, &[&str], usize); 4] = [
    ("apply", &["apply"], 6),
    ("gc", &["cache", "gc", "--max-age", "0", "--force"], 2),
    ("verify", &["cache", "verify"], 2),
    ("plan", &["plan"], 1),
];

/// Kills of the program without TensorRT.
pub(super) fn fake(bed: &mut Bed, until: Instant) {
    bed.recover();
    let mut usual = BTreeMap::from(COMMANDS.map(|(name, _, _)| (name, Duration::from_millis(300))));
    while Instant::now() < until {
        let mut choice = bed.below(COMMANDS.iter().map(|c| c.2).sum());
        let &(name, args, _) = COMMANDS
            .iter()
            .find(|(_, _, weight)| {
                choice.checked_sub(*weight).is_none_or(|left| {
                    choice = left;
                    false
                })
            })
            .unwrap();
        change(bed);
        // What a collection may take is not lost; what the project needs is.
        let mut before = bed.built();
        if name == "gc" {
            let lock = std::fs::read_to_string(bed.project.path("enginewright.lock")).unwrap_or_default();
            before.retain(|key| lock.contains(key.as_str()));
        }
        let cache = bed.cache();
        let mut command = fake::command(&bed.project, &cache, args);
        let limit = usual[name];
        let is_dead = kill_after(&mut command, limit, bed);
        match is_dead {
            None => *bed.counts.kills.entry(name.to_owned()).or_default() += 1,
            // So that kills are spread over the whole of a run.
            Some(took) => drop(usual.insert(name, (limit + took * 5 / 4) / 2)),
        }
        bed.judge(false);
        bed.count_lost(&before);
        if bed.below(3) == 0 {
            bed.recover();
        }
    }
    bed.recover();
    let verify = bed.run(&["cache", "verify"]);
    verify.expect(0).says(&["sound"]);
}

/// Something for the next run to do.
fn change(bed: &mut Bed) {
    for _ in 0..=bed.below(2) {
        match bed.below(10) {
            0..6 => {
                let (model, variant) = (bed.below(MODELS), bed.below(VARIANTS));
                bed.variants[model] = variant;
                fake::set_variant(&bed.project, model, variant);
            }
            6 | 7 => drop(std::fs::remove_dir_all(bed.project.path("engines"))),
            8 => {
                let model = bed.below(MODELS);
                drop(std::fs::remove_file(bed.project.path(&format!("engines/m{model}/a.engine"))));
            }
            _ => drop(std::fs::remove_file(bed.project.path("cache/v1/stat"))),
        }
    }
}

/// Starts a command and kills it at a random moment within the limit; none, or how long it took to end before that.
fn kill_after(command: &mut Command, limit: Duration, bed: &mut Bed) -> Option<Duration> {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let micros = bed.below(usize::try_from(limit.as_micros()).unwrap().max(1));
    std::thread::sleep(Duration::from_micros(micros as u64));
    if child.try_wait().unwrap().is_some() {
        return Some(begun.elapsed());
    }
    child.kill().unwrap();
    bed.wait(&mut child);
    None
}

/// Kills of the program with TensorRT: each engine is right, or not there.
pub(super) fn real(bed: &mut Bed, until: Instant) {
    let project = Project::new(
        "[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n\
         [model.n]\nsource = { path = \"../n.onnx\" }\ntargets = [\"a\"]\n",
    );
    let mut right = Vec::new();
    for scale in [1.0, 2.0, 3.0] {
        project.write("m.onnx", models::mlp(scale));
        project.write("n.onnx", models::mlp(scale));
        project.run(&["apply"]).expect(0);
        right.push((scale, Digest::of(&project.read("engines/m/a.engine"))));
    }
    while Instant::now() < until {
        std::fs::remove_dir_all(project.path("cache")).unwrap();
        let chosen = [bed.below(3), bed.below(3)];
        for (model, choice) in ["m", "n"].iter().zip(chosen) {
            project.write(&format!("{model}.onnx"), models::mlp(right[choice].0));
        }
        if kill_after(&mut project.command(&["apply"]), Duration::from_millis(1500), bed).is_none() {
            *bed.counts.kills.entry("apply with TensorRT".to_owned()).or_default() += 1;
        }
        let applied = bed.finish(&mut project.command(&["apply"]));
        for (model, choice) in ["m", "n"].iter().zip(chosen) {
            let engine =
                std::fs::read(project.path(&format!("engines/{model}/a.engine"))).unwrap_or_default();
            if applied.code != 0 || Digest::of(&engine) != right[choice].1 {
                bed.counts.wrong += 1;
                eprintln!("WRONG: {model}@a\n{}\n{}", applied.stdout, applied.stderr);
            }
        }
    }
}

/// Sixteen processes in sixteen projects that want the same of one cache: each engine is built by one of them.
pub(super) fn crowd() {
    let projects: Vec<Project> = (0..16).map(|_| fake::project(MODELS)).collect();
    let cache = projects[0].path("shared");
    let start = |project: &Project| {
        let mut command = fake::command(project, &cache, &["apply"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = projects.iter().map(start).collect();
    let mut built = BTreeMap::<String, usize>::new();
    for child in running {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        for line in said.lines().filter_map(|line| line.strip_prefix("built     ")) {
            *built.entry(line.split(':').next().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(built.len(), MODELS * TARGETS.len(), "{built:?}");
    assert!(built.values().all(|times| *times == 1), "{built:?}");
    let engines = |project: &Project| {
        let files = files(&project.path("engines"))
            .into_iter()
            .filter(|f| f.extension().is_some_and(|e| e == "engine"));
        files.map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>()
    };
    let first = engines(&projects[0]);
    assert_eq!(first.len(), MODELS * TARGETS.len());
    assert!(projects.iter().all(|project| engines(project) == first));
}
