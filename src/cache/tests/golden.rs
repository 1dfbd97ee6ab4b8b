//! A small cache of each format that there ever was, as it was written then: it is read for ever.
//!
//! `testdata/cache/v1` holds a build with an engine and a log, an index that knows the engine and a file of a user, the
//! time of a last use, and an answer. To make that of a new format: `cargo test golden_is_written -- --ignored`.

use std::path::{Path, PathBuf};

use super::record;
use crate::cache::{Cache, index, memo, recall, uses};
use crate::digest::Digest;
use crate::fs;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cache")
}

const ENGINE: &[u8] = b"this is an engine, as far as a cache knows\n";

/// A copy that may be written, without what a checkout leaves out.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in walkdir::WalkDir::new(golden()).into_iter().map(Result::unwrap) {
        let to = folder.path().join(entry.path().strip_prefix(golden()).unwrap());
        if entry.file_type().is_dir() { fs::create_dir_all(&to) } else { fs::copy(entry.path(), &to) }
            .unwrap();
    }
    folder
}

#[test]
fn format_1_is_read() {
    let folder = copy();
    let v1 = folder.path().join("v1");
    let indexed = index::parse(&fs::read(&v1.join("stat")).unwrap()).expect("the index is whole");
    let paths: Vec<String> = indexed.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    let hex = Digest::of(ENGINE).to_string();
    assert!(
        paths.contains(&format!("cas/{}/{hex}", &hex[..2])) && paths.iter().any(|p| p.ends_with("/m.onnx")),
        "{paths:?}"
    );
    let used = uses::parse(&fs::read(&v1.join("used")).unwrap()).expect("the times are whole");

    let cache = Cache::open(folder.path()).unwrap();
    let key = record(1, &[]).key;
    assert_eq!(used.get(&key), Some(&1_700_000_000));
    let found = cache.result("build", &key).unwrap().expect("the build is there");
    assert_eq!(found.outputs["engine"].sha256.as_ref().unwrap().len(), 64);
    assert_eq!(cache.read(&found.outputs["engine"]).unwrap().unwrap(), ENGINE);
    assert_eq!(cache.read(&found.outputs["log"]).unwrap().unwrap(), &b"quiet"[..]);
    let question = Digest::of(b"question");
    assert_eq!(
        memo::answer(&fs::read(&v1.join("memo").join(question.to_string())).unwrap()).unwrap(),
        b"answer"
    );
    // It was made from a file that is not there.
    let recalled = recall(folder.path(), &question, folder.path()).unwrap();
    assert_eq!((recalled.answer.as_slice(), recalled.changed.len()), (&b"answer"[..], 1), "{recalled:?}");
    let verified = cache.verify(1).unwrap();
    assert_eq!((verified.results, verified.blobs, verified.damaged.len()), (1, 2, 0));
    assert_eq!(cache.take_warnings(), Vec::<String>::new());
}

#[test]
#[ignore = "writes the golden cache of the current format"]
fn golden_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let (engine, user) = (folder.path().join("engine"), folder.path().join("m.onnx"));
    for file in [&engine, &user] {
        std::fs::write(file, ENGINE).unwrap();
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    fs::open(&user).unwrap().set_modified(old).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let engine = cache.adopt(&engine, true).unwrap();
    let log = cache.put_bytes(b"quiet").unwrap();
    let key = cache.put_result("build", &record(1, &[("engine", &engine), ("log", &log)])).unwrap().key;
    cache.file_digest(&user).unwrap();
    cache.flush();
    cache.publish_uses(&[(key, 1_700_000_000)].into()).unwrap();
    let stat = fs::stat(&user).unwrap();
    let sights =
        [(user.into(), fs::Sight::Read(stat)), ("/nowhere/m.toml".into(), fs::Sight::Missing)].into();
    let observed = fs::Observed { sights, beyond: None };
    let memo = cache.serialize_memo(i128::MAX, observed, folder.path(), b"answer").unwrap();
    fs::create_dir_all(&cache.folder("memo")).unwrap();
    std::fs::write(cache.folder("memo").join(Digest::of(b"question").to_string()), memo).unwrap();
    for part in ["format", "stat", "used", "memo", "cas", "results"] {
        for entry in walkdir::WalkDir::new(cache.folder(part)).into_iter().map(Result::unwrap) {
            let to = golden().join(entry.path().strip_prefix(cache.root()).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            if entry.file_type().is_file() {
                fs::copy(entry.path(), &to).unwrap();
            }
        }
    }
}
