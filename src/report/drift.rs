//! The drift plot: for every node in order, how far its values are from the reference, and how large they are.

use std::fmt::Write as _;

use serde_json::json;

use super::escape::{html as esc, json as script, visible};
use super::figures::{count, number};
use super::model::{Drift, DriftNode};

/// FP16's largest number.
const FP16_MAX: f64 = 65504.0;

/// Rows of a table.
const SHOWN: usize = 10;

/// Nodes that a plot shows.
const MOST: usize = 10_000;

/// A vertical axis in powers of ten, from bottom to top. Where something is not finite, the topmost line is that.
#[derive(Clone, Copy)]
struct Axis {
    low: i32,
    high: i32,
    is_open: bool,
}

impl Axis {
    /// Covers all values, and these powers.
    fn over(values: impl Iterator<Item = f64>, low: i32, high: i32) -> Axis {
        let mut axis = Axis { low, high, is_open: false };
        for value in values {
            axis.is_open |= !value.is_finite();
            if value.is_finite() && value > 0.0 {
                let magnitude = value.log10().clamp(-12.0, 39.0);
                #[expect(clippy::cast_possible_truncation, reason = "clamped above")]
                let (floor, ceil) = (magnitude.floor() as i32, magnitude.ceil() as i32);
                (axis.low, axis.high) = (axis.low.min(floor), axis.high.max(ceil));
            }
        }
        axis.high += i32::from(axis.is_open);
        axis
    }

    /// Where a value is, in thousandths from the top. Zero lies at the bottom, what is not finite at the top.
    fn place(self, value: f64) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        match value {
            v if !v.is_finite() => 0.0,
            v if v <= 0.0 => 1000.0,
            v => (1000.0 * (high - v.log10()) / (high - low)).clamp(0.0, 1000.0),
        }
    }
}

/// The plot with its tables, and its data for the script.
pub(super) fn html(drift: &Drift, id: &str) -> String {
    let mut text = format!(
        "<h3>Drift <span class=\"quiet\">{} on {}</span></h3>\n",
        esc(&drift.engines.join(", ")),
        count(drift.samples, "sample"),
    );
    if let Some(untapped) = &drift.untapped {
        let _ = writeln!(text, "<p class=\"quiet\">Not looked at: {}.</p>", esc(untapped));
    }
    if drift.nodes.is_empty() {
        return text + "<p>No node has a float value.</p>\n";
    }
    let shown = &drift.nodes[..drift.nodes.len().min(MOST)];
    let _ = writeln!(text, "<div class=\"drift\" data-drift=\"{id}\">");
    let errors = || shown.iter().map(|n| n.error);
    let error = Axis::over(errors().chain([drift.limit]), -8, 0);
    let absmax = Axis::over(shown.iter().map(|n| n.absmax), -2, 5);
    text += &panel("Error, as a share of the value", shown, error, |n| n.error, (drift.limit, "limit"));
    text += &panel("Greatest magnitude in the reference", shown, absmax, |n| n.absmax, (FP16_MAX, "65504"));
    text += "<p class=\"axis\"><span>first node</span><span>last node</span></p>\n";
    text += &legend(shown);
    text += "<p class=\"readout\" aria-live=\"polite\">Point at the plot.</p>\n";
    let rows: Vec<_> = shown
        .iter()
        .map(|n| {
            let (node, op, sample) = (visible(&n.node), visible(&n.op), visible(&n.sample));
            json!([
                node,
                op,
                n.of,
                number(n.error),
                number(n.absmax),
                sample,
                n.broken.as_deref().unwrap_or("")
            ])
        })
        .collect();
    let _ = write!(text, "<script type=\"application/json\">{}</script>\n</div>\n", script(&json!(rows)));
    if shown.len() < drift.nodes.len() {
        let _ = writeln!(
            text,
            "<p class=\"quiet\">The first {MOST} of {} nodes are shown.</p>",
            drift.nodes.len()
        );
    }
    let first: Vec<&DriftNode> = drift.nodes.iter().filter(|n| n.first).collect();
    if first.is_empty() {
        let _ = writeln!(text, "<p>No value is further than {} from its reference.</p>", number(drift.limit));
    } else {
        text += &table("The first to break", &first);
    }
    let mut growth: Vec<&DriftNode> = drift.nodes.iter().filter(|n| n.growth > 0.0).collect();
    growth.sort_by(|a, b| b.growth.total_cmp(&a.growth));
    if !growth.is_empty() {
        text += &table("Where the error grows most", &growth);
    }
    text
}

