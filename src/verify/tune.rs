//! The search for a smallest set of FP32 nodes with which an engine passes.
//!
//! Half a norm in FP16 is no gain: it is warned of, and breaks a fusion. So what belongs to one instance of a pattern goes
//! together, as one unit; every other node is a unit of its own. The way, each step a probe or several:
//!
//! 1. nothing but what must be FP32 anyway;
//! 2. what leaves FP16's range in the reference, with what reads it;
//! 3. with that, pattern after pattern; then everything;
//! 4. of the first set that passes, halves and ever smaller parts are left out again (delta debugging), until no part can
//!    be or the budget is spent. A norm that leaves the range stays: what it gives then is no number but its bias, and that
//!    a few samples do not show it is luck.
//!
//! Pure: who asks says what a probe is.

use std::collections::{BTreeMap, BTreeSet};

use super::drift::Drift;

/// A set of nodes, by their places in [`Drift::nodes`].
pub type Nodes = BTreeSet<usize>;

/// What a probe says of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// All tolerances hold.
    Passes,
    /// One does not.
    Fails,
    /// The set cannot be built as it is asked: TensorRT would demote a pin, or a weight does not fit.
    Refused,
}

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The smallest set that passes; none if nothing does.
    pub set: Option<Nodes>,
    /// Was the budget spent before the set was known to be a smallest one?
    pub is_cut_short: bool,
}

/// Patterns whose nodes go together.
const TOGETHER: [&str; 5] = ["layer-norm", "rms-norm", "l2-norm", "softmax", "gelu"];

/// Those of them that sum squares.
const NORMS: [&str; 3] = ["layer-norm", "rms-norm", "l2-norm"];

/// What the first probe adds.
const NOTHING: &str = "nothing more";

/// Patterns that are tried, each with those before it.
const TRIED: [&str; 6] = ["layer-norm", "rms-norm", "l2-norm", "softmax", "attention", "gelu"];

/// A search under way.
struct Search<'p, E> {
    probe: &'p mut dyn FnMut(&Nodes, &str) -> Result<Probe, E>,
    known: BTreeMap<Nodes, Probe>,
    left: usize,
}

impl<E> Search<'_, E> {
    /// None if the budget is spent.
    fn ask(&mut self, set: &Nodes, why: &str) -> Result<Option<bool>, E> {
        if let Some(known) = self.known.get(set) {
            return Ok(Some(*known == Probe::Passes));
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let answer = (self.probe)(set, why)?;
        self.known.insert(set.clone(), answer);
        Ok(Some(answer == Probe::Passes))
    }
}

/// Searches. `drift` is that of a model whose nodes are FP16 but for `forced`; a probe is given what is FP32, and what
/// it is tried for.
///
/// # Errors
/// Those of the probe.
pub fn search<E>(
    drift: &Drift,
    forced: &Nodes,
    budget: usize,
    probe: &mut dyn FnMut(&Nodes, &str) -> Result<Probe, E>,
) -> Result<Found, E> {
    let units = units(drift);
    let mut search = Search { probe, known: BTreeMap::new(), left: budget };
    // What is FP32 anyway need not be asked for.
    let is_open = |node: &usize| drift.nodes[*node].is_half() || forced.contains(node);
    let whole = |nodes: &Nodes| -> Nodes {
        let all = nodes.iter().flat_map(|node| units[node].iter().copied());
        all.filter(is_open).chain(forced.iter().copied()).collect()
    };
    let range = whole(&out_of_range(drift));
    let is_norm = |node: &usize| {
        drift.nodes[*node].pattern.as_ref().is_some_and(|(kind, _)| NORMS.contains(&kind.as_str()))
    };
    let large = (0..drift.nodes.len()).filter(|node| is_norm(node) && drift.nodes[*node].leaves_range());
    let kept = whole(&large.collect());
    let mut sets = vec![(forced.clone(), NOTHING.to_owned())];
    sets.push((range.clone(), "what leaves FP16's range".to_owned()));
    let mut patterns = range;
    for name in TRIED {
        let is_of = |i: &usize| drift.nodes[*i].pattern.as_ref().is_some_and(|(kind, _)| kind == name);
        let more: Nodes = (0..drift.nodes.len()).filter(is_of).collect();
        if !more.is_empty() {
            patterns.extend(whole(&more));
            sets.push((patterns.clone(), format!("{name} too")));
        }
    }
    sets.push(((0..drift.nodes.len()).filter(is_open).collect(), "everything".to_owned()));
    for (set, why) in sets {
        match search.ask(&set, &why)? {
            Some(true) => {
                let (set, is_cut_short) =
                    search.shrink(set, if why == NOTHING { forced } else { &kept }, &units)?;
                return Ok(Found { set: Some(set), is_cut_short });
            }
            Some(false) => {}
            None => return Ok(Found { set: None, is_cut_short: true }),
        }
    }
    Ok(Found { set: None, is_cut_short: false })
}

