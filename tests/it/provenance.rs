//! Provenance, read by in-toto's own library, and held against the files that it names.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Project, models, repository, rtx_libraries, run};

/// in-toto's own library, which has no part in this program.
const PACKAGE: &str = "in-toto-attestation==0.9.3";

/// Reads a statement strictly (unknown fields are errors), and hashes again what lies in the project.
const READ: &str = r#"
import hashlib, pathlib, sys
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

pb = json_format.Parse(open(sys.argv[1]).read(), statement_pb2.Statement())
Statement.copy_from_pb(pb).validate()
assert pb.predicate_type == "https://slsa.dev/provenance/v1", pb.predicate_type
provenance = json_format.Parse(json_format.MessageToJson(pb.predicate), provenance_pb2.Provenance())
definition, details = provenance.build_definition, provenance.run_details
assert details.builder.id and definition.build_type and definition.external_parameters
assert details.metadata.invocation_id
for resource in [*pb.subject, *definition.resolved_dependencies]:
    assert len(resource.digest["sha256"]) == len(resource.digest["blake3"]) == 64, resource
    for folder in sys.argv[2:]:
        file = pathlib.Path(folder) / resource.name
        if file.exists():
            assert hashlib.sha256(file.read_bytes()).hexdigest() == resource.digest["sha256"], file
            print(resource.name)
print(details.builder.id)
"#;

/// Folder of the library, fetched on first use; none if it cannot be.
fn library() -> Option<PathBuf> {
    let folder = repository().join("target/test-cache/in-toto");
    if !folder.join("in_toto_attestation").is_dir() {
        let pip = ["-m", "pip", "install", "-q", "--upgrade", "--target"];
        let done = Command::new("python3").args(pip).arg(&folder).arg(PACKAGE).output().ok()?;
        if !done.status.success() {
            return None;
        }
    }
    Some(folder)
}

#[test]
fn provenance_is_what_in_toto_reads_and_names_every_file() {
    let project = Project::new(
        "[model.m]\nsource = { path = \"../m/m.onnx\" }\ntargets = [\"a\"]\nprecision = \"fp16\"\nrules = []\n",
    );
    models::mlp_external(&project.path("m"), 1.0);
    project.run(&["export", "provenance", "m"]).expect(1).says(&["is not published", "never built"]);
    project.run(&["apply"]).expect(0);
    project.run(&["export", "provenance", "m", "--builder-id", "me"]).expect(64).says(&["is not a URI"]);
    let export = project.run(&["export", "provenance", "m"]);
    let statement = export.expect(0).json();
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(statement["subject"][0]["annotations"]["class"], "unverified");
    assert_eq!(definition["externalParameters"]["precision"], "fp16");
    assert_eq!(definition["externalParameters"]["options"]["tf32"], false);
    assert!(!export.stdout.contains(project.root().to_str().unwrap()), "no path of this machine");
    // Nothing in it is of this machine or this moment.
    assert_eq!(project.run(&["export", "provenance", "m@a"]).stdout, export.stdout);

    let Some(library) = library() else {
        eprintln!("SKIPPED: {PACKAGE} needs python3 with pip, and the network once");
        return;
    };
    let builder = "https://ci.example.com/release";
    let export = project.run(&["export", "provenance", "m", "--builder-id", builder]);
    project.write("m.intoto.json", &export.expect(0).stdout);
    let mut read = Command::new("python3");
    read.args(["-c", READ, "m.intoto.json", "."]).arg(rtx_libraries());
    let read = run(read.current_dir(project.root()).env("PYTHONPATH", library));
    let names: Vec<&str> = read.expect(0).stdout.lines().collect();
    let toolchain = ["libtensorrt_onnxparser_rtx.so.1", "libtensorrt_rtx.so.1"];
    assert_eq!(names, [&["engines/m/a.engine", "m/m.onnx", "m/m.data"], &toolchain[..], &[builder]].concat());

    // What is not current has no provenance.
    models::mlp_external(&project.path("m"), 2.0);
    project.run(&["export", "provenance", "m"]).expect(1).says(&["is not published as the manifests say"]);
}
