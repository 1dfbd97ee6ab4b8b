//! `lock`: the lock file written anew, its hashes renewed, and what is wrong with one.

use std::io::Write;

use crate::support::{Output, Project, fake, models, run};

const MANIFEST: &str =
    "[model.m]\nsource = { package = \"models==1.0\", file = \"models/m.onnx\" }\ntargets = [\"a\"]\n";

/// Puts a package with this model into the folder that pip is given for an index.
fn index(project: &Project, model: &[u8]) {
    let path = project.write("index/models-1.0-py3-none-any.whl", b"");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let files: [(&str, &[u8]); 4] = [
        ("models/m.onnx", model),
        ("models-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: models\nVersion: 1.0\n"),
        ("models-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ("models-1.0.dist-info/RECORD", b""),
    ];
    for (name, bytes) in files {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// The program, with that index alone.
fn with_index(project: &Project, args: &[&str]) -> Output {
    let mut command = project.command(args);
    command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", project.path("index")).env_remove("PIP_INDEX_URL");
    run(&mut command)
}

fn lock(project: &Project) -> String {
    String::from_utf8(project.read("enginewright.lock")).unwrap()
}

#[test]
fn a_package_that_changed_is_refused_until_it_is_upgraded() {
    let project = Project::new(MANIFEST);
    index(&project, &models::mlp(1.0));
    let fetched = with_index(&project, &["lock"]);
    fetched.expect(0).says(&["source `package models==1.0 models/m.onnx`: new", "not locked", "m@a"]);
    with_index(&project, &["apply"]).expect(0);
    with_index(&project, &["lock"]).expect(0).says(&["`enginewright.lock` is as it was"]);
    let before = lock(&project);

    // The index has another file under the same version. What is here is what is locked.
    index(&project, &models::mlp(2.0));
    with_index(&project, &["apply", "--locked"]).expect(0).says(&["nothing to do"]);
    // A clone without a cache must not take it.
    std::fs::rename(project.path("cache"), project.path("cache.old")).unwrap();
    with_index(&project, &["apply", "--locked"])
        .expect(1)
        .says(&["models-1.0-py3-none-any.whl", "lock file"]);
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    std::fs::rename(project.path("cache.old"), project.path("cache")).unwrap();

    with_index(&project, &["lock", "--upgrade", "nobody"]).expect(1).says(&["is named `nobody`"]);
    let upgrade = with_index(&project, &["lock", "--upgrade", "m"]);
    upgrade.expect(0).says(&[
        "source `package models==1.0 models/m.onnx`: model: ",
        "packages.models-1.0-py3-none-any.whl: ",
        "not locked, since they are not built as the manifests say: m@a",
    ]);
    assert_ne!(lock(&project), before);
    assert_eq!(project.why("m@a"), ["model: 1 of 4 initializers differ: w1"]);
    with_index(&project, &["apply"]).expect(0).says(&["rebuilt"]);
    with_index(&project, &["lock", "--upgrade"]).expect(0).says(&["is as it was"]);
}

#[test]
fn a_locked_package_that_the_index_lost_is_named_with_its_hash() {
    let project = Project::new(MANIFEST);
    index(&project, &models::mlp(1.0));
    with_index(&project, &["apply"]).expect(0);
    std::fs::remove_file(project.path("index/models-1.0-py3-none-any.whl")).unwrap();
    // As long as the cache has it, nobody needs the index.
    with_index(&project, &["apply", "--locked"]).expect(0);
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    let apply = with_index(&project, &["apply", "--locked"]);
    apply.expect(1).says(&["`enginewright.lock` pins `models-1.0-py3-none-any.whl` with SHA-256 "]);
    assert!(project.exists("engines/m/a.engine"), "what is published stays");
}

#[test]
fn a_lock_file_that_cannot_be_read_is_written_anew_by_force() {
    let project = Project::new("[model.m]\nsource = { path = \"../m.onnx\" }\ntargets = [\"a\"]\n");
    project.write("m.onnx", models::mlp(1.0));
    project.run(&["apply"]).expect(0);
    let good = lock(&project);
    let bad = [
        (format!("<<<<<<< HEAD\n{good}=======\n{good}>>>>>>> theirs\n"), "merge conflict markers, at line 1"),
        (good.replace("version = 1", "version = 0"), "has format version 0"),
        (good.replace("[[engine]]", "[[engine]]\nmood = \"good\""), "unknown field `mood`"),
        (good[..good.len() / 2].to_owned(), "is damaged"),
    ];
    for (text, says) in bad {
        project.write("enginewright.lock", &text);
        for command in ["plan", "apply", "lock"] {
            project.run(&[command]).expect(3).says(&[
                says,
                "enginewright.lock",
                "`enginewright lock --force`",
            ]);
        }
        assert_eq!(lock(&project), text, "it is left as it is");
        project.run(&["lock", "--force"]).expect(0).says(&["engine `m@a`: new"]);
        assert_eq!(lock(&project), good);
    }
    // Blocks that nothing here vouches for go by force alone.
    let other = good.replace("model = \"", "model = \"0").replace("\"0", "\"");
    project.write("enginewright.lock", other);
    project.run(&["lock", "--force", "--offline"]).expect(0);
    assert_eq!(lock(&project), good);
}

#[test]
fn git_is_told_what_is_text() {
    let project = Project::new("");
    let hint = "enginewright.lock text eol=lf linguist-generated";
    let lock = project.run(&["lock"]);
    assert!(!lock.expect(0).stderr.contains(".gitattributes"), "no repository");
    project.write(".git/HEAD", "ref: refs/heads/main\n");
    project.run(&["lock"]).expect(0).says(&[hint, "*.engine binary"]);
    project.write(".gitattributes", format!("{hint}\n*.engine binary\n"));
    assert!(!project.run(&["lock"]).expect(0).stderr.contains(".gitattributes"));
}

#[test]
fn toolchains_of_one_version_are_locked_by_their_names() {
    let project = fake::project(1);
    let toolchains = || lock(&project).matches("[[toolchain]]").count();
    fake::run_in(&project, &["apply"]).expect(0);
    assert!(toolchains() == 1 && !lock(&project).contains("name = \"rtx\""), "{}", lock(&project));
    // Another folder with the same version, and other files.
    for library in ["libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"] {
        project.write(&format!("other/{library}"), format!("another {library}"));
    }
    let text = String::from_utf8(project.read("manifests/m.toml")).unwrap();
    let other = text.replace("sm = \"sm_89\"\ntoolchain = \"rtx\"", "sm = \"sm_89\"\ntoolchain = \"other\"")
        + "[toolchain.other]\nkind = \"tensorrt-rtx\"\nversion = \"1.7.1.116\"\nroot = \"../other\"\n";
    project.write("manifests/m.toml", other);
    fake::run_in(&project, &["apply"]).expect(0).says(&["with other files", "1 built"]);
    assert_eq!(toolchains(), 2, "{}", lock(&project));
    let before = lock(&project);
    fake::run_in(&project, &["apply", "--locked"]).expect(0).says(&["nothing to do"]);
    fake::run_in(&project, &["lock"]).expect(0).says(&["as it was"]);
    assert_eq!(lock(&project), before);
    // Alone again, it needs no name.
    project.write("manifests/m.toml", text);
    fake::run_in(&project, &["apply"]).expect(0);
    assert!(toolchains() == 1 && !lock(&project).contains("name = \"rtx\""), "{}", lock(&project));
}
