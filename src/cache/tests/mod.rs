//! What the cache promises, held against damage, races and death.

#![expect(clippy::disallowed_methods, reason = "tests damage files behind the back of the cache")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::{Cache, Error, FailureFile, Record};
use crate::digest::{Blob, Digest, Preimage};
use crate::fs;

mod golden;
mod transfer;

struct Bed {
    folder: tempfile::TempDir,
    cache: Cache,
}

fn bed() -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    Bed { folder, cache }
}

impl Bed {
    /// The cache as another process would see it.
    fn reopen(&self) -> Cache {
        Cache::open(self.cache.root()).unwrap()
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn record(n: i64, outputs: &[(&str, &Blob)]) -> Record {
    let preimage = Preimage::new("build").with("n", n);
    Record {
        key: preimage.key(),
        preimage,
        outputs: outputs.iter().map(|(name, blob)| ((*name).to_owned(), (*blob).clone())).collect(),
        info: serde_json::json!({ "log": "quiet" }),
        duration_ms: 7,
        tool: "test 1".into(),
        created: None,
    }
}

fn result_file(cache: &Cache, key: &Digest) -> PathBuf {
    let hex = key.to_string();
    cache.folder("results").join("build").join(&hex[..2]).join(format!("{hex}.json"))
}

/// Every path below a folder with its stat: what "writes nothing" is held against.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (i128, u64)> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let stat = fs::look(entry.path()).unwrap().unwrap().1;
            (entry.into_path(), (stat.ctime_ns, stat.ino))
        })
        .collect()
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_mode(path, 0o644).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn bytes_and_files_come_back() {
    let bed = bed();
    let a = bed.cache.put_bytes(b"hello").unwrap();
    let file = bed.file("big", &vec![7; 300_000]);
    let b = bed.cache.adopt(&file, true).unwrap();
    assert!(!fs::exists(&file), "an adopted file is moved");
    assert_eq!(b.sha256.as_ref().unwrap().len(), 64);
    for cache in [bed.cache.clone(), bed.reopen()] {
        assert_eq!(cache.read(&a).unwrap().unwrap(), &b"hello"[..]);
        assert_eq!(cache.read(&b).unwrap().unwrap().len(), 300_000);
        assert!(cache.check(&a).unwrap() && cache.check(&b).unwrap());
        assert_eq!(cache.take_warnings(), Vec::<String>::new());
    }
    let none = Blob { b3: Digest::of(b"never stored"), size: 12, sha256: None };
    assert_eq!(bed.cache.find(&none).unwrap(), None);
    assert!(!bed.cache.check(&none).unwrap());
    let mode = std::os::unix::fs::MetadataExt::mode(
        &std::fs::metadata(bed.cache.find(&a).unwrap().unwrap()).unwrap(),
    );
    assert_eq!(mode & 0o777, 0o444);
    let empty = bed.cache.put_bytes(b"").unwrap();
    assert_eq!(bed.cache.read(&empty).unwrap().unwrap(), &b""[..]);
}

#[test]
fn a_file_with_other_names_is_copied_and_a_link_is_refused() {
    let bed = bed();
    let (file, other) = (bed.file("a", b"shared"), bed.folder.path().join("b"));
    fs::hard_link(&file, &other).unwrap();
    let blob = bed.cache.adopt(&file, false).unwrap();
    std::fs::write(&other, b"SHARED").unwrap();
    assert_eq!(bed.cache.read(&blob).unwrap().unwrap(), &b"shared"[..]);

    let link = bed.folder.path().join("link");
    fs::symlink(&other, &link).unwrap();
    assert!(bed.cache.adopt(&link, false).is_err());
    assert!(fs::exists(&other));
}

#[test]
fn an_equal_blob_stays() {
    let bed = bed();
    let first = bed.cache.put_bytes(b"same").unwrap();
    let before = fs::stat(&bed.cache.find(&first).unwrap().unwrap()).unwrap();
    let again = bed.cache.adopt(&bed.file("f", b"same"), false).unwrap();
    assert_eq!(again, first);
    assert_eq!(fs::stat(&bed.cache.find(&first).unwrap().unwrap()).unwrap(), before);
}