impl<E> Search<'_, E> {
    /// Leaves out what can be left out of a set that passes, but for what is kept.
    fn shrink(
        &mut self,
        set: Nodes,
        kept: &Nodes,
        units: &BTreeMap<usize, Nodes>,
    ) -> Result<(Nodes, bool), E> {
        let mut parts: Vec<Nodes> = Vec::new();
        for node in set.difference(kept) {
            if parts.iter().all(|part| !part.contains(node)) {
                parts.push(units[node].intersection(&set).filter(|n| !kept.contains(n)).copied().collect());
            }
        }
        let joined = |parts: &[&Nodes]| -> Nodes {
            parts.iter().flat_map(|part| part.iter().copied()).chain(kept.iter().copied()).collect()
        };
        match self.ask(kept, "what must be")? {
            Some(true) => return Ok((kept.clone(), false)),
            Some(false) => {}
            None => return Ok((set, true)),
        }
        let mut chunks = 2usize;
        while parts.len() > 1 {
            let size = parts.len().div_ceil(chunks.min(parts.len()));
            let count = parts.len().div_ceil(size);
            let mut smaller = None;
            for i in 0..count {
                let is_in = |k: &usize| (i * size..(i + 1) * size).contains(k);
                let alone: Vec<&Nodes> = (0..parts.len()).filter(is_in).map(|k| &parts[k]).collect();
                let rest: Vec<&Nodes> = (0..parts.len()).filter(|k| !is_in(k)).map(|k| &parts[k]).collect();
                for (some, chunks) in [(alone, 2), (rest, chunks.saturating_sub(1).max(2))] {
                    if some.is_empty() || some.len() == parts.len() {
                        continue;
                    }
                    match self.ask(&joined(&some), "a part of it")? {
                        None => return Ok((joined(&parts.iter().collect::<Vec<_>>()), true)),
                        Some(true) => smaller = Some((some.into_iter().cloned().collect(), chunks)),
                        Some(false) => {}
                    }
                    if smaller.is_some() {
                        break;
                    }
                }
                if smaller.is_some() {
                    break;
                }
            }
            match smaller {
                Some((left, next)) => (parts, chunks) = (left, next),
                None if size == 1 => break,
                None => chunks = (chunks * 2).min(parts.len()),
            }
        }
        Ok((joined(&parts.iter().collect::<Vec<_>>()), false))
    }
}

/// What goes with each node.
fn units(drift: &Drift) -> BTreeMap<usize, Nodes> {
    let mut instances: BTreeMap<&(String, String), Nodes> = BTreeMap::new();
    let unit_of = |i: usize| {
        let pattern = drift.nodes[i].pattern.as_ref();
        pattern.filter(|(kind, _)| TOGETHER.contains(&kind.as_str()))
    };
    for i in 0..drift.nodes.len() {
        if let Some(instance) = unit_of(i) {
            instances.entry(instance).or_default().insert(i);
        }
    }
    (0..drift.nodes.len())
        .map(|i| (i, unit_of(i).map_or_else(|| Nodes::from([i]), |instance| instances[instance].clone())))
        .collect()
}

