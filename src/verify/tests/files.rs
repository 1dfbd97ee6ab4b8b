//! Samples in files.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use super::super::npy::{npy, npz};
use super::super::sample::{Array, load};
use super::super::spec::{Inputs, MeasureSpec, ProfileShapes, SampleFile, SampleFiles, list_samples};
use super::floats;
use crate::fs;
use crate::manifest::RawTensor;
use crate::onnx::{Dim, Tensor};

/// An array as numpy writes it.
fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn archive(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn arrays_are_read_as_numpy_writes_them() {
    let data = [1f32, -2.5].map(f32::to_le_bytes).concat();
    let expected = floats(&[2, 1], &[1.0, -2.5]);
    assert_eq!(npy(&file("<f4", "False", "(2, 1)", &data)).unwrap(), expected);
    // One dimension above 1: both orders are the same.
    assert_eq!(npy(&file("<f4", "True", "(2, 1)", &data)).unwrap(), expected);
    assert_eq!(npy(&file("|b1", "False", "(2,)", &[1, 0])).unwrap().to_integers(), [1, 0]);
    assert_eq!(npy(&file("<i8", "False", "()", &7i64.to_le_bytes())).unwrap().shape, [0i64; 0]);
    // numpy writes a header of 4 bytes' length when it must, and of version 3 for text in it.
    let mut long = b"\x93NUMPY\x03\x00".to_vec();
    let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }";
    long.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    long.extend(header);
    long.extend(&data);
    assert_eq!(npy(&long).unwrap(), expected);
}

#[test]
fn what_is_no_array_says_why() {
    let told = |bytes: &[u8]| npy(bytes).unwrap_err().what;
    let data = [0; 8];
    assert_eq!(told(b"PK\x03\x04"), "it is not a `.npy` file");
    assert_eq!(told(b"\x93NUMPY"), "it ends in its head");
    assert_eq!(told(b"\x93NUMPY\x09\x00"), "its format version 9 is unknown");
    assert_eq!(told(b"\x93NUMPY\x01\x00\xff\xff{"), "it ends in its header");
    assert!(told(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("4294967295 bytes"));
    assert!(told(&file(">f4", "False", "(2,)", &data)).contains("big-endian"));
    assert!(told(&file("<c8", "False", "(1,)", &data)).contains("`<c8`"));
    assert!(told(&file("|O", "False", "(1,)", &data)).contains("`|O`"));
    assert!(told(&file("<f4", "True", "(2, 2)", &[0; 16])).contains("Fortran order"));
    assert_eq!(told(&file("<f4", "False", "(3,)", &data)), "it holds 8 bytes of data, its header says 12");
    // Sizes that do not fit into anything.
    assert!(told(&file("<f4", "False", "(9223372036854775807, 4)", &data)).contains("impossible"));
    for shape in ["(-1,)", "(1", "2", "(a,)", "(1e3,)"] {
        assert!(told(&file("<f4", "False", shape, &data)).contains("makes no sense"), "{shape}");
    }
    assert!(told(&file("<f4', 'descr': '<f4", "False", "(2,)", &data)).contains("makes no sense"));
    let records =
        b"\x93NUMPY\x01\x00\x40\x00{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}  ";
    assert!(told(records).contains("records"));
}

#[test]
fn every_cut_and_every_flipped_byte_of_an_archive_is_survived() {
    let data = [1f32, 2.0].map(f32::to_le_bytes).concat();
    let whole = archive(&[("x.npy", file("<f4", "False", "(2,)", &data))]);
    assert_eq!(npz(&whole).unwrap(), [("x".to_owned(), floats(&[2], &[1.0, 2.0]))]);
    for end in 0..whole.len() {
        assert!(npz(&whole[..end]).is_err(), "cut at {end}");
    }
    for i in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[i] ^= 0xff;
        let _ = npz(&damaged); // Any answer will do, a panic will not.
    }
    let twice = archive(&[("a/x.npy", Vec::new()), ("readme.txt", Vec::new())]);
    assert!(npz(&twice).is_err());
}

#[test]
fn an_archive_that_unpacks_to_far_more_than_it_is_is_refused() {
    let zeros = file("<f4", "False", "(33554432,)", &vec![0; 128 << 20]);
    let bomb = archive(&[("x.npy", zeros)]);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    // Deflate's own limit is about 1 to 1030: what is within it is a file like others.
    assert!(npz(&bomb).is_ok());
    let mut lying = bomb.clone();
    lying.truncate(bomb.len() - 1);
    assert!(npz(&lying).is_err());
}

fn input(name: &str, element: &str, dims: Vec<Dim>) -> Tensor {
    Tensor { name: name.to_owned(), element: element.to_owned(), dims: Some(dims) }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &[u8])]) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write_atomic(&path, bytes).unwrap();
        }
        Folder(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The code and message of the first sample's error.
    fn told(&self, inputs: &[Tensor]) -> String {
        let samples = list_samples(self.path()).unwrap();
        let error = load(&samples[0], inputs, &BTreeMap::new()).unwrap_err();
        format!("{}: {}", error.code, error.message)
    }
}

