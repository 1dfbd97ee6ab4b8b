//! `check`: everything that is wrong, without a build.

use crate::support::{Project, models};

const HEAD: &str = "[defaults]\ntargets = [\"a\"]\nprecision = \"fp16\"\n";

fn project(more: &str) -> Project {
    let project = Project::new(&format!("{HEAD}{more}"));
    project.write("good.onnx", models::mlp(1.0));
    project.write("large.onnx", models::mlp(2e5));
    project
}

fn model(name: &str, file: &str) -> String {
    format!("[model.{name}]\nsource = {{ path = \"../{file}.onnx\" }}\n")
}

#[test]
fn check_is_quiet_when_all_is_well_and_builds_nothing() {
    let project = project(&model("good", "good"));
    project.run(&["check"]).expect(0);
    let again = project.run(&["check"]);
    assert_eq!((again.code, &*again.stdout, &*again.stderr), (0, "1 engine checked: no problems\n", ""));
    let json = project.run(&["--format", "json", "check"]).json();
    assert_eq!(
        (&json["errors"], &json["warnings"], &json["fixes"]),
        (&0.into(), &0.into(), &serde_json::json!([]))
    );
    assert_eq!(json["engines"][0]["engine"], "good@a");
    assert!(!project.exists("engines") && !project.exists("enginewright.lock"));
    assert!(!project.exists("cache/v1/results/build"), "nothing is built");
    project.run(&["check", "bad"]).expect(64);
}

#[test]
fn check_tells_all_problems_of_all_models_in_one_run() {
    let more = [
        model("good", "good"),
        model("large", "large"),
        model("none", "nowhere"),
        format!(
            "{}opset = \">=21\"\n[[model.old.rule]]\nname = \"r\"\nselect = {{ op = \"Relo\" }}\nprecision = \"fp32\"\n",
            model("old", "good")
        ),
        "[model.far]\nsource = { package = \"no-such-package==1\", file = \"m.onnx\" }\n".to_owned(),
        "[target.t4]\ngpu = \"T4\"\n".to_owned(),
        format!("{}precision = \"as-is\"\ntargets = [\"t4\"]\n", model("t4", "good")),
    ];
    let project = project(&more.concat());
    let check = project.run(&["check"]);
    check.expect(1).says(&[
        "error[weight-overflow-fp16]",
        "nowhere.onnx",
        "opset 21 or later",
        "error[rule-no-match]",
        "error[not-fetched]",
        "check --fetch",
        "error[sm75-fp32-gemm]",
        "`mm1` (MatMul), `mm2` (MatMul)",
        "6 engines checked: 6 errors",
    ]);
    let json = project.run(&["--format", "json", "check", "l*", "good"]);
    let json = json.expect(1).json();
    let engine = json["engines"].as_array().unwrap().iter().find(|e| e["engine"] == "large@a").unwrap();
    assert_eq!((&engine["errors"], &engine["warnings"]), (&1.into(), &0.into()));
    let diagnostic = &engine["diagnostics"][0];
    assert_eq!(
        (&diagnostic["code"], &diagnostic["level"]),
        (&"weight-overflow-fp16".into(), &"error".into())
    );
    assert_eq!((&diagnostic["place"]["node"], &diagnostic["place"]["op"]), (&"mm1".into(), &"MatMul".into()));
    assert!(diagnostic["rules"].as_str().unwrap().starts_with("[[model.large.rule]]\n"));
    // A manifest that is wrong is told before any model is read.
    project.manifest(
        "[model.m]\nsource = { path = \"../good.onnx\" }\ntargets = [\"a\"]\nprecison = \"fp16\"\n",
    );
    project.run(&["check"]).expect(3).says(&["did you mean `precision`?"]);
}

#[test]
fn rules_that_are_pasted_mend_what_was_found() {
    // The same for two targets and a variant: said once.
    let more = format!(
        "[target.b]\nsm = \"sm_89\"\n{}targets = [\"a\", \"b\"]\n[model.large.variant.v]\nbuild = {{ epoch = 1 }}\n",
        model("large", "large")
    );
    let project = project(&more);
    let hints = project.run(&["check", "--fix-hints"]);
    hints.expect(1).says(&["4 engines checked: "]);
    assert_eq!(hints.stdout.matches("[[").count(), 1, "{}", hints.stdout);
    assert!(hints.stdout.starts_with("# weight-overflow-fp16\n[[model.large.rule]]\n"), "{}", hints.stdout);
    project.manifest(&format!("{HEAD}{more}{}", hints.stdout));
    let mended = project.run(&["check", "--fix-hints"]);
    assert_eq!((mended.expect(0).stdout.as_str(), mended.code), ("", 0));

    // For the models of a glob the rule goes where their settings are.
    project.manifest(&format!("{HEAD}[models.all]\nglob = \"../*.onnx\"\n"));
    let hints = project.run(&["check", "--fix-hints"]);
    assert!(hints.expect(1).stdout.contains("[[models.all.rule]]\n"), "{}", hints.stdout);
    project.manifest(&format!("{HEAD}[models.all]\nglob = \"../*.onnx\"\n{}", hints.stdout));
    project.run(&["check"]).expect(0);
}

