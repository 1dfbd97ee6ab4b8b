//! Pages as a whole: safe with any text, small, and with all that they should tell.

use super::*;

const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`|@all\u{202e}";

fn report(name: &str, nodes: usize) -> Report {
    let node = |i: usize| Node {
        name: format!("/layers.{i}/{name}"),
        op: "MatMul".to_owned(),
        of: [Some("fp16"), Some("fp32"), Some("bf16"), None][i % 4].map(str::to_owned),
        accumulator: i.is_multiple_of(4).then(|| "fp32".to_owned()),
        by: format!("\"{name}\" manifests/{name}.toml:12"),
    };
    let drift = |i: usize| DriftNode {
        node: format!("/layers.{i}/{name}"),
        op: "MatMul".to_owned(),
        pattern: Some("layer-norm".to_owned()),
        of: "fp16".to_owned(),
        error: if i == 7 { f64::INFINITY } else { 1e-4 * i as f64 },
        absmax: 10.0 * i as f64,
        growth: 1e-5,
        sample: name.to_owned(),
        broken: (i == 7).then(|| "leaves FP16's range".to_owned()),
        first: i == 7,
    };
    let message = Message {
        level: "warning".to_owned(),
        code: "norm-in-fp16".to_owned(),
        text: format!("`{name}` overflows"),
        place: Some(format!("{name}.onnx")),
        notes: vec![name.to_owned()],
        help: vec![name.to_owned()],
        rules: Some(format!("# {name}")),
    };
    let entry = Entry {
        run: "1".to_owned(),
        outcome: "built".to_owned(),
        why: vec![name.to_owned()],
        size: 900,
        ..Entry::default()
    };
    Report {
        format: 1,
        project: name.to_owned(),
        tool: "enginewright 0".to_owned(),
        run: Some(Run { id: name.to_owned(), command: name.to_owned(), ..Run::default() }),
        targets: vec![Target {
            name: "a".to_owned(),
            gpu: Some(name.to_owned()),
            sms: vec!["sm_86".to_owned()],
            toolchain: name.to_owned(),
        }],
        engines: vec![Engine {
            name: format!("{name}@a"),
            target: "a".to_owned(),
            status: "stale".to_owned(),
            why: vec![format!("rule \"{name}\" selects more")],
            verdict: Some(name.to_owned()),
            metrics: vec![Metric {
                output: name.to_owned(),
                metric: "max-abs".to_owned(),
                ok: Some(false),
                ..Metric::default()
            }],
            size: Some(1000),
            last: Some(entry.clone()),
            before: Some(entry),
            provenance: vec![("file".to_owned(), name.to_owned())],
            keys: vec![Key {
                action: "build".to_owned(),
                key: "ab".repeat(32),
                fields: vec![(name.to_owned(), name.to_owned())],
            }],
            model: Some(0),
            ..Engine::default()
        }],
        models: vec![Model {
            name: name.to_owned(),
            engines: vec![format!("{name}@a")],
            nodes: (0..nodes).map(node).collect(),
            rules: vec![Rule { name: name.to_owned(), nodes: 3, instances: Some(1) }],
            messages: vec![message.clone()],
            drift: vec![Drift {
                engines: vec![name.to_owned()],
                samples: 2,
                limit: 0.01,
                nodes: (0..nodes).map(drift).collect(),
                untapped: Some("3 nodes inside <subgraphs>".to_owned()),
            }],
        }],
        messages: vec![message],
    }
}

/// The tags of a page, and what lies between, read as a browser does: text of scripts and styles is no markup.
fn tags(page: &str) -> Vec<String> {
    let (mut tags, mut rest) = (Vec::new(), page);
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        let name = tag.split([' ', '\n']).next().unwrap_or_default().to_owned();
        rest = &rest[end + 1..];
        if name == "script" || name == "style" {
            let close = rest.find(&format!("</{name}>")).expect("it is closed");
            rest = &rest[close..];
        }
        tags.push(tag.to_owned());
    }
    tags
}

#[test]
fn text_of_users_is_never_markup() {
    let (hostile, plain) = (html(&report(HOSTILE, 20)), html(&report("x", 20)));
    let names = |page: &str| -> Vec<String> {
        tags(page).iter().map(|tag| tag.split([' ', '\n']).next().unwrap_or_default().to_owned()).collect()
    };
    // The same elements, whatever the names are.
    assert_eq!(names(&hostile), names(&plain));
    assert!(!hostile.contains("<img") && !hostile.contains("<script>alert"), "nothing is markup");
    assert!(!hostile.contains('\u{202e}'), "nothing turns text around");
    for tag in tags(&hostile) {
        assert!(!tag.contains("onerror=alert(2)>") && !tag.starts_with("img"), "{tag}");
    }
}

#[test]
fn every_element_is_closed_and_nothing_is_loaded() {
    let page = html(&report("x", 20));
    let mut open: Vec<String> = Vec::new();
    for tag in tags(&page) {
        let name = tag.trim_end_matches('/').split([' ', '\n']).next().unwrap_or_default().to_owned();
        match name.strip_prefix('/') {
            Some("tr") => while open.pop().is_some_and(|name| name != "tr") {},
            Some(closed) => assert_eq!(open.pop().as_deref(), Some(closed), "{tag}"),
            None if tag.ends_with('/') => {}
            None if matches!(name.as_str(), "!doctype" | "meta" | "link" | "input") => {}
            // These may end without a tag of their own.
            None if name == "th" && open.last().is_some_and(|open| open == "th") => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, Vec::<String>::new());
    for needs in ["http://", "https://", "src=", "@import", "url(", "fetch(", "innerHTML"] {
        assert!(!page.contains(needs), "`{needs}`");
    }
}

#[test]
fn all_is_told() {
    let mut report = report("net", 20);
    let page = html(&report);
    for told in [
        "net@a",
        "sm_86",
        "norm-in-fp16",
        "build",
        "abababababab",
        "max-abs",
        "+11 %",
        "The first to break",
        "leaves FP16",
    ] {
        assert!(page.contains(told), "`{told}`");
    }
    assert_eq!(page.matches("<i class=h></i>").count(), 5 + 2, "squares and two legends");
    let text = markdown(&report);
    for told in [
        MARKER,
        "`net@a`",
        "rule \"net\" selects more",
        "1.0 kB (+11 %)",
        "norm-in-fp16",
        "the first to break is `/layers.7/net`",
    ] {
        assert!(text.contains(told), "`{told}`:\n{text}");
    }
    report.models[0].nodes.clear();
    report.models[0].messages.clear();
    assert!(html(&report).contains("As it is"), "a model without types says so");
}

#[test]
fn markdown_keeps_its_tables_and_its_size() {
    let text = markdown(&report(HOSTILE, 20));
    let row = text.lines().find(|line| line.contains("stale")).unwrap();
    // Six cells, whatever is in them.
    let bars = row.replace("\\|", "").matches('|').count();
    assert_eq!(bars, 7, "{row}");
    // What is code in Markdown is text; all else must be escaped.
    let code = regex::Regex::new("``[^`](?:[^`]|`[^`])*``|`[^`]+`").unwrap();
    let without_escaped = text.replace("\\`", "");
    let rest = code.replace_all(&without_escaped, "");
    assert!(!rest.contains("<script") && !rest.contains("<img"), "{rest}");
    let mut many = report("x", 3);
    let long = Engine { why: vec!["w".repeat(5000); 9], ..many.engines[0].clone() };
    many.engines = vec![long; 500];
    many.messages = (0..500)
        .map(|i| Message { text: format!("{i}{}", "m".repeat(5000)), ..Message::default() })
        .collect();
    let text = markdown(&many);
    assert!(text.chars().count() < 65_536, "{}", text.len());
    assert!(text.contains("\nand 4") && text.contains("- and 4"), "what is left out is counted: {text}");
}

#[test]
fn a_page_of_many_nodes_stays_small() {
    let page = html(&report("block/attention/MatMul_with_a_long_name", 1411));
    assert!(page.len() < 1 << 20, "{}", page.len());
    let page = html(&report("block/attention/MatMul", 200_000));
    assert!(page.len() < 5 << 20, "{}", page.len());
    assert!(page.contains("The first 10000 are shown"), "what is left out is told");
}

#[test]
fn an_empty_project_is_a_page_too() {
    let page = html(&Report::default());
    assert!(page.contains("No engines are declared") && page.contains("No run is recorded"), "{page}");
    assert!(markdown(&Report::default()).contains("nothing is declared"));
    assert!(serde_json::to_string(&report("x", 8)).unwrap().contains("\"error\":\"inf\""));
}
