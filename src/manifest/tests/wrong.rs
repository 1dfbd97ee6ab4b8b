//! Wrong manifests: code, message and underlined text of each.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::codes::CODES;
use super::super::load::Options;
use super::{BASE, read, read_with_local, show};

/// What is wrong (after `BASE`, unless it has a `schema` of its own), and every diagnostic as
/// `CODE: MESSAGE @ UNDERLINED`.
const CASES: &[(&str, &[&str])] = &[
    // Syntax.
    ("[model.m\nsource = 1", &["toml-syntax: unclosed table, expected `]` @ "]),
    ("[target.t]\ngpu = 'T4'\n", &["duplicate-name: `t` is defined twice @ t"]),
    ("[defaults]\ntf32 = true\ntf32 = false\n", &["duplicate-name: `tf32` is defined twice @ tf32"]),
    // Schema.
    (
        "schema = 2\nwhatever = 1",
        &["unsupported-schema: `schema = 2` is unknown; this version reads `schema = 1` @ 2"],
    ),
    ("schema = 'x'", &["wrong-type: `schema` must be an integer, not a string @ 'x'"]),
    ("[target.x]\nsm = 'sm_86'\nschema = 1", &["unknown-key: unknown key `schema` in `target.x` @ schema"]),
    // Keys and types.
    (
        "[model.m]\nsource = { path = 'm' }\ntargets = ['t']\nprecison = 'fp16'",
        &["unknown-key: unknown key `precison` in `model.m` @ precison"],
    ),
    ("[modle.m]\n", &["unknown-key: unknown key `modle` @ modle"]),
    ("[defaults]\ntf32 = 'no'", &["wrong-type: `defaults.tf32` must be a boolean, not a string @ 'no'"]),
    ("[defaults]\nio = 3", &["wrong-type: `defaults.io` must be a table, not an integer @ 3"]),
    (
        "schema = 1\ntarget = 4\nmodel = []",
        &[
            "wrong-type: `target` must be a table, not an integer @ 4",
            "wrong-type: `model` must be a table, not a list @ []",
        ],
    ),
    (
        "[defaults]\nprecision = 2026-01-01",
        &["wrong-type: `defaults.precision` must be a string, not a date @ 2026-01-01"],
    ),
    (
        "[defaults]\nprecision = 'pf16'",
        &[
            "unknown-value: `defaults.precision` must be `as-is`, `fp32`, `fp16` or `bf16`, not `pf16` @ 'pf16'",
        ],
    ),
    (
        "[defaults]\nfuse = ['layernorm']",
        &["unknown-value: `defaults.fuse[0]` must be `layer-norm`, not `layernorm` @ 'layernorm'"],
    ),
    (
        "[defaults.hazards]\nmask-overflow-f16 = 'warn'\nfp16-norm = 'error'",
        &[
            "unknown-hazard: there is no hazard `mask-overflow-f16` @ mask-overflow-f16",
            "unknown-value: `defaults.hazards.fp16-norm` must be `allow`, `warn` or `deny`, not `error` @ 'error'",
        ],
    ),
    // Names.
    (
        "[target.'RTX 4090']\ngpu = 'RTX 4090'",
        &[
            "bad-name: `RTX 4090` is not a name: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`, starting with a letter or digit @ 'RTX 4090'",
        ],
    ),
    // Toolchains and targets.
    ("[toolchain.x]\nversion = '1'", &["missing-key: `toolchain.x` has no `kind` @ x"]),
    (
        "[toolchain.x]\nkind = 'tensorrt'",
        &[
            "unknown-value: `toolchain.x.kind` must be `tensorrt-rtx`, `trtexec` or `onnxruntime`, not `tensorrt` @ 'tensorrt'",
        ],
    ),
    (
        "[toolchain.x]\nkind = 'tensorrt-rtx'\nversion = '1.7'",
        &["bad-format: `1.7` is not a whole version of TensorRT-RTX @ '1.7'"],
    ),
    (
        "[toolchain.x]\nkind = 'trtexec'\nversion = '10.x'",
        &["bad-format: `toolchain.x.version`: `10.x` is not a version @ '10.x'"],
    ),
    ("[toolchain.x]\nkind = 'trtexec'", &["missing-key: `toolchain.x` has no `version` @ x"]),
    (
        "[toolchain.x]\nkind = 'trtexec'\nversion = '10'",
        &["bad-format: `10` does not say which TensorRT it is @ '10'"],
    ),
    (
        "[target.x]\nsm = 'sm_86'\ngpu-identity = 'sm'",
        &["conflicting-keys: `gpu-identity` means nothing to toolchain `rtx` @ 'sm'"],
    ),
    ("[target.x]", &["missing-key: `target.x` has no `gpu` @ x"]),
    (
        "[target.x]\ngpu = 'RTX 4090'\nsm = 'sm_89'",
        &["conflicting-keys: `target.x` has both `gpu` and `sm` @ sm"],
    ),
    ("[target.x]\ngpu = 'RTX 3095'", &["unknown-gpu: unknown GPU `RTX 3095` @ 'RTX 3095'"]),
    ("[target.x]\nsm = '8.6'", &["bad-format: `target.x.sm`: `8.6` is not a compute capability @ '8.6'"]),
    ("[target.x]\nsm = 86", &["wrong-type: `target.x.sm` must be a string, not an integer @ 86"]),
    ("[target.x]\nsm = []", &["empty-value: `target.x.sm` is empty @ []"]),
    ("[target.x]\nsm = ['sm_86', \"sm_86\"]", &["duplicate-item: `sm_86` is in its list twice @ \"sm_86\""]),
    (
        "[target.x]\nsm = 'sm_101'",
        &["unknown-sm: no GPU is known to have the compute capability `sm_101` @ 'sm_101'"],
    ),
    (
        "[target.x]\nsm = 'sm_86'\ntoolchain = 'rxt'",
        &["unknown-toolchain: there is no toolchain `rxt` @ 'rxt'"],
    ),
    // Sources.
    ("[model.m]\ntargets = ['t']", &["missing-key: `model.m` has no `source` @ m"]),
    (
        "[model.m]\ntargets = ['t']\nsource = 'm.onnx'",
        &["wrong-type: `model.m.source` must be a table, not a string @ 'm.onnx'"],
    ),
    ("[model.m]\ntargets = ['t']\nsource = { }", &["missing-key: `model.m.source` has no `path` @ source"]),
    (
        "[model.m]\ntargets = ['t']\nsource = { path = 'm', url = 'u' }",
        &["conflicting-keys: `model.m.source` has both `path` and `url` @ url"],
    ),
    (
        "[model.m]\ntargets = ['t']\nsource = { path = 'm', sha256 = 'u' }",
        &["conflicting-keys: `model.m.source.sha256` does not go with `path` @ sha256"],
    ),
    (
        "[model.m]\ntargets = ['t']\nsource = { path = '' }",
        &["empty-value: `model.m.source.path` is empty @ ''"],
    ),
    (
        "[model.m]\ntargets = ['t']\nsource = { package = 'a>=1', file = 'b' }",
        &["bad-format: `model.m.source.package`: `a>=1` does not pin an exact version @ 'a>=1'"],
    ),
    (
        "[model.m]\ntargets = ['t']\nsource = { package = 'a==1', file = 'b/../../c' }",
        &["bad-path: `model.m.source.file`: `b/../../c` leaves the package @ 'b/../../c'"],
    ),
    (
        "[model.m]\ntargets = ['t']\nsource = { url = 'https://x/y' }",
        &["missing-key: `model.m.source` has no `sha256` @ source"],
    ),
    (
        "[model.m]\ntargets = ['t']\nsource = { url = 'ftp://x', sha256 = 'abc' }",
        &[
            "bad-format: `model.m.source.url`: `ftp://x` is not a URL that can be fetched @ 'ftp://x'",
            "bad-format: `model.m.source.sha256`: `abc` is not a SHA-256 @ 'abc'",
        ],
    ),
    (
        "[model.m]\ntargets = ['t']\nsource = { url = 'https://u:p@x/y', sha256 = '0000000000000000000000000000000000000000000000000000000000000000' }",
        &["url-credentials: `model.m.source.url` holds credentials, in line 6 @ /p/manifests/a.toml"],
    ),
    // References.
    ("[model.m]\nsource = { path = 'm' }", &["missing-key: `model.m` has no `targets` @ m"]),
    (
        "[model.m]\nsource = { path = 'm' }\ntargets = []",
        &["empty-value: `model.m.targets` is empty: nothing would be built @ []"],
    ),
    (
        "[model.m]\nsource = { path = 'm' }\ntargets = ['q', 't']",
        &["unknown-target: there is no target `q` @ 'q'"],
    ),
    ("[defaults]\nrules = ['std-fp61']", &["unknown-rule-set: there is no rule set `std-fp61` @ 'std-fp61'"]),
    ("[defaults.on.q]\ntf32 = true", &["unknown-target: there is no target `q` @ q"]),
    (
        "[target.u]\nsm = 'sm_86'\n[model.m]\nsource = { path = 'm' }\ntargets = ['t']\non.u.tf32 = true",
        &["unused-override: nothing here is built for the target `u` @ u"],
    ),
    (
        "[model.'a.b']\nsource = { path = 'm' }\ntargets = ['t']\n[model.a]\nsource = { path = 'm' }\ntargets = ['t']\nvariant.b.tf32 = true",
        &["ambiguous-engine: two models or variants are called `a.b` @ 'a.b'"],
    ),
    // Rules.
    ("[rules.std-fp16]\nrule = []", &["built-in-name: the rule set `std-fp16` is built in @ std-fp16"]),
    (
        "[rules.r]\nrule = [{ name = 'x', select = {}, precision = 'fp32' }]",
        &["empty-selector: `rules.r.rule[0].select` has no condition @ {}"],
    ),
    (
        "[rules.r]\nrule = [{ name = 'x', select = { op = [] }, precision = 'as-is' }]",
        &[
            "empty-value: `rules.r.rule[0].select.op` is empty @ []",
            "unknown-value: `rules.r.rule[0].precision` must be `fp32`, `fp16` or `bf16`, not `as-is` @ 'as-is'",
        ],
    ),
    (
        "[rules.r]\nrule = [{ name = 'x', select = { node = 'a[', regex = 'a(', pattern = 'layernorm' }, precision = 'fp32' }]",
        &[
            "bad-glob: `rules.r.rule[0].select.node`: `a[` is not a glob: unclosed character class; missing ']' @ 'a['",
            "bad-regex: `rules.r.rule[0].select.regex`: `a(` is not a regular expression: unclosed group @ 'a('",
            "unknown-pattern: `rules.r.rule[0].select.pattern` must be `layer-norm`, `rms-norm`, `l2-norm`, `softmax`, `gelu`, `attention`, `attention.scores`, `attention.mask`, `attention.softmax` or `attention.context`, not `layernorm` @ 'layernorm'",
        ],
    ),
    (
        "[rules.r]\nrule = [{ name = 'x', select = { not = { between = ['a'] } }, precision = 'fp32', expect = 0 }]",
        &[
            "out-of-range: `rules.r.rule[0].select.not.between` must hold 2 names, not 1 @ ['a']",
            "out-of-range: `rules.r.rule[0].expect` must be from 1 to 2147483647, not 0 @ 0",
        ],
    ),
    (
        "[rules.r]\nrule = [{ name = 'x', select = { op = 'A' }, precision = 'fp32' }, { name = \"x\", select = { op = 'B' }, precision = 'fp32' }]",
        &["duplicate-name: two rules have the name `x` @ \"x\""],
    ),
    // Profiles.
    (
        "[[defaults.profile]]\nname = 'p'",
        &["empty-profile: `defaults.profile[0]` sets nothing @ [[defaults.profile]]"],
    ),
    (
        "[[defaults.profile]]\ndims = { a = [1, 9, 8] }",
        &[
            "unordered-range: `defaults.profile[0].dims.a`: min <= opt <= max does not hold: min 1, opt 9, max 8 @ [1, 9, 8]",
        ],
    ),
    (
        "[[defaults.profile]]\ndims = { a = [1, 9] }",
        &["out-of-range: `defaults.profile[0].dims.a` must be `[min, opt, max]`, not 2 numbers @ [1, 9]"],
    ),
    (
        "[[defaults.profile]]\ndims = { a = -1, b = 2147483648, '' = 1 }",
        &[
            "out-of-range: `defaults.profile[0].dims.a` must be from 0 to 2147483647, not -1 @ -1",
            "out-of-range: `defaults.profile[0].dims.b` must be from 0 to 2147483647, not 2147483648 @ 2147483648",
            "empty-value: `defaults.profile[0].dims` has an empty key @ ''",
        ],
    ),
    (
        "[[defaults.profile]]\nshapes = { a = { min = [1, 2], opt = [1], max = [1] } }",
        &[
            "rank-mismatch: `defaults.profile[0].shapes.a`: min, opt and max have 2, 1 and 1 numbers @ { min = [1, 2], opt = [1], max = [1] }",
        ],
    ),
    (
        "[[defaults.profile]]\nshapes = { a = { min = [1, 2], opt = [1, 1], max = [1, 3] } }",
        &[
            "unordered-range: `defaults.profile[0].shapes.a` at index 1: min <= opt <= max does not hold: min 2, opt 1, max 3 @ { min = [1, 2], opt = [1, 1], max = [1, 3] }",
        ],
    ),
    (
        "[[defaults.profile]]\nshapes = { a = { min = [1], opt = [1] } }",
        &["missing-key: `defaults.profile[0].shapes.a` has no `max` @ a"],
    ),
    (
        "[[defaults.profile]]\ndims = { a = 1 }\nname = 'p'\n[[defaults.profile]]\nname = \"p\"\ndims = { a = 2 }",
        &["duplicate-name: two profiles have the name `p` @ \"p\""],
    ),
    // Options.
    (
        "[defaults.build]\nworkspace = '4GB'\ntimeout = '30'\noptimization-level = 6\nmax_aux_streams = 1",
        &[
            "bad-format: `defaults.build.workspace`: `4GB` has an ambiguous unit @ '4GB'",
            "bad-format: `defaults.build.timeout`: `30` is not a duration @ '30'",
            "out-of-range: `defaults.build.optimization-level` must be from 0 to 5, not 6 @ 6",
            "unknown-key: unknown key `max_aux_streams` in `defaults.build` @ max_aux_streams",
        ],
    ),
    (
        "[defaults.build]\nepoch = 99999999999999999999999",
        &[
            "out-of-range: `defaults.build.epoch` must be from 0 to 4294967295, not 99999999999999999999999 @ 99999999999999999999999",
        ],
    ),
    (
        "[defaults.io.x]\ntype = 'float16'",
        &[
            "unknown-value: `defaults.io.x.type` must be `fp32`, `fp16`, `bf16`, `int32`, `int64`, `int8`, `uint8` or `bool`, not `float16` @ 'float16'",
        ],
    ),
    (
        "[defaults]\nopset = '17+'",
        &["bad-format: `defaults.opset`: `17+` is not an opset requirement @ '17+'"],
    ),
    (
        "[defaults.verify]\ninputs = { dir = 'x', seed = 1 }\ntolerance = { cosin = 1, cosine = 2, rmse = nan, out = { max-abs = -1 } }",
        &[
            "conflicting-keys: `defaults.verify.inputs` has both `dir` and `seed` @ seed",
            "unknown-metric: unknown metric `cosin` in `defaults.verify.tolerance.cosin` @ cosin",
            "out-of-range: `defaults.verify.tolerance.cosine` must be from 0 to 1, not 2 @ 2",
            "out-of-range: `defaults.verify.tolerance.rmse` must be a finite number, not NaN @ nan",
            "out-of-range: `defaults.verify.tolerance.out.max-abs` must be at least 0, not -1 @ -1",
        ],
    ),
    (
        "[defaults.verify]\ninputs = { seed = 1, ranges = { x = [2, 1] } }",
        &["unordered-range: `defaults.verify.inputs.ranges.x`: 2 is above 1 @ [2, 1]"],
    ),
    // Globs; those that need files are elsewhere.
    (
        "[models.g]\nglob = 'x[*'\ntargets = ['t']",
        &["bad-glob: `x[*` is not a glob: unclosed character class; missing ']' @ 'x[*'"],
    ),
    (
        "[models.g]\nglob = '*/../x'\ntargets = ['t']",
        &["bad-path: `*/../x` has `..` after a wildcard @ '*/../x'"],
    ),
    ("[models.g]\ntargets = ['t']", &["missing-key: `models.g` has no `glob` @ g"]),
];