#[test]
fn bf16_that_the_opset_does_not_have_is_refused_with_the_rule_that_keeps_fp32() {
    let text = format!("{}precision = \"bf16\"\n", model("cnn", "cnn"));
    let project = project(&text);
    project.write("cnn.onnx", models::cnn(13));
    let check = project.run(&["check", "--fix-hints"]);
    check.expect(1).says(&[
        "error[bf16-not-in-opset]: 2 nodes stay fp32",
        "from opset 22 on: `Conv` (1), `GlobalAveragePool` (1)",
        "export the model with opset 22 or later",
        "`bf16-not-in-opset = \"warn\"` in `[model.cnn.hazards]`",
    ]);
    project.run(&["apply"]).expect(1);
    project.manifest(&format!("{HEAD}{text}{}", check.stdout));
    project.run(&["check"]).expect(0);
    project.run(&["apply"]).expect(0);
    // Kept FP32 by a level: the same engine.
    project.manifest(&format!("{HEAD}{text}[model.cnn.hazards]\nbf16-not-in-opset = \"warn\"\n"));
    project.run(&["plan", "--detailed-exitcode"]).expect(0).says(&["warning[bf16-not-in-opset]"]);
    project.write("cnn.onnx", models::cnn(22));
    project.manifest(&format!("{HEAD}{text}"));
    project.run(&["check"]).expect(0).says(&["no problems"]);
}

#[test]
fn odd_models_are_named_for_what_is_odd_and_others_are_built() {
    let names: Vec<&str> = models::odd().iter().map(|(name, _)| *name).collect();
    let mut manifest = HEAD.to_owned() + &model("good", "good");
    for name in &names {
        manifest += &model(name, name);
    }
    let select = |name: &str, select: &str, more: &str| {
        format!(
            "[[model.integers.rule]]\nname = \"{name}\"\nselect = {{ {select} }}\nprecision = \"fp32\"\n{more}"
        )
    };
    manifest += &select("none", "node = \"to-int\"", "");
    manifest += &select("far", "node = \"to-inn\"", "");
    manifest += &select("one", "node = \"back\"", "expect = 1\n");
    manifest += &select("two", "node = \"back\"", "expect = 2\n");
    let project = Project::new(&manifest);
    project.write("good.onnx", models::mlp(1.0));
    for (name, bytes) in models::odd() {
        project.write(&format!("{name}.onnx"), bytes);
    }
    let json = project.run(&["--format", "json", "check"]);
    let json = json.expect(1).json();
    let said = |name: &str| {
        let engines = json["engines"].as_array().unwrap();
        let engine = engines.iter().find(|e| e["engine"] == format!("{name}@a")).unwrap();
        let messages = engine["diagnostics"].as_array().unwrap().iter();
        messages.map(|d| d["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(said("twice"), ["value `y` is made by node `relu` and by node `sigmoid`"]);
    assert_eq!(
        said("short"),
        ["initializer `w` has 40 bytes of data where its type float and shape [4, 4] want 64"]
    );
    assert_eq!(said("negative"), ["initializer `w` has the negative dimension -4 at axis 0"]);
    assert!(said("huge")[0].contains("dimension 1099511627776 at axis 0, beyond 32 bits"));
    assert!(said("strings")[0].contains("input `x` of model `strings` is of type string"));
    assert_eq!(said("old"), ["a model of opset 3 cannot be given a precision"]);
    assert!(said("new")[0].contains("uses opset 30; opsets up to"));
    assert_eq!(
        said("integers"),
        [
            "rule `none` selects 1 node, which has no float result",
            "rule `far` selects nothing in this model",
            "rule `two` expects 2 nodes with a float result and selects 1",
        ]
    );
    // What TensorRT alone can judge, or need not.
    for fine in ["good", "custom", "unsorted", "chain"] {
        assert_eq!(said(fine), [""; 0], "{fine}");
    }
    let apply =
        project.run(&["apply", "good", "custom", "unsorted", "twice", "short", "strings", "integers"]);
    apply.expect(1).says(&["2 of 7 engines ready, 5 failed", "`Frob` at `frob`"]);
    assert!(project.exists("engines/good/a.engine") && project.exists("engines/unsorted/a.engine"));
}