/// Nodes that make what does not fit into FP16, and those that read it: an FP16 reader would read infinity.
fn out_of_range(drift: &Drift) -> Nodes {
    let large: Vec<bool> = drift.nodes.iter().map(super::drift::NodeDrift::leaves_range).collect();
    let reads_large =
        |i: &usize| drift.nodes[*i].is_half() && drift.nodes[*i].reads.iter().any(|r| large[*r]);
    (0..large.len()).filter(|i| large[*i] || reads_large(i)).collect()
}

/// The instances of a pattern, by name.
fn instances<'d>(drift: &'d Drift, kind: &str) -> BTreeMap<&'d String, Nodes> {
    let mut found: BTreeMap<&String, Nodes> = BTreeMap::new();
    for (i, node) in drift.nodes.iter().enumerate() {
        if let Some((_, instance)) = node.pattern.as_ref().filter(|(of, _)| of == kind) {
            found.entry(instance).or_default().insert(i);
        }
    }
    found
}

/// A selector of nodes: the fewest words that select exactly these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All instances of a pattern.
    Pattern {
        /// Its name.
        pattern: String,
        /// How many instances.
        instances: u64,
    },
    /// Some of its instances.
    Instances {
        /// Its name.
        pattern: String,
        /// The path that the names of each instance's nodes share, and those of no other instance.
        paths: Vec<String>,
    },
    /// Nodes by name, in order.
    Nodes(Vec<String>),
}

