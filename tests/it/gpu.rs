//! `enginewright gpu`, where there is no driver, and with drivers that fail.

use std::path::Path;
use std::process::Command;

use crate::support::{Output, Project, run};

/// A stand-in for the driver's library: no driver of a real machine fails on demand.
fn with_driver(project: &Project, c: &str) -> Output {
    let source = project.write("driver/cuda.c", c);
    let library = project.path("driver/libcuda.so.1");
    run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source)).expect(0);
    run(project.command(&["gpu"]).env("LD_LIBRARY_PATH", project.path("driver")))
}

#[test]
fn a_machine_without_a_driver_is_told_what_that_means() {
    if Path::new("/proc/driver/nvidia/version").exists() {
        eprintln!("skipped: this machine has a driver");
        return;
    }
    let project = Project::bare();
    project.run(&["gpu"]).expect(4).says(&["error[no-driver]", "built without a GPU", "--gpus all"]);
    let json = project.run(&["--format", "json", "gpu"]);
    assert_eq!(json.expect(4).json()["diagnostics"][0]["code"], "no-driver");
}

#[test]
fn a_driver_that_fails_is_told_from_one_that_crashes() {
    let project = Project::bare();
    let name = "int cuGetErrorName(int s, const char **p) { *p = \"CUDA_ERROR_UNKNOWN\"; return 0; }\n";
    with_driver(&project, &format!("{name}int cuInit(unsigned f) {{ return 999; }}\n")).expect(4).says(&[
        "error[driver-failed]",
        "`cuInit` says CUDA_ERROR_UNKNOWN (999)",
        "nvidia-smi",
    ]);
    with_driver(&project, "int cuInit(unsigned f) { return 100; }\n").expect(4).says(&["error[no-gpu]"]);
    with_driver(&project, "int x;\n").expect(4).says(&["error[driver-failed]", "has no `cuInit`"]);
    with_driver(&project, "int cuInit(unsigned f) { *(volatile int *)0 = 1; return 0; }\n")
        .expect(4)
        .says(&["error[worker-crashed]", "SIGSEGV"]);
}
