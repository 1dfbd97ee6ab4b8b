//! The precision map: every node of a model as a coloured square, in order.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::escape::{html as esc, json as script, visible};
use super::figures::count;
use super::model::{Model, Node};

/// Nodes that a map shows: a page stays below a few megabytes.
const MOST: usize = 10_000;

/// How a type is shown: its class, and its name in the legend.
const TYPES: [(&str, &str); 4] = [("h", "fp16"), ("b", "bf16"), ("f", "fp32"), ("n", "no type of its own")];

fn class(node: &Node) -> &'static str {
    match node.of.as_deref() {
        Some("fp16") => "h",
        Some("bf16") => "b",
        Some(_) => "f",
        None => "n",
    }
}

/// The map, the rules that made it, and its data for the script.
pub(super) fn html(model: &Model, index: usize) -> String {
    if model.nodes.is_empty() {
        if model.messages.iter().any(|message| message.level == "error") {
            return "<p>The types of its nodes cannot be told.</p>\n".to_owned();
        }
        return "<p>As it is: every node has the type of the file.</p>\n".to_owned();
    }
    let mut text = format!("<h3>{}</h3>\n", count(model.nodes.len(), "node"));
    text += &share(model);
    let _ = write!(
        text,
        "<div class=\"map\" data-map=\"{index}\">\n\
         <label class=\"search\">Find nodes <input type=\"search\" placeholder=\"name, operator, type or rule\" autocomplete=\"off\" spellcheck=\"false\"></label>\n\
         <p class=\"readout\" aria-live=\"polite\">Point at a square, or search.</p>\n<div class=\"grid\" role=\"img\" aria-label=\"the type of each node, in order\">",
    );
    for node in model.nodes.iter().take(MOST) {
        let _ = write!(text, "<i class={}></i>", class(node));
    }
    text += "</div>\n<div class=\"found scroll\"></div>\n";
    if model.nodes.len() > MOST {
        let _ = writeln!(
            text,
            "<p class=\"quiet\">The first {MOST} are shown: <code>enginewright rules</code> lists all.</p>"
        );
    }
    let _ =
        write!(text, "<script type=\"application/json\">{}</script>\n</div>\n", script(&data(&model.nodes)));
    if !model.rules.is_empty() {
        text += "<details><summary>Rules</summary>\n<dl>\n";
        for rule in &model.rules {
            let instances = rule.instances.map(|n| format!(", {}", count(n, "instance"))).unwrap_or_default();
            let nodes = count(rule.nodes, "node");
            let _ = writeln!(text, "<div><dt>{}</dt><dd>{nodes}{instances}</dd></div>", esc(&rule.name));
        }
        text += "</dl>\n</details>\n";
    }
    text
}

/// How many nodes have each type, as a bar and as its legend.
fn share(model: &Model) -> String {
    let (mut bar, mut legend) = (String::new(), String::new());
    for (of, name) in TYPES {
        let n = model.nodes.iter().filter(|node| class(node) == of).count();
        if n > 0 {
            let _ = write!(bar, "<i class={of} style=\"flex-grow:{n}\"></i>");
            let _ = write!(legend, "<span><i class={of}></i>{n} {name}</span> ");
        }
    }
    format!("<div class=\"share\" aria-hidden=\"true\">{bar}</div>\n<p class=\"legend\">{legend}</p>\n")
}

/// Names as they are; operators, types and deciders by their places in lists, since they repeat.
fn data(nodes: &[Node]) -> serde_json::Value {
    let mut words: Vec<&str> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rows = Vec::new();
    for node in nodes.iter().take(MOST) {
        let mut at = |word| {
            *places.entry(word).or_insert_with(|| {
                words.push(word);
                words.len() - 1
            })
        };
        let sums = node.accumulator.as_deref().unwrap_or_default();
        let of = node.of.as_deref().unwrap_or("no type");
        rows.push(json!([visible(&node.name), at(&node.op), at(of), at(sums), at(&node.by)]));
    }
    let words: Vec<String> = words.into_iter().map(visible).collect();
    json!({ "words": words, "nodes": rows })
}