#[test]
fn the_first_result_stays() {
    let bed = bed();
    let (a, b) = (bed.cache.put_bytes(b"a").unwrap(), bed.cache.put_bytes(b"b").unwrap());
    let (first, second) = (record(1, &[("engine", &a)]), record(1, &[("engine", &b)]));
    assert_eq!(bed.cache.result("build", &first.key).unwrap(), None);
    assert_eq!(bed.cache.put_result("build", &first).unwrap(), first);
    assert_eq!(bed.cache.put_result("build", &second).unwrap(), first);
    assert_eq!(bed.reopen().result("build", &first.key).unwrap(), Some(first.clone()));
    // Actions of another kind are apart.
    assert_eq!(bed.cache.result("prepare", &first.key).unwrap(), None);
}

#[test]
fn a_result_needs_its_blobs() {
    let bed = bed();
    let a = bed.cache.put_bytes(b"a").unwrap();
    let gone = Blob { b3: Digest::of(b"gone"), size: 4, sha256: None };
    let bad = record(1, &[("engine", &a), ("log", &gone)]);
    assert!(
        matches!(bed.cache.put_result("build", &bad), Err(Error::MissingBlob { output, .. }) if output == "log")
    );

    let good = record(1, &[("engine", &a)]);
    bed.cache.put_result("build", &good).unwrap();
    fs::remove_file(&bed.cache.find(&a).unwrap().unwrap()).unwrap();
    assert_eq!(bed.cache.result("build", &good.key).unwrap(), None);
    // A rebuild that gives other bytes takes the place of a result without its blobs.
    let b = bed.cache.put_bytes(b"b").unwrap();
    let rebuilt = record(1, &[("engine", &b)]);
    assert_eq!(bed.cache.put_result("build", &rebuilt).unwrap(), rebuilt);
    assert_eq!(bed.cache.result("build", &good.key).unwrap(), Some(rebuilt));
}

#[test]
fn a_record_must_be_of_its_key() {
    let bed = bed();
    let mut wrong = record(1, &[]);
    wrong.preimage = Preimage::new("build").with("n", 2i64);
    assert!(matches!(bed.cache.put_result("build", &wrong), Err(Error::WrongKey { .. })));

    // On disk, with a checksum that is right: as written by a program with another idea of keys.
    let path = result_file(&bed.cache, &wrong.key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, super::seal::seal(&wrong)).unwrap();
    assert_eq!(bed.cache.result("build", &wrong.key).unwrap(), None);
    assert!(bed.cache.take_warnings()[0].contains("preimage"));
    assert!(!fs::exists(&path), "quarantined");
    assert_eq!(fs::list(&bed.cache.folder("quarantine")).unwrap().len(), 1);
}

#[test]
fn results_of_wrong_kinds_are_misses() {
    let bed = bed();
    let good = record(1, &[]);
    let path = result_file(&bed.cache, &good.key);
    fs::create_dir_all(&path).unwrap();
    assert_eq!(bed.cache.result("build", &good.key).unwrap(), None);
    fs::symlink(Path::new("/dev/zero"), &path).unwrap();
    assert_eq!(bed.cache.result("build", &good.key).unwrap(), None);
    std::fs::write(&path, b"").unwrap();
    assert_eq!(bed.cache.result("build", &good.key).unwrap(), None);
    assert_eq!(bed.cache.take_warnings().len(), 2, "one for the kinds, one for the content");
    assert_eq!(bed.cache.put_result("build", &good).unwrap(), good);
    // A file where the folder of results should be: not a panic, and not a result.
    let other = record(2, &[]);
    let folder = result_file(&bed.cache, &other.key).parent().unwrap().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, b"x").unwrap();
    assert_eq!(bed.cache.result("build", &other.key).unwrap(), None);
    assert!(bed.cache.put_result("build", &other).is_err());
}

