//! Caches that are not as they should be, engines taken from one cache to another, and how engines are published.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Project, fake, run};

fn built() -> Project {
    let project = fake::project(1);
    fake::run_in(&project, &["apply"]).expect(0);
    project
}

fn plan(project: &Project) -> String {
    let plan = fake::run_in(project, &["--format", "json", "plan"]);
    let engines = plan.expect(0).json()["engines"].as_array().unwrap().clone();
    engines.iter().map(|e| e["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
}

fn sidecar(project: &Project, target: &str) -> serde_json::Value {
    serde_json::from_slice(&project.read(&format!("engines/m0/{target}.json"))).unwrap()
}

/// The blob of an engine in the cache.
fn blob(project: &Project, target: &str) -> PathBuf {
    let b3 = sidecar(project, target)["file"]["b3"].as_str().unwrap().to_owned();
    project.path(&format!("cache/v1/cas/{}/{b3}", &b3[..2]))
}

fn inode(path: &Path) -> u64 {
    path.metadata().unwrap().ino()
}

#[test]
fn engines_go_from_one_cache_to_another() {
    let (project, other) = (built(), fake::project(1));
    fake::run_in(&project, &["cache", "export", "m0", "--output", "m0.tar"])
        .expect(0)
        .says(&["exported 2 engines"]);
    fake::run_in(&project, &["cache", "export", "m0", "--output", "m0.tar"]).expect(4).says(&["m0.tar"]);
    let tar = project.path("m0.tar");
    let tar = tar.to_str().unwrap();
    fake::run_in(&other, &["cache", "export", "m0", "--output", "x.tar"])
        .expect(1)
        .says(&["is not in the cache"]);
    assert!(!other.exists("x.tar"));

    // The same models and the same toolchain elsewhere: nothing is to be built.
    fake::run_in(&other, &["cache", "import", tar])
        .expect(0)
        .says(&["imported 2 engines (4 results, 4 of them new"]);
    assert_eq!(plan(&other), "publish publish");
    let applied = fake::run_in(&other, &["apply"]);
    applied.expect(0);
    assert!(!applied.stderr.contains("building"), "{applied:?}");
    assert_eq!(other.read("engines/m0/a.engine"), project.read("engines/m0/a.engine"));

    let bytes = project.read("m0.tar");
    project.write("cut.tar", &bytes[..bytes.len() / 2]);
    fake::run_in(&other, &["cache", "import", project.path("cut.tar").to_str().unwrap()]).expect(4).says(&[
        "cut.tar",
        "ends too early",
        "nothing of it was recorded",
    ]);
    for odd in ["/nowhere.tar", "/dev/null", "/"] {
        fake::run_in(&other, &["cache", "import", odd])
            .expect(4)
            .says(&[&format!("cannot import `{odd}`"), "cache export"]);
    }
    fake::run_in(&other, &["cache", "verify"]).expect(0).says(&["sound"]);
}

#[test]
fn engines_are_links_unless_copies_are_asked_for() {
    let project = built();
    let by = sidecar(&project, "a")["published_by"].as_str().unwrap().to_owned();
    let is_same = inode(&project.path("engines/m0/a.engine")) == inode(&blob(&project, "a"));
    // What the file system here can do.
    assert!(by == "reflink" && !is_same || by == "link" && is_same, "{by}, the same file: {is_same}");

    let text = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    project.write("manifests/m.toml", text.replace("[defaults]\n", "[defaults]\npublish = \"copy\"\n"));
    assert_eq!(plan(&project), "publish publish");
    fake::run_in(&project, &["apply"]).expect(0);
    assert_eq!(sidecar(&project, "a")["published_by"], "copy");
    assert_ne!(inode(&project.path("engines/m0/a.engine")), inode(&blob(&project, "a")));
    assert_eq!(plan(&project), "up-to-date up-to-date");
    project.write("manifests/m.toml", text.replace("[defaults]\n", "[defaults]\npublish = \"move\"\n"));
    fake::run_in(&project, &["plan"]).expect(3).says(&["publish", "`link`", "`copy`"]);
}

#[test]
fn a_link_that_is_edited_is_noticed_and_never_published_again() {
    let project = built();
    let engine = project.path("engines/m0/a.engine");
    let right = project.read("engines/m0/a.engine");
    std::fs::File::options().write(true).open(&engine).unwrap().write_all_at(b"edited", 1000).unwrap();
    // A reflink leaves the cache whole; a hard link takes its blob with it.
    assert!(["publish up-to-date", "rebuild up-to-date"].contains(&plan(&project).as_str()));
    fake::run_in(&project, &["apply"]).expect(0);
    assert_eq!(project.read("engines/m0/a.engine"), right);
    fake::run_in(&project, &["cache", "verify"]).expect(0).says(&["sound"]);
}

#[test]
fn a_cache_on_another_file_system_publishes_copies() {
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let project = fake::project(1);
    if other.path().metadata().unwrap().dev() == project.root().metadata().unwrap().dev() {
        return eprintln!("SKIPPED a_cache_on_another_file_system_publishes_copies: there is no other one");
    }
    run(&mut fake::command(&project, other.path(), &["apply"])).expect(0);
    assert_eq!(sidecar(&project, "a")["published_by"], "copy");
    run(&mut fake::command(&project, other.path(), &["plan", "--detailed-exitcode"])).expect(0);
}

/// What is broken, and how: given `v1/` and the blob of an engine.
type Break = (&'static str, fn(&Path, &Path));

#[test]
fn what_is_gone_or_something_else_is_made_anew() {
    let project = built();
    let right = project.read("engines/m0/a.engine");
    let break_by: [Break; 7] = [
        ("half of it is gone", |v1, _| std::fs::remove_dir_all(v1.join("cas")).unwrap()),
        ("the index is gone", |v1, _| std::fs::remove_file(v1.join("stat")).unwrap()),
        ("the index is a folder", |v1, _| {
            std::fs::remove_file(v1.join("stat")).unwrap();
            std::fs::create_dir(v1.join("stat")).unwrap();
        }),
        ("the blob is a folder", |_, blob| {
            std::fs::remove_file(blob).unwrap();
            std::fs::create_dir(blob).unwrap();
            std::fs::write(blob.join("x"), "x").unwrap();
        }),
        ("the blob is a link to itself", |_, blob| {
            std::fs::remove_file(blob).unwrap();
            symlink(blob, blob).unwrap();
        }),
        ("the blob is a pipe", |_, blob| {
            std::fs::remove_file(blob).unwrap();
            assert!(Command::new("mkfifo").arg(blob).status().unwrap().success());
        }),
        ("the results are links that lead in a circle", |v1, _| {
            std::fs::remove_dir_all(v1.join("results/build")).unwrap();
            symlink(v1.join("results/build"), v1.join("results/build")).unwrap();
        }),
    ];
    for (what, break_it) in break_by {
        let place = blob(&project, "a");
        break_it(&project.path("cache/v1"), &place);
        let _ = std::fs::remove_dir_all(project.path("engines"));
        let applied = fake::run_in(&project, &["apply"]);
        if what.contains("circle") {
            // Nobody can mend that but who made it; it is said where it is.
            assert!(applied.code != 0 && applied.code != 101, "{what}: {applied:?}");
            applied.says(&["results/build"]);
            std::fs::remove_file(project.path("cache/v1/results/build")).unwrap();
            fake::run_in(&project, &["apply"]).expect(0);
        } else {
            assert_eq!(applied.code, 0, "{what}: {applied:?}");
        }
        assert_eq!(project.read("engines/m0/a.engine"), right, "{what}");
        let _ = fake::run_in(&project, &["cache", "verify"]);
        fake::run_in(&project, &["cache", "verify"]).expect(0).says(&["sound"]);
    }
}

#[test]
fn files_of_others_in_a_cache_are_left_alone() {
    let project = built();
    let foreign = [
        "x.txt",
        "v1/cas/x.txt",
        "v1/cas/ab/x.txt",
        "v1/results/x",
        "v1/results/build/zz/x.json",
        "v1/x",
        "v7x",
    ];
    for file in foreign {
        project.write(&format!("cache/{file}"), "not ours");
    }
    fake::run_in(&project, &["cache", "verify"]).expect(0).says(&["sound"]);
    fake::run_in(&project, &["cache", "gc", "--max-age", "0", "--force"]).expect(0);
    fake::run_in(&project, &["cache", "stat"]).expect(0);
    assert!(foreign.iter().all(|file| project.read(&format!("cache/{file}")) == b"not ours"));
    assert_eq!(plan(&project), "up-to-date up-to-date");
}

#[test]
fn a_cache_of_a_newer_program_is_refused() {
    let project = built();
    project.write("cache/v1/format", "2\n");
    for args in [&["plan"][..], &["apply"], &["cache", "verify"], &["cache", "gc"]] {
        fake::run_in(&project, args)
            .expect(4)
            .says(&["has format 2; this program knows formats up to 1", "--cache-dir"]);
    }
    project.write("cache/v1/format", "1\n");
    fake::run_in(&project, &["plan"]).expect(0);
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    symlink(project.path("cache"), project.path("cache")).unwrap();
    fake::run_in(&project, &["plan"]).expect(4).says(&["cache"]);
}

#[test]
fn a_cache_of_another_user_is_read_and_not_written() {
    let project = built();
    if !rustix::process::geteuid().is_root() {
        return eprintln!(
            "SKIPPED a_cache_of_another_user_is_read_and_not_written: only root can be somebody else"
        );
    }
    let as_other = |args: &[&str]| {
        let program = project.path("program");
        if !program.exists() {
            std::fs::copy(fake::program(), &program).unwrap();
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(args);
        run(command.current_dir(project.root()).env("NO_COLOR", "1").env_remove("ENGINEWRIGHT_CACHE"))
    };
    std::fs::set_permissions(project.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    as_other(&["plan", "--detailed-exitcode"]).expect(0).says(&["nothing to do"]);
    as_other(&["cache", "verify"]).expect(0).says(&["sound"]);
    fake::set_variant(&project, 0, 3);
    as_other(&["apply"]).expect(1).says(&["read-only", "--cache-dir"]);
    as_other(&["cache", "gc"]).expect(4).says(&["read-only"]);
    as_other(&["cache", "import", "x.tar"]).expect(4);
    // Nothing was left behind that its owner stumbles over.
    fake::run_in(&project, &["apply"]).expect(0);
}
