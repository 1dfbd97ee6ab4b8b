//! What kernels were timed at, from build to lock file to a build that is held to it, with a stand-in for trtexec. **No
//! TensorRT is run.**

use crate::support::Project;
use crate::trtexec::{go, model, project};

/// The engine is nowhere any more: neither published nor in the cache.
fn lose_engine(project: &Project, target: &str) {
    let sidecar: serde_json::Value =
        serde_json::from_slice(&project.read(&format!("engines/mlp/{target}.json"))).unwrap();
    let b3 = sidecar["file"]["b3"].as_str().unwrap();
    std::fs::remove_dir_all(project.path("engines")).unwrap();
    std::fs::remove_file(project.path(&format!("cache/v1/cas/{}/{b3}", &b3[..2]))).unwrap();
}

fn last_call(project: &Project, toolchain: &str) -> String {
    let calls = String::from_utf8(project.read(&format!("{toolchain}/bin/calls"))).unwrap();
    calls.lines().last().unwrap().to_owned()
}

#[test]
fn a_locked_build_times_nothing() {
    let project = project(&[("trt", "10.3", 100300)], &model("mlp", "\"on-trt\"", ""));
    go(&project, &["apply"]).expect(0);
    assert!(!last_call(&project, "trt").contains("--errorOnTimingCacheMiss"));
    let lock = String::from_utf8(project.read("enginewright.lock")).unwrap();
    let timings = lock.lines().find_map(|line| line.strip_prefix("timings = \"")).unwrap().trim_matches('"');
    assert_eq!(project.read(&format!("cache/v1/cas/{}/{timings}", &timings[..2])), b"timings\n");

    // What other builds time meanwhile is nothing to it.
    let others = std::fs::read_dir(project.path("cache/v1/timings")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&others, "others\n").unwrap();
    lose_engine(&project, "on-trt");
    go(&project, &["apply", "--locked"]).expect(0).says(&["1 of 1 engine ready"]);
    assert!(last_call(&project, "trt").contains("--timingCacheFile=timing.cache --errorOnTimingCacheMiss"));
    assert_eq!(std::fs::read(&others).unwrap(), b"others\n");
    // So is a rebuild that is held against the record.
    go(&project, &["rebuild", "--check"]).expect(0);
    assert!(last_call(&project, "trt").contains("--errorOnTimingCacheMiss"));

    lose_engine(&project, "on-trt");
    project.write("trt/bin/scenario", "miss");
    go(&project, &["apply", "--locked"]).expect(1).says(&["error[timing-cache-miss]", "without `--locked`"]);
    project.write("trt/bin/scenario", "good");
    std::fs::remove_file(project.path(&format!("cache/v1/cas/{}/{timings}", &timings[..2]))).unwrap();
    go(&project, &["apply", "--locked"]).expect(1).says(&["error[timing-cache-missing]", timings]);
    go(&project, &["apply"]).expect(0).says(&["1 of 1 engine ready"]);
}

#[test]
fn a_version_without_the_option_is_given_the_same_timings() {
    let project = project(&[("trt8", "8.6", 8601)], &model("mlp", "\"on-trt8\"", ""));
    go(&project, &["apply"]).expect(0);
    lose_engine(&project, "on-trt8");
    go(&project, &["apply", "--locked"]).expect(0);
    let call = last_call(&project, "trt8");
    assert!(call.contains("--timingCacheFile=timing.cache") && !call.contains("CacheMiss"), "{call}");
}
