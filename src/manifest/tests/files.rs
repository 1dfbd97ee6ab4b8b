//! What is read from a disk: the project's files, and the globs of `[models.X]`.
#![expect(clippy::disallowed_methods, reason = "projects are made for the tests")]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::super::load::{Error, Loaded, Options, find_root, load};
use super::{BASE, show};

struct Project(tempfile::TempDir);

impl Project {
    fn new(files: &[(&str, &[u8])]) -> Project {
        let project = Project(tempfile::tempdir().unwrap());
        for (path, bytes) in files {
            let path = project.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        project
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn load(&self) -> Loaded {
        load(self.root(), &Options::default()).unwrap()
    }

    fn problems(&self) -> Vec<String> {
        let root = self.root().to_str().unwrap();
        self.load().diagnostics.iter().map(|d| show(d).replace(root, "ROOT")).collect()
    }
}

fn glob(pattern: &str) -> String {
    format!("{BASE}[models.det]\nglob = '{pattern}'\ntargets = ['t']\n")
}

#[test]
fn every_toml_below_manifests_is_read_and_hidden_ones_are_not() {
    let project = Project::new(&[
        ("manifests/b.toml", b"schema = 1\n[model.m]\nsource = { path = 'm' }\ntargets = ['t']"),
        ("manifests/deep/er/a.toml", BASE.as_bytes()),
        ("manifests/.hidden.toml", b"nonsense"),
        ("manifests/.git/x.toml", b"nonsense"),
        ("manifests/readme.md", b"nonsense"),
        ("enginewright.local.toml", b"[toolchain.rtx]\nroot = 'rtx'"),
    ]);
    std::os::unix::fs::symlink("nobody@host", project.root().join("manifests/.#b.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", project.root().join("manifests/notes")).unwrap();
    let loaded = project.load();
    let manifest = loaded.manifest.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let files: Vec<_> = manifest.files.iter().map(|f| f.path.strip_prefix(project.root()).unwrap()).collect();
    let expected = ["enginewright.local.toml", "manifests/b.toml", "manifests/deep/er/a.toml"];
    assert_eq!(files, expected.map(Path::new));
    assert_eq!(manifest.engines.len(), 1);
    assert_eq!(find_root(&project.root().join("manifests/deep")).as_deref(), Some(project.root()));
}

#[test]
fn no_folder_no_file_no_text() {
    let empty = tempfile::tempdir().unwrap();
    let error = load(empty.path(), &Options::default()).unwrap_err();
    assert!(matches!(error, Error::NoFolder(_)), "{error}");
    fs::create_dir(empty.path().join("manifests")).unwrap();
    assert_eq!(load(empty.path(), &Options::default()).unwrap().diagnostics[0].code, "no-manifests");

    let large = vec![b'\n'; (16 << 20) + 1];
    let project = Project::new(&[
        ("manifests/a.toml", b"schema = 1\n# \xff"),
        ("manifests/b.toml", &large),
        ("manifests/c.toml", b""),
    ]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        project.root().join("manifests/d.toml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(
        project.problems(),
        [
            "not-utf8: the manifest is not UTF-8 text: byte `0xff` in line 2 @ ROOT/manifests/a.toml",
            "file-too-large: the manifest is larger than 16 MiB @ ROOT/manifests/b.toml",
            "missing-key: the manifest has no `schema` @ ROOT/manifests/c.toml",
            "not-a-file: the manifest is not a regular file @ ROOT/manifests/d.toml",
        ]
    );
}

#[test]
fn a_manifest_that_is_a_dangling_link_or_a_loop_is_an_error() {
    let project = Project::new(&[("manifests/a.toml", BASE.as_bytes())]);
    std::os::unix::fs::symlink("..", project.root().join("manifests/loop")).unwrap();
    assert!(matches!(load(project.root(), &Options::default()), Err(Error::Walk { .. })));
    fs::remove_file(project.root().join("manifests/loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", project.root().join("manifests/b.toml")).unwrap();
    let error = load(project.root(), &Options::default()).unwrap_err();
    assert!(error.to_string().contains("b.toml"), "{error}");
}

#[test]
fn a_glob_makes_one_model_per_file() {
    let project = Project::new(&[
        ("manifests/a.toml", glob("../models/det/*.onnx").as_bytes()),
        ("models/det/b.onnx", b""),
        ("models/det/a.onnx", b""),
        ("models/det/.c.onnx", b""),
        ("models/det/c.txt", b""),
        ("models/det/deep/d.onnx", b""),
        ("models/det/dir.onnx/weights", b""),
    ]);
    let manifest = project.load().manifest.unwrap();
    let names: Vec<String> = manifest.engines.iter().map(|e| e.name.to_string()).collect();
    assert_eq!(names, ["a@t", "b@t"]);
    assert!(format!("{:?}", manifest.engines[0].source).contains("models/det/a.onnx"));
}

#[test]
fn a_glob_looks_deep_in_a_folder_with_any_name() {
    let project = Project::new(&[
        ("[x]*/manifests/a.toml", glob("../m/**/*.onnx").as_bytes()),
        ("[x]*/m/a/b/c.onnx", b""),
    ]);
    let loaded = load(&project.root().join("[x]*"), &Options::default()).unwrap();
    assert_eq!(loaded.manifest.unwrap().engines[0].name.to_string(), "c@t");
}

#[test]
fn a_glob_that_matches_nothing_or_no_names_is_an_error() {
    let project = Project::new(&[("manifests/a.toml", glob("../det/*.onnx").as_bytes()), ("det/x.txt", b"")]);
    assert_eq!(
        project.problems(),
        ["no-match: `../det/*.onnx` matches no file below `ROOT/det` @ '../det/*.onnx'"]
    );
    fs::write(project.root().join("det/Yolo v8.onnx"), "").unwrap();
    fs::write(project.root().join(Path::new(std::ffi::OsStr::from_bytes(b"det/\xff.onnx"))), "").unwrap();
    assert!(project.problems().iter().all(|p| p.starts_with("bad-name: ")), "{:?}", project.problems());
    fs::remove_dir_all(project.root().join("det")).unwrap();
    assert!(project.problems()[0].starts_with("unreadable-folder: "), "{:?}", project.problems());
}

#[test]
fn a_dangling_link_is_an_error_where_a_glob_matches_it() {
    let project =
        Project::new(&[("manifests/a.toml", glob("../det/*.onnx").as_bytes()), ("det/a.onnx", b"")]);
    std::os::unix::fs::symlink("nowhere", project.root().join("det/notes")).unwrap();
    assert_eq!(project.load().manifest.unwrap().engines.len(), 1);
    std::os::unix::fs::symlink("nowhere", project.root().join("det/b.onnx")).unwrap();
    let said = project.problems();
    assert!(said[0].contains("matches `ROOT/det/b.onnx`, a link that leads nowhere"), "{said:?}");
}

#[test]
fn a_glob_does_not_define_a_model_again() {
    let text = glob("../**/*.onnx") + "[model.a]\nsource = { path = 'a.onnx' }\ntargets = ['t']\n";
    let project = Project::new(&[
        ("manifests/a.toml", text.as_bytes()),
        ("m/a.onnx", b""),
        ("m/b.onnx", b""),
        ("n/b.onnx", b""),
    ]);
    assert_eq!(
        project.problems(),
        [
            "duplicate-name: the model `a` is defined twice: again by the file `ROOT/m/a.onnx` @ '../**/*.onnx'",
            "duplicate-name: the model `b` is defined twice: again by the file `ROOT/n/b.onnx` @ '../**/*.onnx'",
        ]
    );
}
