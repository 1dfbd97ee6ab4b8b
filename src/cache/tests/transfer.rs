//! What is taken from other caches.

use std::path::Path;

use super::{Bed, bed, record};
use crate::cache::{Error, Record, Transferred};
use crate::digest::Blob;

/// A cache with two results that share a blob, and its export.
fn exported() -> (Bed, Vec<(String, Record)>, Vec<u8>) {
    let bed = bed();
    let file = bed.file("engine", &[7; 100_000]);
    let engine = bed.cache.adopt(&file, true).unwrap();
    let log = bed.cache.put_bytes(b"quiet").unwrap();
    let results = [record(1, &[("engine", &engine), ("log", &log)]), record(2, &[("engine", &engine)])];
    let results: Vec<(String, Record)> = results
        .into_iter()
        .map(|record| ("build".to_owned(), bed.cache.put_result("build", &record).unwrap()))
        .collect();
    let mut tar = Vec::new();
    bed.cache.export(&results, &mut tar, Path::new("x.tar")).unwrap();
    (bed, results, tar)
}

fn import(bed: &Bed, tar: &[u8]) -> Result<Transferred, Error> {
    bed.cache.import(tar, Path::new("x.tar"))
}

/// Why it is refused; and nothing was recorded.
fn refusal(tar: &[u8], results: &[(String, Record)]) -> String {
    let other = bed();
    let error = import(&other, tar).unwrap_err();
    assert!(matches!(error, Error::BadExport { .. }), "{error:?}");
    assert!(!error.help().is_empty());
    for (action, record) in results {
        assert_eq!(other.cache.result(action, &record.key).unwrap(), None);
    }
    error.to_string()
}

#[test]
fn what_is_exported_is_imported_once() {
    let (bed, results, tar) = exported();
    let mut again = Vec::new();
    bed.cache.export(&results, &mut again, Path::new("x.tar")).unwrap();
    assert_eq!(tar, again, "the same results give the same bytes");
    let other = super::bed();
    let done = import(&other, &tar).unwrap();
    assert_eq!((done.results, done.new_results, done.blobs, done.bytes), (2, 2, 2, 100_005));
    for (action, record) in &results {
        assert_eq!(other.cache.result(action, &record.key).unwrap().as_ref(), Some(record));
    }
    assert_eq!(import(&other, &tar).unwrap().new_results, 0);
    assert_eq!(other.cache.take_warnings(), Vec::<String>::new());
}

#[test]
fn an_export_that_lost_a_blob_is_none() {
    let (bed, results, _) = exported();
    let engine: &Blob = &results[0].1.outputs["engine"];
    super::overwrite(&bed.cache.find(engine).unwrap().unwrap(), b"damaged");
    let error = bed.cache.export(&results, &mut Vec::new(), Path::new("x.tar")).unwrap_err();
    assert!(matches!(error, Error::LostBlob { .. }), "{error}");
}