/// The selectors that select exactly this set.
#[must_use]
pub fn selections(drift: &Drift, set: &Nodes) -> Vec<Selection> {
    let mut found = Vec::new();
    let mut rest = set.clone();
    for kind in TOGETHER {
        let is_of = |i: &usize| drift.nodes[*i].pattern.as_ref().is_some_and(|(of, _)| of == kind);
        let all: Nodes = (0..drift.nodes.len()).filter(is_of).collect();
        if !all.is_empty() && all.is_subset(set) {
            let instances = instances(drift, kind).len() as u64;
            found.push(Selection::Pattern { pattern: kind.to_owned(), instances });
            rest = rest.difference(&all).copied().collect();
            continue;
        }
        let mut paths = Vec::new();
        for (instance, nodes) in instances(drift, kind) {
            let path = format!("{instance}/");
            let under: Nodes =
                all.iter().filter(|i| drift.nodes[**i].node.starts_with(&path)).copied().collect();
            if under == nodes && nodes.is_subset(&rest) {
                rest = rest.difference(&nodes).copied().collect();
                paths.push(instance.clone());
            }
        }
        if !paths.is_empty() {
            found.push(Selection::Instances { pattern: kind.to_owned(), paths });
        }
    }
    if !rest.is_empty() {
        let mut names: Vec<String> = rest.iter().map(|i| drift.nodes[*i].node.clone()).collect();
        names.dedup();
        found.push(Selection::Nodes(names));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::drift::{NodeDrift, Untapped, ValueDrift};
    use super::super::measured::Number;
    use super::*;
    use std::convert::Infallible;

    fn node(name: &str, pattern: Option<(&str, &str)>, absmax: f64, reads: &[usize]) -> NodeDrift {
        NodeDrift {
            node: name.to_owned(),
            op: "Mul".to_owned(),
            pattern: pattern.map(|(kind, name)| (kind.to_owned(), name.to_owned())),
            of: "fp16".to_owned(),
            reads: reads.to_vec(),
            macs: 0,
            values: vec![ValueDrift { absmax: Number(absmax), ..ValueDrift::default() }],
        }
    }

    /// Sixteen plain nodes, of which two are needed; two norms after them, of which one leaves the range.
    fn model() -> Drift {
        let mut nodes: Vec<NodeDrift> = (0..16).map(|i| node(&format!("n{i}"), None, 1.0, &[])).collect();
        nodes.push(node("one/sub", Some(("layer-norm", "one")), 1.0, &[]));
        nodes.push(node("one/square", Some(("layer-norm", "one")), 1e5, &[16]));
        nodes.push(node("two/sub", Some(("layer-norm", "two")), 1.0, &[]));
        nodes.push(node("two/square", Some(("layer-norm", "two")), 10.0, &[18]));
        Drift { samples: Vec::new(), nodes, untapped: Untapped::default() }
    }

    /// Searches a model that passes if all of `needed` are FP32; gives the found set and the number of probes.
    fn search_for(needed: &[usize], budget: usize) -> (Found, usize) {
        let mut probes = 0;
        let mut probe = |set: &Nodes, _: &str| -> Result<Probe, Infallible> {
            probes += 1;
            Ok(if needed.iter().all(|n| set.contains(n)) { Probe::Passes } else { Probe::Fails })
        };
        let found = search(&model(), &Nodes::new(), budget, &mut probe).unwrap();
        (found, probes)
    }

    #[test]
    fn a_norm_that_leaves_the_range_is_found_at_once_and_whole() {
        let (found, probes) = search_for(&[17], 40);
        assert_eq!(found, Found { set: Some(Nodes::from([16, 17])), is_cut_short: false });
        assert_eq!(probes, 2);
        let selected = selections(&model(), &Nodes::from([16, 17]));
        let paths = vec!["one".to_owned()];
        assert_eq!(selected, [Selection::Instances { pattern: "layer-norm".into(), paths }]);
        let selected = selections(&model(), &Nodes::from([3, 17]));
        assert_eq!(selected, [Selection::Nodes(vec!["n3".into(), "one/square".into()])]);
    }

    #[test]
    fn a_norm_that_overflows_stays_although_the_samples_pass_without_it() {
        let (found, _) = search_for(&[19], 40);
        assert_eq!(found.set, Some((16..20).collect()));
    }

    #[test]
    fn patterns_come_before_everything() {
        let (found, probes) = search_for(&[16, 18], 40);
        assert_eq!(found.set, Some((16..20).collect()));
        assert!(probes <= 6, "{probes}");
        let selected = selections(&model(), &(16..20).collect());
        assert_eq!(selected, [Selection::Pattern { pattern: "layer-norm".into(), instances: 2 }]);
    }

    #[test]
    fn delta_debugging_finds_the_needed_nodes() {
        let (found, probes) = search_for(&[3, 12], 60);
        assert_eq!(found, Found { set: Some(Nodes::from([3, 12, 16, 17])), is_cut_short: false });
        assert!(probes < 50, "{probes}");
        let (found, probes) = search_for(&[3, 12], 8);
        assert!(found.is_cut_short && probes == 8);
        assert!(found.set.is_some_and(|set| set.contains(&3) && set.contains(&12)));
    }

    #[test]
    fn what_never_passes_is_said_and_what_passes_at_once_costs_one_probe() {
        let (found, probes) = search_for(&[99], 40);
        assert_eq!(found, Found { set: None, is_cut_short: false });
        assert_eq!(probes, 4);
        let (found, probes) = search_for(&[], 40);
        assert_eq!((found.set, probes), (Some(Nodes::new()), 1));
    }

    #[test]
    fn what_is_forced_stays_and_a_refused_set_is_not_taken() {
        let forced = Nodes::from([5]);
        let mut asked = Vec::new();
        let mut probe = |set: &Nodes, _: &str| -> Result<Probe, Infallible> {
            asked.push(set.clone());
            Ok(if set.len() < 4 { Probe::Refused } else { Probe::Passes })
        };
        let found = search(&model(), &forced, 60, &mut probe).unwrap();
        assert!(asked.iter().all(|set| set.contains(&5)));
        // The norm that overflows, the other one, and what is forced.
        assert_eq!(found.set, Some(Nodes::from([5, 16, 17, 18, 19])));
    }
}