#[test]
fn blobs_of_wrong_kinds_are_misses_and_mended() {
    let bed = bed();
    let blob = bed.cache.put_bytes(b"engine").unwrap();
    let path = bed.cache.find(&blob).unwrap().unwrap();
    let elsewhere = bed.file("elsewhere", b"engine");
    for damage in 0..3 {
        fs::remove_file(&path).unwrap();
        match damage {
            0 => {
                fs::create_dir_all(&path).unwrap();
                std::fs::write(path.join("x"), b"x").unwrap();
            }
            1 => fs::symlink(&elsewhere, &path).unwrap(),
            _ => fs::symlink(&path, &path).unwrap(),
        }
        assert_eq!(bed.cache.find(&blob).unwrap(), None, "damage {damage}");
        assert_eq!(bed.cache.take_warnings().len(), 1);
        assert_eq!(bed.cache.put_bytes(b"engine").unwrap(), blob);
        assert_eq!(bed.cache.read(&blob).unwrap().unwrap(), &b"engine"[..]);
    }
}

#[test]
fn a_wrong_size_in_a_record_does_not_cost_a_good_blob() {
    let bed = bed();
    let blob = bed.cache.put_bytes(b"engine").unwrap();
    for cache in [bed.cache.clone(), bed.reopen()] {
        assert_eq!(cache.find(&Blob { size: 7, ..blob.clone() }).unwrap(), None);
        assert!(cache.find(&blob).unwrap().is_some());
        assert!(cache.take_warnings()[0].contains("6 bytes"));
    }
    let sha256 = Some("0".repeat(64));
    assert!(!bed.cache.check(&Blob { sha256, ..blob.clone() }).unwrap());
    assert!(bed.cache.check(&blob).unwrap());
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Grow(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        3 => (any::<usize>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<usize>().prop_map(Damage::Cut),
        1 => proptest::collection::vec(any::<u8>(), 1..9).prop_map(Damage::Grow),
    ]
}

impl Damage {
    fn apply(&self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let length = bytes.len();
        match self {
            Damage::Flip(at, bit) => bytes[at % length] ^= 1 << bit,
            Damage::Cut(at) => bytes.truncate(at % length),
            Damage::Grow(more) => bytes.extend(more),
        }
        overwrite(path, &bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// A result is the one that was stored, or none; and storing it once more mends all.
    #[test]
    fn damage_is_never_returned_as_good(target in 0..3u8, damage in damage(), content in ".{1,200}") {
        let bed = bed();
        let blob = bed.cache.put_bytes(content.as_bytes()).unwrap();
        let good = record(1, &[("engine", &blob)]);
        bed.cache.put_result("build", &good).unwrap();
        bed.cache.flush();
        let victim = match target {
            0 => bed.cache.find(&blob).unwrap().unwrap(),
            1 => result_file(&bed.cache, &good.key),
            _ => bed.cache.folder("stat"),
        };
        damage.apply(&victim);

        let cache = bed.reopen();
        let found = cache.result("build", &good.key).unwrap();
        if target == 2 {
            prop_assert_eq!(found.as_ref(), Some(&good));
        } else {
            prop_assert_eq!(found, None);
        }
        prop_assert!(!cache.take_warnings().is_empty(), "damage is reported");

        prop_assert_eq!(&cache.put_bytes(content.as_bytes()).unwrap(), &blob);
        prop_assert_eq!(&cache.put_result("build", &good).unwrap(), &good);
        let read = cache.read(&blob).unwrap().unwrap();
        prop_assert_eq!(read.as_ref(), content.as_bytes());
    }
}

#[test]
fn a_flip_under_an_unchanged_stat_is_found_by_check() {
    // The disk lies: the content is another, and neither size nor times tell.
    let bed = bed();
    let blob = bed.cache.put_bytes(b"engine").unwrap();
    let path = bed.cache.find(&blob).unwrap().unwrap();
    overwrite(&path, b"engines"[1..].as_ref());
    let stat = fs::stat(&path).unwrap();
    bed.cache.remember(&path, &stat, &blob);
    assert!(bed.cache.find(&blob).unwrap().is_some(), "the stat is believed");
    assert!(!bed.cache.check(&blob).unwrap(), "a full hash is not fooled");
    assert_eq!(bed.cache.find(&blob).unwrap(), None);
}

#[test]
fn young_files_are_read_again_and_old_ones_are_not() {
    let bed = bed();
    let path = bed.file("model", b"one");
    let (one, stat) = bed.cache.file_digest(&path).unwrap();
    assert_eq!(one.b3, Digest::of(b"one"));
    assert_eq!(bed.cache.known_digest(&path, &stat), None, "changed less than 2 s ago");
    // Nor on the word of somebody else who read it after the cache was opened.
    bed.cache.remember_digest(&path, &stat, &one);
    assert_eq!(bed.cache.known_digest(&path, &stat), None);

    std::thread::sleep(Duration::from_millis(2_050));
    let (_, stat) = bed.cache.file_digest(&path).unwrap();
    assert_eq!(bed.cache.known_digest(&path, &stat), Some(one.clone()));
    bed.cache.flush();
    let later = bed.reopen();
    assert_eq!(later.known_digest(&path, &stat), Some(one.clone()));
    // Another cache was opened when the file was old enough.
    let other = Cache::open(&bed.folder.path().join("other")).unwrap();
    other.remember_digest(&path, &stat, &one);
    assert_eq!(other.known_digest(&path, &stat), Some(one));

    // The same size in the same tick would go unnoticed; another mtime or inode does not.
    std::fs::write(&path, b"two").unwrap();
    assert_eq!(later.file_digest(&path).unwrap().0.b3, Digest::of(b"two"));
    assert_eq!(later.known_digest(&path, &fs::stat(&path).unwrap()), None);
}

#[test]
fn odd_files_are_errors_that_name_them() {
    let bed = bed();
    let gone = bed.folder.path().join("gone");
    assert!(bed.cache.file_digest(&gone).unwrap_err().to_string().contains("gone"));
    assert!(bed.cache.file_digest(bed.folder.path()).is_err());
    let pipe = bed.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(bed.cache.file_digest(&pipe).unwrap_err().to_string().contains("pipe"));
    // Files that claim to be empty and are not.
    assert!(matches!(bed.cache.file_digest(Path::new("/proc/self/status")), Err(Error::Changed { .. })));
}

#[test]
fn what_processes_learn_is_merged() {
    let bed = bed();
    let (one, two) = (bed.reopen(), bed.reopen());
    let (a, b) = (one.put_bytes(b"a").unwrap(), two.put_bytes(b"b").unwrap());
    one.flush();
    two.flush();
    let later = bed.reopen();
    for blob in [&a, &b] {
        let path = later.find(blob).unwrap().unwrap();
        assert!(later.known(&path, &fs::stat(&path).unwrap()).is_some());
    }
    // Nothing learnt, nothing written.
    let before = snapshot(later.root());
    later.flush();
    assert_eq!(snapshot(later.root()), before);
}

#[test]
fn a_no_op_writes_nothing() {
    let bed = bed();
    let blob = bed.cache.put_bytes(b"a").unwrap();
    let good = record(1, &[("engine", &blob)]);
    bed.cache.put_result("build", &good).unwrap();
    bed.cache.flush();
    let root = bed.cache.root().to_owned();
    drop(bed.cache);
    let before = snapshot(&root);
    let cache = Cache::open(&root).unwrap();
    assert!(cache.result("build", &good.key).unwrap().is_some());
    cache.flush();
    drop(cache);
    assert_eq!(snapshot(&root), before);
}

#[test]
fn a_moved_cache_stays_warm() {
    let bed = bed();
    let blob = bed.cache.put_bytes(b"a").unwrap();
    bed.cache.flush();
    let moved = bed.folder.path().join("moved");
    fs::rename(bed.cache.root(), &moved).unwrap();
    let cache = Cache::open(&moved).unwrap();
    let path = cache.blob_path(&blob.b3);
    assert!(cache.known(&path, &fs::stat(&path).unwrap()).is_some());
}

#[test]
fn many_threads_and_processes_put_the_same() {
    let bed = bed();
    let root = bed.cache.root().to_owned();
    let work = |seed: usize| {
        // Each with its own state, as processes have.
        let cache = Cache::open(&root).unwrap();
        for n in 0..30 {
            let content = vec![n as u8; 20_000 + n];
            let job = cache.job_dir().unwrap();
            let file = job.path().join("engine.plan");
            std::fs::write(&file, &content).unwrap();
            let blob = cache.adopt(&file, n % 2 == 0).unwrap();
            let mut mine = record(n as i64, &[("engine", &blob)]);
            mine.duration_ms = seed as u64;
            let stays = cache.put_result("build", &mine).unwrap();
            assert_eq!(cache.result("build", &mine.key).unwrap().unwrap().duration_ms, stays.duration_ms);
        }
        cache.flush();
        assert_eq!(cache.take_warnings(), Vec::<String>::new());
    };
    std::thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || work(seed));
        }
    });
    let cache = bed.reopen();
    let blobs = walkdir::WalkDir::new(cache.folder("cas")).into_iter().flatten();
    assert_eq!(blobs.filter(|e| e.file_type().is_file()).count(), 30);
    assert_eq!(fs::list(&cache.folder("locks")).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn one_builder_per_key() {
    let bed = bed();
    let key = Digest::of(b"key");
    let held = bed.cache.lock_action("build", &key, &mut |_| panic!("nobody holds it")).unwrap();
    let given_up = bed.cache.lock_action_unless("build", &key, &|| true, &mut |_| panic!("not even waited"));
    assert!(given_up.unwrap().is_none());
    bed.cache.lock_action("build", &Digest::of(b"other"), &mut |_| panic!("another key")).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let cache = bed.reopen();
            drop(cache.lock_action("build", &key, &mut |holder| tell.send(holder).unwrap()).unwrap());
        });
        let holder = told.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!((holder.pid, holder.what), (std::process::id(), format!("build {}", key.short())));
        assert!(!waiter.is_finished());
        drop(held);
        waiter.join().unwrap();
    });
    assert_eq!(fs::list(&bed.cache.folder("locks")).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn locks_exclude_under_load() {
    let bed = bed();
    let key = Digest::of(b"key");
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    // Opening sweeps, which must not take a lock from the living.
                    let cache = bed.reopen();
                    let _lock = cache.lock_action("build", &key, &mut |_| ()).unwrap();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
}

/// Runs `child_that_holds_things` below in another process, and waits until it holds them.
fn child(root: &Path) -> std::process::Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::tests::child_that_holds_things", "--ignored", "--nocapture"])
        .env("CACHE_TEST_ROOT", root)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(out);
    assert!(lines.any(|line| line.unwrap().contains("HOLDING")), "the child died");
    child
}