#[test]
fn a_folder_holds_samples_in_every_form() {
    let x = file("<f4", "False", "(2,)", &[0; 8]);
    let npz = archive(&[("x.npy", x.clone())]);
    let folder = Folder::with(&[
        ("a.npz", &npz),
        ("b.npy", &x),
        ("c/x.npy", &x),
        ("d/x.bin", &[0; 8]),
        (".hidden", b"x"),
    ]);
    let samples = list_samples(folder.path()).unwrap();
    let names: Vec<&str> = samples.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    let inputs = [input("x", "float", vec![Dim::Param("n".to_owned())])];
    let raw = BTreeMap::from([("x".to_owned(), RawTensor { element: "float".to_owned(), shape: vec![2] })]);
    for sample in &samples {
        let found = load(sample, &inputs, &raw).unwrap();
        assert_eq!(found.arrays["x"], floats(&[2], &[0.0, 0.0]), "{}", sample.name);
    }
    // A raw file without a declaration, and with a wrong one.
    let told = load(&samples[3], &inputs, &BTreeMap::new()).unwrap_err();
    assert_eq!(told.code, "sample-undeclared");
    let wrong = BTreeMap::from([("x".to_owned(), RawTensor { element: "float".to_owned(), shape: vec![3] })]);
    assert_eq!(
        load(&samples[3], &inputs, &wrong).unwrap_err().message,
        "it has 8 bytes, which are not [3] of float"
    );
}

#[test]
fn folders_without_samples_or_with_other_things_are_told() {
    let code = |files: &[(&str, &[u8])]| list_samples(Folder::with(files).path()).unwrap_err().code;
    assert_eq!(code(&[]), "samples-missing");
    assert_eq!(code(&[("a.txt", b"x")]), "sample-unknown");
    assert_eq!(code(&[("a.npz", b"x"), ("a.npy", b"x")]), "samples-ambiguous");
    assert_eq!(list_samples(Path::new("/nowhere")).unwrap_err().code, "samples-missing");
}

#[test]
fn a_sample_must_fit_the_model() {
    let n = || Dim::Param("n".to_owned());
    let x = |descr: &str, shape: &str, data: &[u8]| {
        Folder::with(&[("s.npy", &file(descr, "False", shape, data))])
    };
    let one = [input("x", "float", vec![n(), Dim::Fixed(2)])];
    let nan = f32::NAN.to_le_bytes();
    assert_eq!(
        x("<f8", "(1, 1)", &[0; 8]).told(&one),
        "sample-type: `x` holds float64, the model's input is float32"
    );
    assert_eq!(
        x("<f4", "(2,)", &[0; 8]).told(&one),
        "sample-shape: `x` has the shape [2], the model's input is [n, 2]"
    );
    assert_eq!(
        x("<f4", "(1, 2)", &[[0; 4], nan].concat()).told(&one),
        "sample-nan: `x` holds NaN, at element 1"
    );
    let two = [input("x", "float", vec![n()]), input("y", "float", vec![n()])];
    assert!(x("<f4", "(1,)", &[0; 4]).told(&two).starts_with("sample-incomplete: the model has 2 inputs"));
    let array = file("<f4", "False", "(1,)", &[0; 4]);
    let partial = Folder::with(&[("s.npz", &archive(&[("x.npy", array.clone())]))]);
    assert_eq!(partial.told(&two), "sample-incomplete: sample `s` has no input `y`");
    let other = Folder::with(&[("s.npz", &archive(&[("z.npy", array)]))]);
    assert_eq!(other.told(&two), "sample-unknown-input: the model has no input `z`");
    let gone = SampleFiles {
        name: "s".to_owned(),
        files: vec![SampleFile { path: "/nowhere/s.npz".into(), input: None }],
    };
    assert_eq!(load(&gone, &one, &BTreeMap::new()).unwrap_err().code, "sample-unreadable");
    let _: Array = floats(&[1], &[0.0]);
}

#[test]
fn a_sample_must_lie_within_a_profile_values_included() {
    let x = file("<f4", "False", "(2,)", &[0; 8]);
    let n = file("<i8", "False", "(1,)", &2i64.to_le_bytes());
    let folder = Folder::with(&[("s/x.npy", &x), ("s/n.npy", &n)]);
    let model_inputs =
        vec![input("x", "float", vec![Dim::Param("b".to_owned())]), input("n", "int64", vec![Dim::Fixed(1)])];
    let told = |sizes: [i64; 2], values: [i64; 2]| {
        let range = |[low, high]: [i64; 2]| [vec![low], vec![low], vec![high]];
        let spec = MeasureSpec {
            inputs: Inputs::Files { samples: list_samples(folder.path()).unwrap(), raw: BTreeMap::new() },
            model_inputs: model_inputs.clone(),
            profiles: vec![ProfileShapes {
                shapes: [("x".to_owned(), range(sizes))].into(),
                values: [("n".to_owned(), range(values))].into(),
            }],
            outputs: Vec::new(),
            ignore_where: BTreeMap::new(),
            tf32: false,
            is_weak: false,
        };
        spec.sample(0, &BTreeMap::new()).map_err(|e| e.message)
    };
    assert!(told([1, 2], [1, 2]).is_ok());
    assert!(
        told([3, 4], [1, 2]).unwrap_err().ends_with("`x` has the shape [2], the profile allows [3] to [4]")
    );
    assert!(told([1, 2], [3, 4]).unwrap_err().ends_with("`n` holds [2], the profile allows [3] to [4]"));
}