#[test]
fn results_that_disagree_on_a_blob_are_refused() {
    let (_, results, tar) = exported();
    // The checksum of a result covers what it says, so that one that lies is made as a cache would make it.
    let other = bed();
    let file = other.file("engine", &[7; 100_000]);
    let engine = other.cache.adopt(&file, true).unwrap();
    let lie = Blob { sha256: Some("0".repeat(64)), ..engine };
    let lied = other.cache.put_result("build", &record(3, &[("engine", &lie)])).unwrap();
    let name = format!("results/build/{}.json", lied.key);
    let text = std::fs::read(super::result_file(&other.cache, &lied.key)).unwrap();
    let first = tar.windows(4).position(|w| w == b"cas/").unwrap();
    let one = hostile(&[(&name, tar::EntryType::Regular, &text)]);
    let bad = [&tar[..first], &one[1024..one.len() - 1024], &tar[first..]].concat();
    let said = refusal(&bad, &results);
    assert!(said.contains("say different things of the blob"), "{said}");
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused() {
    let (_, results, tar) = exported();
    // The end of a tar is two empty blocks, which say nothing.
    for end in (0..tar.len() - 1024).step_by(4099) {
        refusal(&tar[..end], &results);
    }
    for at in (0..tar.len() - 1024).step_by(997) {
        let mut bad = tar.clone();
        bad[at] ^= 1 << (at % 8);
        // The rest of a block is padding; a time or an owner in a header means nothing.
        let other = bed();
        if import(&other, &bad).is_ok() {
            for (action, record) in &results {
                assert_eq!(
                    other.cache.result(action, &record.key).unwrap().as_ref(),
                    Some(record),
                    "bit at {at}"
                );
            }
        }
    }
}

/// A tar of these entries after a good head.
fn hostile(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, bytes) in
        [("enginewright-cache", tar::EntryType::Regular, &b"1\n"[..])].iter().chain(entries)
    {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn names_and_kinds_that_no_export_has_are_refused() {
    use tar::EntryType as T;
    let digest = "0".repeat(64);
    let (blob, result) = (format!("cas/{digest}"), format!("results/build/{digest}.json"));
    let cases: [(&str, T, &[u8], &str); 12] = [
        ("../evil", T::Regular, b"x", "nothing that a cache holds"),
        ("/etc/passwd", T::Regular, b"x", "nothing that a cache holds"),
        ("cas/../../evil", T::Regular, b"x", "nothing that a cache holds"),
        ("results/../evil.json", T::Regular, b"x", "nothing that a cache holds"),
        ("cas/short", T::Regular, b"x", "names no blob"),
        (&blob, T::Regular, b"x", "no result before it names"),
        (&blob, T::Symlink, b"", "is not a regular file"),
        (&blob, T::Link, b"", "is not a regular file"),
        ("cas", T::Directory, b"", "is not a regular file"),
        ("././@LongLink", T::GNULongName, b"../evil", "is not a regular file"),
        ("x", T::XHeader, b"20 path=../evil\n", "is not a regular file"),
        (&result, T::Regular, b"{}", "its checksum is wrong"),
    ];
    for (name, kind, bytes, why) in cases {
        let said = refusal(&hostile(&[(name, kind, bytes)]), &[]);
        assert!(said.contains(why), "{name}: {said}");
    }
    assert!(refusal(&hostile(&[("enginewright-cache", T::Regular, b"1\n")]), &[]).contains("nothing that"));
    assert!(refusal(b"", &[]).contains("it is empty"));
    assert!(refusal(b"no tar at all", &[]).contains("no tar"));
    assert!(refusal(&[0; 2048], &[]).contains("it is empty"));
}

#[test]
fn sizes_are_held_against_what_results_say_before_they_are_read() {
    let (_, results, tar) = exported();
    // A bomb: the header of the blob says that a terabyte follows.
    let at = tar.windows(4).position(|w| w == b"cas/").unwrap();
    let mut bomb = tar[..at + 512].to_vec();
    let header: &mut [u8; 512] = (&mut bomb[at..at + 512]).try_into().unwrap();
    let mut large = tar::Header::from_byte_slice(header).clone();
    large.set_size(1 << 40);
    large.set_cksum();
    bomb[at..].copy_from_slice(large.as_bytes());
    bomb.extend([0; 4096]);
    let said = refusal(&bomb, &results);
    assert!(said.contains("has 1099511627776 bytes, its result says"), "{said}");
    // A result of a gigabyte is none.
    let mut large = tar::Header::new_ustar();
    let name = format!("results/build/{}.json", "0".repeat(64));
    large.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    large.set_entry_type(tar::EntryType::Regular);
    large.set_size(1 << 31);
    large.set_cksum();
    let head = hostile(&[]);
    let said = refusal(&[&head[..1024], large.as_bytes().as_slice(), &[0; 2048]].concat(), &[]);
    assert!(said.contains("too large to be a result"), "{said}");
    let newer = hostile(&[]).iter().map(|b| if *b == b'1' { b'9' } else { *b }).collect::<Vec<u8>>();
    assert!(refusal(&newer, &[]).contains("import"));
}