#[test]
#[ignore = "started by other tests, in a process of its own"]
fn child_that_holds_things() {
    let Some(root) = std::env::var_os("CACHE_TEST_ROOT") else { return };
    let cache = Cache::open(Path::new(&root)).unwrap();
    let job = cache.job_dir().unwrap();
    std::fs::create_dir(job.path().join("deep")).unwrap();
    std::fs::write(job.path().join("deep/half-written"), b"x").unwrap();
    let _scratch = cache.scratch().unwrap().write(b"half", 0o444).unwrap();
    let _lock = cache.lock_action("build", &Digest::of(b"key"), &mut |_| ()).unwrap();
    std::io::Write::write_all(&mut std::io::stdout(), b"\nHOLDING\n").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn what_a_killed_process_held_is_free_and_swept() {
    let bed = bed();
    let mut child = child(bed.cache.root());
    // While it lives, nothing of it is touched.
    let mine = bed.reopen().job_dir().unwrap();
    assert_eq!(fs::list(&bed.cache.folder("tmp")).unwrap().len(), 6, "three folders with their locks");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let mut waited_for = 0;
    let lock = bed.cache.lock_action("build", &Digest::of(b"key"), &mut |h| waited_for = h.pid).unwrap();
    killer.join().unwrap();
    assert_ne!(waited_for, 0, "the other process was named");
    assert_ne!(waited_for, std::process::id());
    drop(lock);
    let _cache = bed.reopen();
    assert!(fs::exists(mine.path()), "the living keep theirs");
    assert_eq!(fs::list(&bed.cache.folder("tmp")).unwrap().len(), 2);
    drop(mine);
    assert_eq!(fs::list(&bed.cache.folder("tmp")).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(fs::list(&bed.cache.folder("locks")).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn job_folders_have_names_of_one_length_and_go() {
    let bed = bed();
    let (a, b) = (bed.cache.job_dir().unwrap(), bed.cache.job_dir().unwrap());
    assert_ne!(a.path(), b.path());
    assert_eq!(a.path().as_os_str().len(), b.path().as_os_str().len());
    let path = a.path().to_owned();
    std::fs::write(path.join("x"), b"x").unwrap();
    drop(a);
    assert!(!fs::exists(&path));
    // Things that nobody owns go as well.
    std::fs::write(bed.cache.folder("tmp").join("stray"), b"x").unwrap();
    let _cache = bed.reopen();
    assert!(!fs::exists(&bed.cache.folder("tmp").join("stray")));
    assert!(fs::exists(b.path()));
}

#[test]
fn a_half_deleted_cache_mends_itself() {
    let bed = bed();
    let blob = bed.cache.put_bytes(b"a").unwrap();
    for name in ["cas", "results", "tmp", "locks", "runs", "failures", "quarantine"] {
        fs::remove_dir_all(&bed.cache.folder(name)).unwrap();
    }
    let good = record(1, &[("engine", &blob)]);
    for cache in [bed.cache.clone(), bed.reopen()] {
        assert_eq!(cache.put_bytes(b"a").unwrap(), blob);
        cache.put_result("build", &good).unwrap();
        cache.start_run(SystemTime::UNIX_EPOCH).unwrap();
        cache.put_failure("x", &[]).unwrap();
        cache.flush();
    }
    fs::remove_dir_all(&bed.cache.folder("")).unwrap();
    assert_eq!(bed.reopen().find(&blob).unwrap(), None);
}

#[test]
fn formats() {
    let bed = bed();
    let root = bed.cache.root().to_owned();
    std::fs::write(bed.cache.folder("format"), b"2\n").unwrap();
    let error = Cache::open(&root).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 2, known: 1, .. }), "{error}");
    std::fs::write(bed.cache.folder("format"), b"\0\0").unwrap();
    assert_eq!(bed.reopen().take_warnings().len(), 1);
    assert_eq!(bed.reopen().take_warnings().len(), 0);
    // Side by side is fine; only a newer one is not.
    fs::create_dir_all(&root.join("v3")).unwrap();
    let _cache = bed.reopen();
    fs::remove_dir_all(&root.join("v1")).unwrap();
    assert!(matches!(Cache::open(&root), Err(Error::NewerFormat { found: 3, .. })));
    let file = bed.file("file", b"");
    assert!(matches!(Cache::open(&file), Err(Error::NotAFolder { .. })));
}

#[test]
fn runs_and_failures_are_kept_in_number() {
    let bed = bed();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for n in 0..55 {
        let run = bed.cache.start_run(start + Duration::from_secs(n)).unwrap();
        run.event(&serde_json::json!({ "n": n })).unwrap();
    }
    let runs = bed.cache.runs().unwrap();
    assert_eq!(runs.len(), 50);
    assert!(runs[0].id.starts_with("20231114T221325.000Z-"), "{}", runs[0].id);
    assert_eq!(runs[49].events().unwrap(), [serde_json::json!({ "n": 54 })]);
    // The last line of a run that was killed is not whole.
    let text = std::fs::read_to_string(&runs[49].path).unwrap();
    std::fs::write(&runs[49].path, format!("{text}{{\"n\":5")).unwrap();
    assert_eq!(runs[49].events().unwrap().len(), 1);
    // Two runs at one moment are two.
    let later = start + Duration::from_secs(99);
    let (a, b) = (bed.cache.start_run(later).unwrap(), bed.cache.start_run(later).unwrap());
    assert_ne!(a.id(), b.id());
    // A clock that was set back does not cost the run that starts now.
    let run = bed.cache.start_run(start).unwrap();
    assert!(bed.cache.runs().unwrap().iter().any(|r| r.id == run.id()));

    let request = bed.file("request.json", b"{}");
    for n in 0..22 {
        let gone = FailureFile::Copy("/does/not/exist".into());
        let files = [
            ("log", FailureFile::Bytes(vec![n])),
            ("../request.json", FailureFile::Copy(request.clone())),
            ("model.onnx", gone),
        ];
        let bundle = bed.cache.put_failure("magika@rtx-3090/../..", &files).unwrap();
        assert_eq!(bundle.parent().unwrap(), bed.cache.folder("failures"));
        assert_eq!(fs::read(&bundle.join("log")).unwrap(), [n]);
        assert_eq!(fs::read(&bundle.join("_.._request.json")).unwrap(), b"{}");
        assert!(fs::exists(&bundle.join("model.onnx.missing")));
    }
    assert_eq!(fs::list(&bed.cache.folder("failures")).unwrap().len(), 20);
}

#[test]
fn a_root_that_cannot_be_made_is_an_error_that_names_it() {
    // Permission bits do not bind root, so a file stands in the way instead.
    let bed = bed();
    let file = bed.file("file", b"");
    let error = Cache::open(&file.join("cache")).unwrap_err();
    assert!(error.to_string().contains("file/cache"), "{error}");
    let round = bed.folder.path().join("round");
    std::os::unix::fs::symlink(&round, &round).unwrap();
    let error = Cache::open(&round).unwrap_err();
    assert!(error.to_string().contains("round` cannot be used") && !error.help().is_empty(), "{error}");
}

#[test]
fn a_file_is_something_else_to_each_that_it_belongs_to() {
    let bed = bed();
    let path = bed.file("m.data", b"data");
    let (one, other, digest) = (Digest::of(b"one"), Digest::of(b"other"), Digest::of(b"derived"));
    let mut stat = fs::stat(&path).unwrap();
    (stat.mtime_ns, stat.ctime_ns) = (0, 0);
    assert!(bed.cache.remember_part(&path, &one, &stat, digest));
    assert!(bed.cache.remember_part(&path, &other, &stat, Digest::of(b"2")));
    assert_eq!(bed.cache.known_part(&path, &one, &stat), Some(digest));
    assert_eq!(bed.cache.known_digest(&path, &stat), None, "it is no digest of the file");
    let changed = fs::Stat { mtime_ns: 1, ..stat };
    assert_eq!(bed.cache.known_part(&path, &one, &changed), None);
    assert!(bed.cache.remember_part(&path, &other, &changed, digest));
    assert_eq!(bed.cache.known_part(&path, &one, &stat), None, "what it was is forgotten");
    let now = fs::Stat { mtime_ns: super::now_ns(), ..stat };
    assert!(!bed.cache.remember_part(&path, &one, &now, digest), "it may still change");
}

/// A tiny file system in memory, if this user may mount one.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount(test: &str) -> Option<Tiny> {
        let tiny = Tiny(tempfile::tempdir().unwrap());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k", "none"])
            .arg(tiny.0.path())
            .stderr(std::process::Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(tiny);
        }
        #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
        {
            eprintln!("SKIPPED {test}: mounting a file system is not allowed here");
        }
        None
    }

    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.0.path()).status().unwrap().success());
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_costs_nothing() {
    let Some(tiny) = Tiny::mount("a_full_disk_is_an_error_and_costs_nothing") else { return };
    let cache = Cache::open(&tiny.0.path().join("cache")).unwrap();
    let blob = cache.put_bytes(b"finished").unwrap();
    let good = record(1, &[("engine", &blob)]);
    cache.put_result("build", &good).unwrap();

    let bed = bed();
    let big = bed.file("big", &vec![1; 1 << 20]);
    let full = |error: Error| {
        assert!(matches!(error, Error::Full { .. }), "{error:?}");
        assert!(error.to_string().contains("cache"), "{error}");
        assert!(error.help().iter().any(|h| h.contains("--cache-dir")));
    };
    full(cache.put_bytes(&vec![1; 1 << 20]).unwrap_err());
    full(cache.adopt(&big, true).unwrap_err());
    assert!(fs::exists(&big), "what could not be adopted stays");
    full(cache.put_failure("x", &[("big", FailureFile::Copy(big))]).unwrap_err());

    // Now not a byte is left.
    let fill = tiny.0.path().join("fill");
    let _ = std::fs::write(&fill, vec![1; 1 << 20]);
    full(cache.put_result("build", &record(2, &[("engine", &blob)])).unwrap_err());
    cache.flush();
    assert!(cache.take_warnings()[0].starts_with("the disk is full"), "a warning and no error");
    let reader = Cache::open(cache.root()).unwrap();
    assert_eq!(reader.result("build", &good.key).unwrap(), Some(good.clone()));

    fs::remove_file(&fill).unwrap();
    cache.flush();
    cache.put_result("build", &record(2, &[("engine", &blob)])).unwrap();
    drop((cache, reader));
    let cache = Cache::open(&tiny.0.path().join("cache")).unwrap();
    assert_eq!(fs::list(&cache.folder("tmp")).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(cache.take_warnings(), Vec::<String>::new());
}

#[test]
fn a_read_only_cache_is_read() {
    let Some(tiny) = Tiny::mount("a_read_only_cache_is_read") else { return };
    let root = tiny.0.path().join("cache");
    let (blob, good, bad) = {
        let cache = Cache::open(&root).unwrap();
        let blob = cache.put_bytes(b"finished").unwrap();
        let good = record(1, &[("engine", &blob)]);
        cache.put_result("build", &good).unwrap();
        let bad = cache.put_bytes(b"damaged later").unwrap();
        overwrite(&cache.find(&bad).unwrap().unwrap(), b"damaged LATER");
        (blob, good, bad)
    };
    tiny.remount("ro");
    let cache = Cache::open(&root).unwrap();
    assert!(!cache.is_writable());
    assert_eq!(cache.result("build", &good.key).unwrap(), Some(good.clone()));
    assert_eq!(cache.put_bytes(b"finished").unwrap(), blob, "it is there already");
    assert_eq!(cache.find(&bad).unwrap(), None);
    assert!(cache.take_warnings()[0].contains("not used"));
    cache.flush();
    let read_only = |error: Error| {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains("cache") && !error.help().is_empty());
    };
    read_only(cache.put_bytes(b"new").unwrap_err());
    read_only(cache.put_result("build", &good).unwrap_err());
    read_only(cache.job_dir().unwrap_err());
    read_only(cache.start_run(SystemTime::UNIX_EPOCH).unwrap_err());
    read_only(cache.put_failure("x", &[]).unwrap_err());
    read_only(cache.lock_action("build", &good.key, &mut |_| ()).unwrap_err());
    // No cache in a read-only place: an empty one.
    let none = Cache::open(&tiny.0.path().join("none")).unwrap();
    assert!(!none.is_writable());
    assert_eq!(none.result("build", &good.key).unwrap(), None);
    tiny.remount("rw");
}