/// Codes that need files on a disk, or an environment.
const ELSEWHERE: &[&str] = &[
    "not-utf8",
    "not-a-file",
    "file-too-large",
    "no-match",
    "unreadable-folder",
    "no-manifests",
    "ambiguous-variable",
    "too-many-problems",
];

#[test]
fn wrong_manifests_are_told_what_is_wrong_and_where() {
    let mut failures = String::new();
    for (text, expected) in CASES {
        let whole = if text.starts_with("schema") { (*text).to_owned() } else { format!("{BASE}{text}") };
        let found: Vec<String> = read(&[("a.toml", &whole)]).diagnostics.iter().map(show).collect();
        if found != *expected {
            failures += &format!("\n{text}\n  found    {found:#?}\n  expected {expected:#?}\n");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn every_code_has_a_case() {
    let shown: BTreeSet<&str> =
        CASES.iter().flat_map(|(_, all)| *all).map(|line| line.split_once(':').unwrap().0).collect();
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().copied().collect();
    let all: BTreeSet<&str> = CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(shown.union(&elsewhere).copied().collect::<BTreeSet<_>>(), all);
}

#[test]
fn errors_of_all_files_come_in_one_run() {
    let loaded = read(&[
        (
            "a.toml",
            "schema = 1\n[target.t]\ngpu = 'RTX 3091 Ti'\n[model.m]\nsource = { path = 'm' }\ntargets = ['u']",
        ),
        ("b.toml", "schema = 1\n[defaults]\ntf32 = 1\nx = "),
        ("c.toml", "[defaults]\ntf32 = 1\n"),
    ]);
    assert!(loaded.manifest.is_none());
    let codes: Vec<&str> = loaded.diagnostics.iter().map(|d| d.code.as_ref()).collect();
    // The target `u` may be defined in `b.toml`, so nothing is said about it.
    assert_eq!(codes, ["unknown-gpu", "toml-syntax", "missing-key", "wrong-type"]);
}

#[test]
fn a_name_defined_in_two_files_shows_both_places() {
    let loaded = read(&[("a.toml", BASE), ("b.toml", BASE)]);
    let [error] = loaded.diagnostics.as_slice() else { panic!("{:?}", loaded.diagnostics) };
    assert_eq!(show(error), "duplicate-name: `target.t` is defined twice @ t");
    assert!(format!("{:?} {:?}", error.place, error.related).contains("b.toml:2:9"));
    assert!(format!("{:?}", error.related).contains("a.toml:2:9"));
}

#[test]
fn a_name_defined_twice_in_one_file_shows_both_places() {
    let text =
        format!("{BASE}[model.m]\nsource = {{ path = 'a' }}\n[model.m] # again\nsource = {{ path = 'b' }}\n");
    let loaded = read(&[("a.toml", &text)]);
    let [error] = loaded.diagnostics.as_slice() else { panic!("{:?}", loaded.diagnostics) };
    assert!(format!("{:?}", error.place).contains("a.toml:6:8"), "{error:?}");
    assert!(format!("{:?}", error.related).contains("a.toml:4:1"), "{error:?}");
}

#[test]
fn suggestions_help() {
    let help = |text: &str| {
        let loaded = read(&[("a.toml", &format!("{BASE}{text}"))]);
        format!("{:?} {:?}", loaded.diagnostics[0].help, loaded.diagnostics[0].notes)
    };
    assert!(help("[defaults]\nprecison = 1").contains("did you mean `precision`?"));
    assert!(help("[defaults]\nbanana = 1").contains("the keys here are `opset`"));
    assert!(help("[target.x]\ngpu = 'RTX 6000'").contains("did you mean `Quadro RTX 6000`, `RTX 6000 Ada`"));
    assert!(help("[target.x]\nsm = '8.6'").contains("write `sm_86`"));
    assert!(help("[target.x]\nsm = 'sm_101'").contains("CUDA 12 calls Thor"));
    assert!(help("[defaults]\nrules = ['std-fp61']").contains("did you mean `std-fp16`?"));
}

#[test]
fn the_local_file_may_say_where_toolchains_are_and_nothing_else() {
    let local = "[target.t]\nsm = 'sm_86'\n[toolchain.rtx]\nkind = 'trtexec'\n[toolchain.trt]\nroot = '/x'";
    let found = read_with_local(BASE, local, &Options::default());
    let found: Vec<String> = found.diagnostics.iter().map(show).collect();
    assert_eq!(
        found,
        [
            "unknown-key: unknown key `target` @ target",
            "unknown-key: unknown key `kind` in `toolchain.rtx` @ kind",
            "unknown-toolchain: there is no toolchain `trt` @ trt",
        ]
    );
}

#[test]
fn a_variable_for_two_toolchains_is_an_error() {
    let env_roots = [("A_B".to_owned(), PathBuf::from("/x"))].into();
    let text = format!(
        "{BASE}[toolchain.'a.b']\nkind = 'trtexec'\nversion = '8.6'\n[toolchain.a-b]\nkind = 'trtexec'\nversion = '8.6'"
    );
    let loaded = read_with_local(&text, "", &Options { env_roots, ..Options::default() });
    assert_eq!(loaded.diagnostics[0].code, "ambiguous-variable");
}