/// One plot: points by type, and a line that matters.
fn panel(
    title: &str,
    nodes: &[DriftNode],
    axis: Axis,
    value: impl Fn(&DriftNode) -> f64,
    (line, name): (f64, &str),
) -> String {
    // Places are thousandths of width and height: the picture is stretched to its box, and its lines are not.
    #[expect(clippy::cast_precision_loss, reason = "at most MOST nodes")]
    let x = |i: usize| (i as f64 + 0.5) * 1000.0 / nodes.len() as f64;
    let path = |class: &str, which: &dyn Fn(&DriftNode) -> bool| {
        let mut d = String::new();
        for (i, node) in nodes.iter().enumerate().filter(|(_, node)| which(node)) {
            let _ = write!(d, "M{:.1} {:.0}h0", x(i), axis.place(value(node)));
        }
        if d.is_empty() { d } else { format!("<path class=\"{class}\" d=\"{d}\"/>") }
    };
    let mut text =
        format!("<figure><figcaption>{title}</figcaption><div class=\"plot\"><div class=\"ticks\">");
    let step = ((axis.high - axis.low) / 6).max(1);
    let mut lines = String::new();
    let mut tick = |at: f64, name: String| {
        let _ = write!(text, "<span style=\"top:{:.1}%\">{name}</span>", at / 10.0);
        let _ = write!(lines, "M0 {at:.0}H1000");
    };
    let mut power = axis.low;
    while power <= axis.high - i32::from(axis.is_open) {
        tick(axis.place(10f64.powi(power)), format!("10<sup>{power}</sup>"));
        power += step;
    }
    if axis.is_open {
        tick(0.0, "∞".to_owned());
    }
    let at = axis.place(line);
    let _ = write!(
        text,
        "</div><svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title}, node by node\">\
         <path class=\"rule\" d=\"{lines}\"/><path class=\"limit\" d=\"M0 {at:.0}H1000\"/>",
    );
    text += &path("x", &|n| n.first);
    text += &path("f", &|n| n.of != "fp16" && n.of != "bf16");
    text += &path("b", &|n| n.of == "bf16");
    text += &path("h", &|n| n.of == "fp16");
    let _ = writeln!(
        text,
        "<path class=\"cursor\" d=\"\"/></svg><span class=\"limit\" style=\"top:{:.1}%\">{name}</span></div></figure>",
        at / 10.0,
    );
    text
}

/// What the points mean, as far as there are such points.
fn legend(nodes: &[DriftNode]) -> String {
    let types = [("h", "fp16"), ("b", "bf16"), ("f", "fp32")];
    let mut parts: Vec<String> = types
        .iter()
        .filter(|(_, of)| nodes.iter().any(|node| node.of == *of))
        .map(|(class, of)| format!("<span><i class={class}></i>{of}</span>"))
        .collect();
    if nodes.iter().any(|node| node.first) {
        parts.push("<span><i class=x></i>first to break</span>".to_owned());
    }
    format!("<p class=\"legend\">{}</p>\n", parts.join(" "))
}

fn table(title: &str, rows: &[&DriftNode]) -> String {
    let row = |n: &&DriftNode| {
        let cells = [
            n.node.clone(),
            n.op.clone(),
            n.pattern.clone().unwrap_or_default(),
            n.of.clone(),
            number(n.absmax),
            number(n.error),
            number(n.growth),
            n.sample.clone(),
            n.broken.clone().unwrap_or_default(),
        ];
        let cells = cells.iter().map(|cell| format!("<td>{}</td>", esc(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let more = match rows.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!("<p class=\"quiet\">and {n} more</p>\n"),
    };
    format!(
        "<h4>{title}</h4>\n<div class=\"scroll\"><table><thead><tr><th>Node<th>Operator<th>Pattern<th>Type<th>Absmax<th>Error<th>Growth<th>In sample<th></tr></thead>\n\
         <tbody>{}</tbody></table></div>\n{more}",
        rows.iter().take(SHOWN).map(row).collect::<String>(),
    )
}
